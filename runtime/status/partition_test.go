// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package status_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

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

// link forwards TCP connections to an address.
type link struct {
	listener net.Listener

	mu   sync.Mutex
	dead []*atomic.Bool // one for each connection so far
}

func newLink(t *testing.T, to string) *link {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{listener: listener}
	var connections sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		cancel()
		_ = listener.Close()
		connections.Wait()
	})
	connections.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := (&net.Dialer{}).DialContext(ctx, "tcp", to)
			if err != nil {
				_ = near.Close()
				continue
			}
			dead := &atomic.Bool{}
			l.mu.Lock()
			l.dead = append(l.dead, dead)
			l.mu.Unlock()
			context.AfterFunc(ctx, func() { _, _ = near.Close(), far.Close() })
			connections.Go(func() { carry(far, near, dead) })
			connections.Go(func() { carry(near, far, dead) })
		}
	})
	return l
}

// carry copies from one end to the other; from a dead connection it takes everything, and says nothing to anybody.
func carry(to, from net.Conn, dead *atomic.Bool) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if dead.Load() {
			if err != nil {
				return
			}
			continue
		}
		if _, writeErr := to.Write(buffer[:n]); err != nil || writeErr != nil {
			_ = to.Close()
			return
		}
	}
}

// lose has the connections that there are die without a word. New ones live.
func (l *link) lose() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, dead := range l.dead {
		dead.Store(true)
	}
}

// A connection whose other end is gone without a word, as when one of several API servers loses its power, is not used until the
// Lease has expired.
func TestKubeReporter_LeavesADeadConnection(t *testing.T) {
	s := newServer(t)
	server, err := url.Parse(s.config.Host)
	if err != nil {
		t.Fatal(err)
	}
	l := newLink(t, server.Host)
	config := rest.CopyConfig(s.config)
	config.Host, config.ServerName = "https://"+l.listener.Addr().String(), server.Hostname()
	policy := status.DefaultLeasePolicy()
	policy.RenewInterval = time.Second
	r := s.reporterWith(t, config, status.KubeReporterOptions{Identity: status.Identity{Reporter: "pod-1", Version: "v1"}, Lease: policy})
	r.Report(report(ready("a")))
	s.expectPhase(t, v1alpha1.PhaseReady)

	l.lose()
	s.expectRenewal(t, time.Now().Add(5*time.Second)) // by then none is under way from before
	r.Report(report(down("a")))
	s.expectPhase(t, v1alpha1.PhaseFailed)
}

// expectRenewal waits for a renewal of the Lease after a moment.
func (s *server) expectRenewal(t *testing.T, after time.Time) {
	t.Helper()
	kubetest.Eventually(t, func() string {
		lease := &coordinationv1.Lease{}
		if err := s.Get(t.Context(), client.ObjectKey{Namespace: s.namespace, Name: v1alpha1.OperandName(s.name)}, lease); err != nil {
			return err.Error()
		}
		if lease.Spec.RenewTime == nil || !lease.Spec.RenewTime.After(after) {
			return fmt.Sprintf("the last renewal was at %s", lease.Spec.RenewTime)
		}
		return ""
	})
}
