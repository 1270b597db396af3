// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/gateway"
)

const (
	initializeBody = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":` +
		`{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"raw","version":"1"}}}`
	pingBody = `{"jsonrpc":"2.0","id":1,"method":"ping"}`
	listBody = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
	callBody = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"docs_search"}}`
)

func TestSessions(t *testing.T) {
	f := start(t, gateway.Options{})
	first, second := f.initialize(), f.initialize()
	if first == second || len(first) < 22 {
		t.Errorf("session ids %q and %q", first, second)
	}
	status := func(method, body string, headers ...string) int {
		response, _ := f.do(method, gateway.Path, body, headers...)
		return response.StatusCode
	}
	for _, step := range []struct {
		what      string
		got, want int
	}{
		{"known", status(http.MethodPost, pingBody, "Mcp-Session-Id", first), 200},
		{"missing", status(http.MethodPost, pingBody), 400},
		{"unknown", status(http.MethodPost, pingBody, "Mcp-Session-Id", "mcp-session-01234567-89ab-4def-8123-456789abcdef"), 404},
		{"one that was cut", status(http.MethodPost, pingBody, "Mcp-Session-Id", first[1:]), 404},
		{"stream of an unknown one", status(http.MethodGet, "", "Mcp-Session-Id", "unknown"), 404},
		{"end of an unknown one", status(http.MethodDelete, "", "Mcp-Session-Id", "unknown"), 404},
		{"end", status(http.MethodDelete, "", "Mcp-Session-Id", first), 200},
		{"ended", status(http.MethodPost, pingBody, "Mcp-Session-Id", first), 404},
		{"ended twice", status(http.MethodDelete, "", "Mcp-Session-Id", first), 404},
		{"the other lives", status(http.MethodPost, pingBody, "Mcp-Session-Id", second), 200},
	} {
		if step.got != step.want {
			t.Errorf("%s: %d, want %d", step.what, step.got, step.want)
		}
	}
}

// open opens the stream of a session and returns its events; the channel is closed when the stream ends.
func (f *fixture) open(ctx context.Context, session string) <-chan string {
	f.t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, f.endpoint(), http.NoBody)
	if err != nil {
		f.t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Mcp-Session-Id", session)
	response, err := http.DefaultClient.Do(r) //nolint:bodyclose // the goroutine closes it
	if err != nil {
		f.t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK || response.Header.Get("X-Accel-Buffering") != "no" {
		f.t.Fatalf("opening the stream: %s, %v", response.Status, response.Header)
	}
	events := make(chan string, 100)
	go func() {
		defer close(events)
		defer response.Body.Close()
		lines := bufio.NewScanner(response.Body)
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok && data != "" {
				events <- data
			}
		}
	}()
	return events
}

func (f *fixture) next(events <-chan string) string {
	f.t.Helper()
	patience := time.NewTimer(10 * time.Second)
	defer patience.Stop()
	select {
	case event, ok := <-events:
		if !ok {
			return "end"
		}
		return event
	case <-patience.C:
		f.t.Fatal("nothing came on the stream")
		return ""
	}
}

func TestStreamEndsWithItsSession(t *testing.T) {
	f := start(t, gateway.Options{})
	session := f.initialize()
	events := f.open(t.Context(), session)
	f.SetSnapshot(snapshot(backend.Inventory{Tools: items("name", `{"name":"search","inputSchema":{"type":"object"}}`),
		Prompts: items("name", `{"name":"greet"}`)}))
	if got, want := f.next(events), `{"jsonrpc":"2.0","method":"notifications/resources/list_changed"}`; got != want {
		t.Errorf("heard %s, want %s", got, want)
	}
	if response, _ := f.do(http.MethodDelete, gateway.Path, "", "Mcp-Session-Id", session); response.StatusCode != http.StatusOK {
		t.Errorf("DELETE: %s", response.Status)
	}
	if got := f.next(events); got != "end" {
		t.Errorf("heard %s after the end", got)
	}
}

// TestHeartbeat: a quiet stream carries comments. A ping, which it carried when mcp-go served it, would want an answer from clients that
// have none for it.
func TestHeartbeat(t *testing.T) {
	f := start(t, gateway.Options{Limits: gateway.Limits{Heartbeat: 10 * time.Millisecond}})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.endpoint(), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Mcp-Session-Id", f.initialize())
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines, comments := bufio.NewScanner(response.Body), 0
	for comments < 3 && lines.Scan() {
		if strings.HasPrefix(lines.Text(), ":") {
			comments++
		}
	}
	if comments < 3 {
		t.Error("the stream ended")
	}
}

// TestSessionsAreForgottenNotEnded: what is remembered of a session goes when nobody uses it, with its sessions at backends; its id goes on
// working, which it did not when all of a session was in memory.
func TestSessionsAreForgottenNotEnded(t *testing.T) {
	const idle = 50 * time.Millisecond
	upstream := &fake{exchange: respond(`"result":{"content":[]}`)}
	f := start(t, gateway.Options{Upstreams: only{upstream}, Limits: gateway.Limits{SessionIdle: idle, Sessions: 2, Heartbeat: time.Hour}})
	call := func(session string) int {
		response, _ := f.do(http.MethodPost, gateway.Path, callBody, "Mcp-Session-Id", session)
		return response.StatusCode
	}
	streaming, quiet := f.initialize(), f.initialize()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events := f.open(ctx, streaming)
	if got := []int{call(streaming), call(quiet)}; got[0] != 200 || got[1] != 200 {
		t.Fatalf("the two get %v", got)
	}
	eventually(t, "the idle session was closed at the backend", func() bool { return upstream.opened()[1].isClosed() })
	if upstream.opened()[0].isClosed() {
		t.Error("so was the one with a stream")
	}
	if got := call(quiet); got != 200 || len(upstream.opened()) != 3 {
		t.Errorf("the idle session gets %d, and %d sessions were opened at the backend", got, len(upstream.opened()))
	}
	cancel()
	if got := f.next(events); got != "end" {
		t.Errorf("heard %s", got)
	}
}

func TestSessionLimit(t *testing.T) {
	f := start(t, gateway.Options{Limits: gateway.Limits{Sessions: 2}})
	call := func(session string) (int, string) {
		response, _ := f.do(http.MethodPost, gateway.Path, callBody, "Mcp-Session-Id", session)
		return response.StatusCode, response.Header.Get("Retry-After")
	}
	first, second, third := f.initialize(), f.initialize(), f.initialize()
	for _, id := range []string{first, second, first} {
		if status, _ := call(id); status != 200 {
			t.Fatalf("a session for which there is room gets %d", status)
		}
	}
	if status, after := call(third); status != 503 || after == "" {
		t.Errorf("the third of two gets %d, Retry-After %q", status, after)
	}
	f.do(http.MethodDelete, gateway.Path, "", "Mcp-Session-Id", first)
	if status, _ := call(third); status != 200 {
		t.Errorf("when one has ended it gets %d", status)
	}
}

// TestInitializedSessionsCostNothing: they are not in the table, of which the limit is one.
func TestInitializedSessionsCostNothing(t *testing.T) {
	f := start(t, gateway.Options{Limits: gateway.Limits{Sessions: 1}})
	sessions := map[string]bool{}
	for range 100 {
		sessions[f.initialize()] = true
	}
	if len(sessions) != 100 {
		t.Errorf("%d ids for 100 sessions", len(sessions))
	}
	for id := range sessions {
		if response, body := f.do(http.MethodPost, gateway.Path, listBody, "Mcp-Session-Id", id); response.StatusCode != http.StatusOK {
			t.Fatalf("%s %s", response.Status, body)
		}
	}
}
