// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package runtime_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/config"
	"github.com/vmcp-dev/vmcp-operator/runtime/discovery"
	"github.com/vmcp-dev/vmcp-operator/runtime/status"
)

func standalone(d discovery.Discoverer, r status.Reporter) runtime.Options {
	return runtime.Options{
		Config:   config.Fixed(&configv1alpha1.RuntimeConfiguration{Group: "team", Generation: 7}),
		Discover: func(*configv1alpha1.RuntimeConfiguration) discovery.Discoverer { return d },
		Reporter: r,
	}
}

func TestRun_ServesWhatLives(t *testing.T) {
	alpha, beta := startMCPServer(t, "echo", "sum"), startMCPServer(t, "echo")
	reports := &recorder{}
	r := start(t, standalone(newDiscoverer(target("alpha", alpha.url()), target("beta", beta.url())), reports))

	reports.expectPhase(t, soon, v1alpha1.PhaseReady)
	session, changed := r.connect(t)
	all := []string{"alpha_echo", "alpha_sum", "beta_echo"}
	expectTools(t, session, soon, all...)
	if text, err := call(t, session, "beta_echo", "hello"); err != nil || text != "echo: hello" {
		t.Fatalf("beta_echo answered %q, %v", text, err)
	}

	beta.stop()
	reports.expectPhase(t, soon, v1alpha1.PhaseDegraded)
	eventually(t, soon, func() string {
		report, _ := reports.last()
		if v := report.Backends[1].Verdict; v.Status != v1alpha1.BackendUnavailable || v.Reason != v1alpha1.ReasonConnectionRefused {
			return "beta is " + string(v.Status) + " (" + v.Reason + ")"
		}
		return ""
	})
	expectTools(t, session, soon, "alpha_echo", "alpha_sum")
	select {
	case <-changed:
	case <-t.Context().Done():
		t.Fatal("the change of the tools was not announced")
	}
	if text, err := call(t, session, "alpha_echo", "still here"); err != nil || text != "echo: still here" {
		t.Fatalf("alpha_echo answered %q, %v", text, err)
	}
	if code, _ := r.get(t, "/readyz"); code != http.StatusOK {
		t.Errorf("/readyz is %d although only a backend is sick, want 200", code)
	}

	beta.start(t)
	reports.expectPhase(t, soon, v1alpha1.PhaseReady)
	expectTools(t, session, soon, all...)
	if text, err := call(t, session, "beta_echo", "again"); err != nil || text != "echo: again" {
		t.Fatalf("beta_echo answered %q, %v", text, err)
	}
	if got, want := reports.phases(), []v1alpha1.Phase{v1alpha1.PhaseReady, v1alpha1.PhaseDegraded, v1alpha1.PhaseReady}; !slices.Equal(got, want) {
		t.Errorf("phases were %v, want %v", got, want)
	}
}

func TestRun_FollowsTheListOfBackends(t *testing.T) {
	alpha, beta := startMCPServer(t, "echo"), startMCPServer(t, "sum")
	reports := &recorder{}
	d := newDiscoverer()
	r := start(t, standalone(d, reports))
	reports.expectPhase(t, soon, v1alpha1.PhaseDegraded)
	if report, _ := reports.last(); status.Summarize(report).Reason != v1alpha1.ReasonNoBackends || report.Generation != 7 {
		t.Fatalf("an empty group is reported as %+v of generation %d", status.Summarize(report), report.Generation)
	}

	session, _ := r.connect(t)
	d.set(target("alpha", alpha.url()))
	expectTools(t, session, soon, "alpha_echo")
	// Another address under the same name is another backend; the old one is served until the new one is judged.
	d.set(target("alpha", beta.url()))
	expectTools(t, session, soon, "alpha_sum")
	d.set()
	expectTools(t, session, soon)
	reports.expectPhase(t, soon, v1alpha1.PhaseDegraded) // what is served is reported a moment later
	if got, want := reports.phases(), []v1alpha1.Phase{v1alpha1.PhaseDegraded, v1alpha1.PhaseReady, v1alpha1.PhaseDegraded}; !slices.Equal(got, want) {
		t.Errorf("phases were %v, want %v: a backend that was just found must not show as one that is down", got, want)
	}
}

func TestRun_IsolatesWhatCannotBeServed(t *testing.T) {
	alpha := startMCPServer(t, "echo")
	web := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Second}
	notMCP := listenLoopback(t)
	go func() { _ = web.Serve(notMCP) }()
	t.Cleanup(func() { _ = web.Close() })
	refused := target("broken", "")
	refused.Refused = backend.Refusal{Reason: v1alpha1.ReasonInvalidSpec, Message: "spec: exactly one of workload, service and remote must be set"}

	reports := &recorder{}
	r := start(t, standalone(newDiscoverer(
		target("alpha", alpha.url()), refused, target("web", "http://"+notMCP.Addr().String()+"/mcp")), reports))
	reports.expectPhase(t, soon, v1alpha1.PhaseDegraded)
	report, _ := reports.last()
	for i, want := range []struct {
		status v1alpha1.BackendStatus
		reason string
	}{
		{v1alpha1.BackendReady, v1alpha1.ReasonProbeSucceeded},
		{v1alpha1.BackendUnavailable, v1alpha1.ReasonInvalidSpec},
		{v1alpha1.BackendUnavailable, v1alpha1.ReasonNotMCP},
	} {
		if v := report.Backends[i].Verdict; v.Status != want.status || v.Reason != want.reason {
			t.Errorf("%s is %s (%s: %s), want %s (%s)", report.Backends[i].Target.Name, v.Status, v.Reason, v.Message, want.status, want.reason)
		}
	}
	session, _ := r.connect(t)
	expectTools(t, session, soon, "alpha_echo")
	expectMetrics(t, r,
		`vmcp_backend_status{backend="alpha",kind="MCPBackend",status="ready"} 1`,
		`vmcp_backend_status{backend="web",kind="MCPBackend",status="unavailable"} 1`,
		`vmcp_catalog_entries{type="tool"} 1`)
}

func TestRun_ReadyOnceTheFirstCatalogIsComplete(t *testing.T) {
	d := &discoverer{lists: make(chan []backend.Target, 1)}
	r := start(t, standalone(d, &recorder{}))
	if code, _ := r.get(t, "/readyz"); code != http.StatusServiceUnavailable {
		t.Fatalf("/readyz is %d before the backends are known, want 503", code)
	}
	if code, _ := r.get(t, "/livez"); code != http.StatusOK {
		t.Fatalf("/livez is %d, want 200", code)
	}
	d.set(target("nobody", "http://127.0.0.1:1/mcp")) // tcpmux; nothing listens there
	eventually(t, soon, func() string {
		if code, body := r.get(t, "/readyz"); code != http.StatusOK {
			return "/readyz answers " + body
		}
		return ""
	})
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
}

func TestRun_FailsWithAUsedPort(t *testing.T) {
	used := listenLoopback(t)
	o := standalone(newDiscoverer(), &recorder{})
	o.Name, o.Listen, o.AdminListen, o.Logger = "test", "127.0.0.1:0", used.Addr().String(), discard
	err := runtime.Run(context.Background(), o)
	if err == nil || !strings.Contains(err.Error(), "listening for probes and metrics") {
		t.Errorf("error is %v, want one that says what could not listen", err)
	}
}

// A backend that is the gateway itself, by an address that it does not know as its own, is found out by the first request that comes
// back, and is not served.
func TestRun_NoticesThatItIsItsOwnBackend(t *testing.T) {
	alpha := startMCPServer(t, "echo")
	reports := &recorder{}
	d := newDiscoverer(target("alpha", alpha.url()))
	r := start(t, standalone(d, reports))
	reports.expectPhase(t, soon, v1alpha1.PhaseReady)

	d.set(target("alpha", alpha.url()), target("mirror", r.endpoint))
	eventually(t, soon, func() string {
		report, _ := reports.last()
		if len(report.Backends) != 2 {
			return "the new backend is not reported"
		}
		if v := report.Backends[1].Verdict; v.Status != v1alpha1.BackendUnavailable || !strings.Contains(v.Message, "came back to a gateway") {
			return "it is " + string(v.Status) + ": " + v.Message
		}
		return ""
	})
	session, _ := r.connect(t)
	expectTools(t, session, soon, "alpha_echo")
}
