// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package runtime_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// counted is a configuration of clients that counts what they send.
func counted(api *rest.Config) (*rest.Config, *atomic.Int64) {
	requests := &atomic.Int64{}
	api = rest.CopyConfig(api)
	api.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			requests.Add(1)
			return next.RoundTrip(r)
		})
	})
	return api, requests
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestReplicas(t *testing.T) {
	alpha, beta := startMCPServer(t, "echo"), startMCPServer(t, "echo")
	o := provision(t, configv1alpha1.RuntimeConfiguration{Generation: 1, Group: "team"})
	o.createBackend(t, "alpha", "team", alpha)
	o.createBackend(t, "beta", "team", beta)
	api, ofFirst := counted(o.api)
	first := o.startPod(t, "pod-1", api)
	o.expectPhase(t, v1alpha1.PhaseReady)
	api, ofSecond := counted(o.api)
	second := o.startPod(t, "pod-2", api)
	session, _ := second.connect(t)
	expectTools(t, session, soon, "alpha_echo", "beta_echo")

	// Watches are renewed every five to ten minutes, which adds less than one request a minute to each.
	const window = 41 * time.Second
	first0, second0 := ofFirst.Load(), ofSecond.Load()
	<-time.After(window)
	n, m := ofFirst.Load()-first0, ofSecond.Load()-second0
	t.Logf("%d requests of the reporter and %d of the other replica within %s", n, m, window)
	if n < 1 || n > 3 {
		t.Errorf("the reporter sent %d requests within %s, want no more than the renewals of the Lease", n, window)
	}
	if m != 0 {
		t.Errorf("the other replica sent %d requests within %s, want none", m, window)
	}

	// The other replica probes every 30 s, and hears of what the reporter found.
	beta.stop()
	o.expectPhase(t, v1alpha1.PhaseDegraded)
	expectTools(t, session, 5*time.Second, "alpha_echo")
	beta.start(t)
	o.expectPhase(t, v1alpha1.PhaseReady)
	expectTools(t, session, 5*time.Second, "alpha_echo", "beta_echo")
	if code, _ := first.get(t, "/readyz"); code != http.StatusOK {
		t.Error("the reporter is not ready")
	}
}
