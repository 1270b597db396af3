// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend_test

import (
	"context"
	"errors"
	"log/slog"
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

// TestLegacy_ASubscriptionThatLapsedIsMadeAgain has a backend refuse one of two subscriptions when its session is opened anew. That it does
// is not the client's to know; but when it subscribes again, it is not told that it already has.
func TestLegacy_ASubscriptionThatLapsedIsMadeAgain(t *testing.T) {
	s := newScripted(t)
	s.capabilities = `{"tools":{},"resources":{"subscribe":true}}`
	for _, method := range []string{"tools/call", "resources/subscribe"} {
		s.answers[method] = func(request) string { return `{}` }
	}
	var refused sync.Once
	s.before = func(w http.ResponseWriter, r *http.Request, m request) (done bool) {
		if string(m.Params) == `{"uri":"x://a"}` && r.Header.Get("Mcp-Session-Id") == "session-2" {
			refused.Do(func() {
				failure(w, m, http.StatusOK, -32603, "null")
				done = true
			})
		}
		return done
	}
	c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	session := c.NewSession(relay.SessionOptions{})
	defer session.Close()
	ctx := deadline(t, 20*time.Second)
	subscribe := func() {
		t.Helper()
		for _, uri := range []string{"x://a", "x://b"} {
			if err := session.Subscribe(ctx, uri); err != nil {
				t.Fatal(err)
			}
		}
	}
	lose := func() {
		t.Helper()
		s.forget()
		answer, err := session.Exchange(ctx, message(t, relay.Legacy, "tools/call", `{"name":"a"}`), nil)
		result(t, answer, err)
	}
	subscribe()
	lose()
	subscribe() // of which the backend needs to hear x://a only
	subscribe() // of which it needs to hear nothing
	lose()
	var got []string
	s.mu.Lock()
	for _, r := range s.got {
		if r.Method == "resources/subscribe" {
			got = append(got, r.Header.Get("Mcp-Session-Id")+" "+string(r.Params))
		}
	}
	s.mu.Unlock()
	want := []string{
		`session-1 {"uri":"x://a"}`, `session-1 {"uri":"x://b"}`,
		`session-2 {"uri":"x://a"}`, `session-2 {"uri":"x://b"}`, `session-2 {"uri":"x://a"}`,
		`session-3 {"uri":"x://a"}`, `session-3 {"uri":"x://b"}`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestWatchResource_ThatLapsedIsMadeAgain has a backend refuse a subscription when the session that all share is opened anew, and once more
// when somebody else wants the same. Those who had it before hear of the gap when it is there again.
func TestWatchResource_ThatLapsedIsMadeAgain(t *testing.T) {
	s := newScripted(t)
	s.capabilities = `{"tools":{},"resources":{"subscribe":true}}`
	for _, method := range []string{"tools/call", "resources/subscribe", "resources/unsubscribe"} {
		s.answers[method] = func(request) string { return `{}` }
	}
	var refusals atomic.Int32
	s.before = func(w http.ResponseWriter, r *http.Request, m request) bool {
		if m.Method != "resources/subscribe" || r.Header.Get("Mcp-Session-Id") != "session-2" || refusals.Add(1) > 2 {
			return false
		}
		failure(w, m, http.StatusOK, -32603, "null")
		return true
	}
	c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	ctx := deadline(t, 20*time.Second)
	var told atomic.Int32
	watch := func(heard *atomic.Int32) error {
		return c.WatchResource(ctx, "x://a", func(rpc.Message) { heard.Add(1) })
	}
	if err := watch(&told); err != nil {
		t.Fatal(err)
	}
	s.forget()
	answer, err := c.Exchange(ctx, message(t, relay.Legacy, "tools/call", `{"name":"a"}`), nil)
	result(t, answer, err)
	eventually(t, "the first hears that it may have missed something", func() bool { return told.Load() == 1 })
	var refused, second, third atomic.Int32
	if err := watch(&refused); err == nil {
		t.Error("a subscription is said to be there that the backend refused twice")
	}
	for _, heard := range []*atomic.Int32{&second, &third} { // of which the backend needs to hear once
		if err := watch(heard); err != nil {
			t.Fatal(err)
		}
	}
	if told.Load() != 2 || refused.Load() != 0 {
		t.Errorf("the first heard %d times of a gap, and one who was refused %d times", told.Load(), refused.Load())
	}
	if n := s.count("resources/subscribe"); n != 4 {
		t.Errorf("%d subscriptions", n)
	}
}

// TestEra_ASubscriptionThatLapsedIsMadeAgain has a backend refuse the subscription when it has become one of the modern era.
func TestEra_ASubscriptionThatLapsedIsMadeAgain(t *testing.T) {
	old := newScripted(t)
	old.capabilities = `{"resources":{"subscribe":true}}`
	old.answers["resources/subscribe"] = func(request) string { return `{}` }
	var agrees, isModern atomic.Bool
	young := &modern{capabilities: old.capabilities, answer: only("subscriptions/listen", func(w http.ResponseWriter, r *http.Request, m request) {
		if !agrees.Load() {
			failure(w, m, http.StatusOK, -32603, "null")
			return
		}
		event(w, data(`{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":%s}`, m.Params))
		event(w, data(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"x://a/part"}}`))
		<-r.Context().Done()
	})}
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !isModern.Load() && r.Header.Get("Mcp-Protocol-Version") == "2026-07-28":
			http.NotFound(w, r)
		case !isModern.Load():
			old.ServeHTTP(w, r)
		case r.Header.Get("Mcp-Protocol-Version") == "2026-07-28":
			young.ServeHTTP(w, r)
		default:
			http.NotFound(w, r)
		}
	}))
	said := &warnings{}
	c := backend.NewClient(backend.Target{Key: docs, URL: url, Transport: v1alpha1.TransportStreamableHTTP},
		backend.Options{Logger: slog.New(said)})
	defer c.Close()
	var heard atomic.Bool
	session := c.NewSession(relay.SessionOptions{OnNotification: func(m rpc.Message) {
		if string(m.Params.Of(m.Raw)) == `{"uri":"x://a/part"}` {
			heard.Store(true)
		}
	}})
	defer session.Close()
	ctx := deadline(t, 20*time.Second)
	if err := session.Subscribe(ctx, "x://a"); err != nil {
		t.Fatal(err)
	}
	isModern.Store(true)
	eventually(t, "the subscription is lost", func() bool {
		_ = c.Probe(ctx)
		return slices.Contains(said.all(), "a subscription was lost when the backend changed the era")
	})
	agrees.Store(true)
	if err := session.Subscribe(ctx, "x://a"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the client hears of the resource", heard.Load)
}
