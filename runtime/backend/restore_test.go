// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
)

// callAtDebug calls a tool for a client that wants to hear the log messages of level debug.
func callAtDebug(ctx context.Context, t *testing.T, c *backend.Client, tool string) error {
	t.Helper()
	r := message(t, relay.Legacy, "tools/call", `{"name":"`+tool+`"}`)
	r.LogLevel = "debug"
	answer, err := c.Exchange(ctx, r, nil)
	answer.Done()
	return err
}

// TestLegacy_ASessionBecomesWholeWhoeverOpensIt has a call open the session that all share anew, and its client leave while the backend is
// told what others had set in the one before.
func TestLegacy_ASessionBecomesWholeWhoeverOpensIt(t *testing.T) {
	s := newScripted(t)
	s.capabilities = `{"tools":{},"logging":{},"resources":{"subscribe":true}}`
	for _, method := range []string{"tools/call", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"} {
		s.answers[method] = func(request) string { return `{}` }
	}
	reached, resume := make(chan struct{}), make(chan struct{})
	goOn := sync.OnceFunc(func() { close(resume) })
	defer goOn()
	s.before = func(_ http.ResponseWriter, r *http.Request, m request) bool {
		if m.Method == "logging/setLevel" && r.Header.Get("Mcp-Session-Id") == "session-2" {
			close(reached)
			<-resume
		}
		return false
	}
	c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	ctx := deadline(t, 20*time.Second)
	for _, uri := range []string{"x://a", "x://b"} {
		if err := c.WatchResource(ctx, uri, func(rpc.Message) {}); err != nil {
			t.Fatal(err)
		}
	}
	if err := callAtDebug(ctx, t, c, "a"); err != nil {
		t.Fatal(err)
	}
	s.forget()

	leaving, leave := context.WithCancel(ctx)
	defer leave()
	left := make(chan error, 1)
	go func() { left <- callAtDebug(leaving, t, c, "unanswered") }()
	<-reached
	leave()
	select {
	case err := <-left:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the client that left got %v", err)
		}
	case <-ctx.Done():
		t.Fatal("a client that leaves waits for the backend")
	}
	goOn()
	if err := callAtDebug(ctx, t, c, "a"); err != nil {
		t.Fatal(err)
	}

	var set []string
	s.mu.Lock()
	for _, r := range s.got {
		if r.Header.Get("Mcp-Session-Id") == "session-2" && slices.Contains([]string{"logging/setLevel", "resources/subscribe"}, r.Method) {
			set = append(set, r.Method+" "+string(r.Params))
		}
	}
	minted := s.minted
	s.mu.Unlock()
	want := []string{`logging/setLevel {"level":"debug"}`, `resources/subscribe {"uri":"x://a"}`, `resources/subscribe {"uri":"x://b"}`}
	if diff := cmp.Diff(want, set); diff != "" {
		t.Error(diff)
	}
	if minted != 2 {
		t.Errorf("%d sessions", minted)
	}
}

// TestLegacy_TheLogLevelIsSetWhoeverWantsIt has a client leave while the backend takes its time over a level that another call wants as well.
func TestLegacy_TheLogLevelIsSetWhoeverWantsIt(t *testing.T) {
	s := newScripted(t)
	s.capabilities = `{"tools":{},"logging":{}}`
	s.answers["tools/call"] = func(request) string { return `{}` }
	s.answers["logging/setLevel"] = func(request) string { return `{}` }
	reached := make(chan struct{})
	resume := make(chan struct{})
	goOn := sync.OnceFunc(func() { close(resume) })
	defer goOn()
	var outcome atomic.Value // of the request that sets the level
	s.before = func(_ http.ResponseWriter, r *http.Request, m request) bool {
		if m.Method == "tools/call" && strings.Contains(string(m.Params), "unanswered") {
			<-r.Context().Done() // it may be sent before its client is known to have left
			return true
		}
		if m.Method == "logging/setLevel" {
			close(reached)
			select {
			case <-resume:
				outcome.Store("heard")
			case <-r.Context().Done():
				outcome.Store("given up")
			}
		}
		return false
	}
	c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	ctx := deadline(t, 20*time.Second)
	leaving, leave := context.WithCancel(ctx)
	defer leave()
	left := make(chan error, 1)
	go func() { left <- callAtDebug(leaving, t, c, "unanswered") }()
	<-reached
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("the client that left got %v", err)
	}
	if err := callAtDebug(ctx, t, c, "a"); err != nil { // it does not wait for the level
		t.Fatal(err)
	}
	goOn()
	eventually(t, "the request that sets the level has ended", func() bool { return outcome.Load() != nil })
	if got := outcome.Load(); got != "heard" {
		t.Errorf("the level was %v", got)
	}
}
