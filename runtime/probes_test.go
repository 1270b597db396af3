// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package runtime_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/auth"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/health"
)

// turnstile counts the probes and the calls that come to a server. While it is shut, probes wait and calls are cut.
type turnstile struct {
	mu           sync.Mutex
	open         chan struct{} // nil: nobody waits
	probing      int
	most, probes int
	calls        int
}

func (g *turnstile) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		var m struct{ Method string }
		_ = json.Unmarshal(body, &m) // other requests have none
		switch m.Method {
		case "ping", "server/discover":
			g.pass()
		case "tools/call":
			g.mu.Lock()
			g.calls++
			shut := g.open != nil
			g.mu.Unlock()
			if shut {
				panic(http.ErrAbortHandler)
			}
		}
		next.ServeHTTP(w, r)
	})
}

// pass lets a probe pass. It has passed before it is answered, so that the next one cannot be there already.
func (g *turnstile) pass() {
	g.mu.Lock()
	open := g.open
	g.probes++
	g.probing++
	g.most = max(g.most, g.probing)
	g.mu.Unlock()
	if open != nil {
		<-open
	}
	g.mu.Lock()
	g.probing--
	g.mu.Unlock()
}

func (g *turnstile) shut() (open func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	gate := make(chan struct{})
	g.open = gate
	return sync.OnceFunc(func() {
		g.mu.Lock()
		g.open = nil
		g.mu.Unlock()
		close(gate)
	})
}

func (g *turnstile) counts() (most, probes, calls int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.most, g.probes, g.calls
}

// TestRun_OneProbeAtATime has calls fail at a backend that leaves its probe unanswered. Each failure asks for a probe; there is one. Once the
// backend is given up no call gets to it, and the one probe decides when it is back.
func TestRun_OneProbeAtATime(t *testing.T) {
	g := &turnstile{}
	s := &mcpServer{address: "127.0.0.1:0", tools: []string{"echo"}, wrap: g.wrap}
	s.start(t)
	reports := &recorder{}
	o := standalone(newDiscoverer(target("alpha", s.url())), reports)
	o.Health = health.DefaultPolicy()
	o.Health.Interval, o.Health.RetryInterval, o.Health.NoAnswerAfter = 50*time.Millisecond, 50*time.Millisecond, time.Hour
	r := start(t, o)
	reports.expectPhase(t, soon, v1alpha1.PhaseReady)
	session, _ := r.connect(t)
	expectTools(t, session, soon, "alpha_echo")

	open := g.shut()
	t.Cleanup(open)
	eventually(t, soon, func() string {
		if text, err := call(t, session, "alpha_echo", "x"); err == nil {
			return "the call was answered: " + text
		}
		if report, _ := reports.last(); report.Backends[0].Verdict.Status != v1alpha1.BackendUnavailable {
			return fmt.Sprintf("the backend is %+v", report.Backends[0].Verdict)
		}
		return ""
	})
	expectTools(t, session, soon)
	_, probes, calls := g.counts()
	for range 20 {
		if text, err := call(t, session, "alpha_echo", "x"); err == nil {
			t.Fatalf("a backend that is given up answered %q", text)
		}
	}
	if most, nowProbes, nowCalls := g.counts(); most != 1 || nowProbes != probes || nowCalls != calls {
		t.Errorf("%d calls got to a backend that is given up; %d probes came while one waited, %d at a time", nowCalls-calls, nowProbes-probes, most)
	}

	open()
	reports.expectPhase(t, soon, v1alpha1.PhaseReady)
	expectTools(t, session, soon, "alpha_echo")
	if text, err := call(t, session, "alpha_echo", "again"); err != nil || text != "echo: again" {
		t.Errorf("it answered %q, %v", text, err)
	}
	if most, _, _ := g.counts(); most != 1 {
		t.Errorf("%d probes at a time", most)
	}
}

// TestRun_TriesNewCredentialsAtOnce has probes follow each other after an hour, but for new credentials: attached, wrong ones replaced, rotated.
func TestRun_TriesNewCredentialsAtOnce(t *testing.T) {
	locked, guard := startGuarded(t, "Bearer one", "echo")
	with := func(value string) backend.Target {
		b := target("locked", locked.url())
		b.Auth, b.Credential = auth.StrategyOf("token", headerInjection("token")), auth.NewCredential(value)
		return b
	}
	reports, d := &recorder{}, newDiscoverer(target("locked", locked.url()))
	o := standalone(d, reports)
	o.Health = health.DefaultPolicy()
	o.Health.Interval = time.Hour
	r := start(t, o)
	expect := func(want v1alpha1.BackendStatus) {
		t.Helper()
		eventually(t, soon, func() string {
			report, reported := reports.last()
			if !reported || len(report.Backends) != 1 || report.Backends[0].Verdict.Status != want {
				return fmt.Sprintf("want it %s: %+v", want, report.Backends)
			}
			return ""
		})
	}
	expect(v1alpha1.BackendUnauthenticated)
	d.set(with("Bearer one")) // attached
	expect(v1alpha1.BackendReady)
	session, _ := r.connect(t)
	expectTools(t, session, soon, "locked_echo")
	expectCall := func() {
		t.Helper()
		if text, err := call(t, session, "locked_echo", "x"); err != nil || text != "echo: x" {
			t.Fatalf("locked_echo answered %q, %v", text, err)
		}
	}
	expectCall()

	d.set(with("Bearer wrong"))
	expect(v1alpha1.BackendUnauthenticated)
	expectTools(t, session, soon)
	d.set(with("Bearer one")) // set right
	expect(v1alpha1.BackendReady)
	expectTools(t, session, soon, "locked_echo")
	expectCall()

	guard.accept("Bearer two") // rotated; nothing was refused before
	d.set(with("Bearer two"))
	eventually(t, soon, func() string {
		if guard.count("Bearer two") == 0 {
			return "the new credentials were not tried"
		}
		return ""
	})
	expectCall()
	expect(v1alpha1.BackendReady)
}
