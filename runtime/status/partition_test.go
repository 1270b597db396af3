// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package status_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	vmcpac "github.com/vmcp-dev/vmcp-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/kube/kubetest"
	"github.com/vmcp-dev/vmcp-operator/runtime/status"
)

// partition stands between a client and the API server, and lets everything through at first.
type partition struct {
	http.RoundTripper

	mu     sync.Mutex
	refuse func(*http.Request) bool
	cancel []context.CancelFunc // of the requests let through, streams that go on among them
}

var errPartition = errors.New("cut off")

func (p *partition) RoundTrip(r *http.Request) (*http.Response, error) {
	p.mu.Lock()
	if p.refuse != nil && p.refuse(r) {
		p.mu.Unlock()
		return nil, errPartition
	}
	ctx, cancel := context.WithCancel(r.Context())
	p.cancel = append(p.cancel, cancel)
	p.mu.Unlock()
	return p.RoundTripper.RoundTrip(r.WithContext(ctx))
}

// set refuses requests from now on, and ends those that are under way.
func (p *partition) set(refuse func(*http.Request) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = refuse
	for _, cancel := range p.cancel {
		cancel()
	}
	p.cancel = nil
}

// After an absence of the API server a watch comes back when its turn comes. What was written meanwhile is seen before that: a reporter
// that has nothing new to say would else leave the operator's Unknown where it is.
func TestKubeReporter_SeesWhatItMissedWhileCutOff(t *testing.T) {
	s := newServer(t)
	p := &partition{}
	config := rest.CopyConfig(s.config)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		p.RoundTripper = next
		return p
	})
	r := s.reporterWith(t, config, status.KubeReporterOptions{
		Identity: status.Identity{Reporter: "pod-1", Version: "v1"},
		Lease: status.LeasePolicy{
			Duration: 4 * time.Second, TakeAfter: 3 * time.Second, ReportWithin: 2 * time.Second, RenewInterval: time.Second, RetryInterval: 100 * time.Millisecond,
		},
	})
	r.Report(report(ready("a")))
	s.expectPhase(t, v1alpha1.PhaseReady)

	// The watch waits twice as long after each attempt: half a second, 1, 2, 4 and now 8.
	attempts, enough := 0, make(chan struct{})
	p.set(func(r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/virtualmcpservers") && r.URL.Query().Has("sendInitialEvents") {
			if attempts++; attempts == 5 {
				close(enough)
			}
		}
		return true
	})
	s.operatorTakesOver(t)
	select {
	case <-enough:
	case <-time.After(time.Minute):
		t.Fatal("the watch gave up")
	}
	p.set(nil)
	healed := time.Now()
	s.expectPhase(t, v1alpha1.PhaseReady)
	if took := time.Since(healed); took > 4*time.Second {
		t.Errorf("it reports again after %s, want it as soon as it holds its Lease again", took)
	}
	r.expectWrites(t, 2)
}

// operatorTakesOver applies what the operator says of the runtime's fields when nobody reports.
func (s *server) operatorTakesOver(t *testing.T) {
	t.Helper()
	_, err := kubetest.Clients(t, s.namespace, s.name).VirtualMCPServers.ApplyStatus(t.Context(),
		vmcpac.VirtualMCPServer(s.name, s.namespace).WithStatus(vmcpac.VirtualMCPServerStatus().WithPhase(v1alpha1.PhaseUnknown)),
		metav1.ApplyOptions{FieldManager: v1alpha1.OperatorFieldManager, Force: true})
	if err != nil {
		t.Fatal(err)
	}
}
