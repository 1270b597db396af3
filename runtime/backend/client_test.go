// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
)

func ids(items []backend.Item) []string {
	var out []string
	for _, i := range items {
		out = append(out, i.ID)
	}
	return out
}

// TestIndependentServer talks to another implementation over each transport.
func TestIndependentServer(t *testing.T) {
	server := func(*http.Request) *mcp.Server { return sdkServer() }
	for name, tc := range map[string]struct {
		handler   http.Handler
		transport v1alpha1.Transport
		version   string
	}{
		"sessions":  {mcp.NewStreamableHTTPHandler(server, nil), v1alpha1.TransportStreamableHTTP, "2025-11-25"},
		"JSON only": {mcp.NewStreamableHTTPHandler(server, &mcp.StreamableHTTPOptions{JSONResponse: true}), v1alpha1.TransportStreamableHTTP, "2025-11-25"},
		"stateless": {mcp.NewStreamableHTTPHandler(server, &mcp.StreamableHTTPOptions{Stateless: true}), v1alpha1.TransportStreamableHTTP, "2026-07-28"},
		"stateless, JSON only": {
			mcp.NewStreamableHTTPHandler(server, &mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: true}), v1alpha1.TransportStreamableHTTP, "2026-07-28",
		},
		"SSE": {mcp.NewSSEHandler(server, nil), v1alpha1.TransportSSE, "2025-11-25"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t, serve(t, tc.handler)+"/mcp", tc.transport, backend.Limits{})
			ctx := deadline(t, 10*time.Second)
			for range 2 { // opens a session, pings
				if err := c.Probe(ctx); err != nil {
					t.Fatal(err)
				}
			}
			if got := c.ProtocolVersion(); got != tc.version {
				t.Errorf("agreed on %q", got)
			}
			inventory, err := c.Inventory(ctx)
			if err != nil {
				t.Fatal(err)
			}
			got := map[string][]string{
				"tools": ids(inventory.Tools), "prompts": ids(inventory.Prompts),
				"resources": ids(inventory.Resources), "templates": ids(inventory.Templates),
			}
			want := map[string][]string{
				"tools": {"alpha", "beta", "gamma"}, "prompts": {"greet"},
				"resources": {"file:///readme"}, "templates": {"db://{table}"},
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if raw := string(inventory.Tools[0].Raw); !strings.Contains(raw, `"allOf":[{"required":["x"]}]`) {
				t.Errorf("the schema lost something: %s", raw)
			}
			result, err := c.Call(ctx, "tools/call", json.RawMessage(`{"name":"beta","arguments":{"x":1}}`))
			if err != nil || !strings.Contains(string(result), `beta{\"x\":1}`) {
				t.Errorf("tools/call: %s, %v", result, err)
			}
			var rpc *backend.RPCError
			if _, err = c.Call(ctx, "prompts/get", json.RawMessage(`{"name":"nobody"}`)); !errors.As(err, &rpc) || rpc.Code != backend.CodeInvalidParams {
				t.Errorf("an unknown prompt gives %v", err)
			}
		})
	}
}

func TestHandshake(t *testing.T) {
	for _, version := range []string{"2025-11-25", "2025-06-18", "2025-03-26"} {
		t.Run(version, func(t *testing.T) {
			s := newScripted(t)
			s.version = version
			c := backend.NewClient(backend.Target{Key: docs, URL: s.URL, Transport: v1alpha1.TransportStreamableHTTP},
				backend.Options{Name: "team", Version: "v1"})
			defer c.Close()
			for range 2 {
				if err := c.Probe(deadline(t, 5*time.Second)); err != nil {
					t.Fatal(err)
				}
			}
			var params struct {
				ProtocolVersion string                         `json:"protocolVersion"`
				Capabilities    map[string]any                 `json:"capabilities"`
				ClientInfo      struct{ Name, Version string } `json:"clientInfo"`
			}
			if err := json.Unmarshal(s.last("initialize").Params, &params); err != nil {
				t.Fatal(err)
			}
			if params.ProtocolVersion != "2025-11-25" || len(params.Capabilities) != 0 || params.ClientInfo.Name != "team" {
				t.Errorf("initialize with %+v", params)
			}
			if s.count("initialize") != 1 || s.count("notifications/initialized") != 1 || s.count("ping") != 1 {
				t.Errorf("messages: %+v", s.got)
			}
			header := s.last("ping").Header
			if header.Get("Mcp-Protocol-Version") != version || header.Get("Mcp-Session-Id") != "session-1" {
				t.Errorf("ping with %v", header)
			}
			if c.ProtocolVersion() != version {
				t.Errorf("ProtocolVersion() = %q", c.ProtocolVersion())
			}
		})
	}
}

func TestProbeAcceptsAServerWithoutPing(t *testing.T) {
	s := newScripted(t)
	delete(s.answers, "ping")
	c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	for range 2 {
		if err := c.Probe(deadline(t, 5*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOneSessionForConcurrentFirstUses(t *testing.T) {
	s := newScripted(t)
	c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if err := c.Probe(deadline(t, 5*time.Second)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := s.count("initialize"); n != 1 {
		t.Errorf("%d sessions", n)
	}
}

func TestLostSessionIsReplaced(t *testing.T) {
	for name, lose := range map[string]func(*scripted){
		"404": func(s *scripted) { s.forget() },
		"400 of an older SDK": func(s *scripted) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.before = func(w http.ResponseWriter, r *http.Request, _ request) bool {
				if r.Header.Get("Mcp-Session-Id") != "session-1" {
					return false
				}
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(http.StatusBadRequest)
				fmt.Fprint(w, `{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: No valid session ID provided"},"id":null}`)
				return true
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScripted(t)
			s.answers["tools/call"] = func(request) string { return `{"content":[]}` }
			c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
			var announced atomic.Int32
			c.OnListChanged(func() { announced.Add(1) })
			ctx := deadline(t, 10*time.Second)
			if err := c.Probe(ctx); err != nil {
				t.Fatal(err)
			}
			lose(s)
			if result, err := c.Call(ctx, "tools/call", json.RawMessage(`{"name":"a"}`)); err != nil || string(result) != `{"content":[]}` {
				t.Fatalf("the call after the loss: %s, %v", result, err)
			}
			if got := s.last("tools/call").Header.Get("Mcp-Session-Id"); got != "session-2" {
				t.Errorf("it went out on %q", got)
			}
			if n := s.count("tools/call"); n != 2 {
				t.Errorf("it was sent %d times", n)
			}
			eventually(t, "a change was announced after the gap", func() bool { return announced.Load() == 1 })
		})
	}
}

func TestSessionThatIsAlwaysLost(t *testing.T) {
	s := newScripted(t)
	s.before = func(w http.ResponseWriter, _ *http.Request, message request) bool {
		if message.Method != "tools/call" {
			return false
		}
		w.WriteHeader(http.StatusNotFound)
		return true
	}
	c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	_, err := c.Call(deadline(t, 5*time.Second), "tools/call", json.RawMessage(`{}`))
	if fault := backend.Classify(docs, err); fault.Reason != v1alpha1.ReasonProtocolError {
		t.Errorf("%+v (%v)", fault, err)
	}
	if n := s.count("tools/call"); n != 3 {
		t.Errorf("the call was sent %d times", n)
	}
}

func TestCloseEndsTheSession(t *testing.T) {
	s := newScripted(t)
	s.changes = make(chan string)
	c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	if err := c.Probe(deadline(t, 5*time.Second)); err != nil {
		t.Fatal(err)
	}
	c.Close()
	c.Close()
	if diff := cmp.Diff([]string{"session-1"}, s.deleted); diff != "" {
		t.Error(diff)
	}
	if err := c.Probe(t.Context()); err == nil {
		t.Error("a closed client probes")
	}
}

func TestCloseDoesNotWaitForAHungBackend(t *testing.T) {
	s := newScripted(t)
	release := make(chan struct{})
	s.before = func(_ http.ResponseWriter, r *http.Request, _ request) bool {
		if r.Method == http.MethodDelete {
			<-release
		}
		return false
	}
	c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	if err := c.Probe(deadline(t, 5*time.Second)); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	c.Close()
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("Close took %v", took)
	}
	close(release)
}

// However many sessions there are, their ends together take no longer than one.
func TestCloseOfManySessionsDoesNotWaitForAHungBackend(t *testing.T) {
	s := newScripted(t)
	release := make(chan struct{})
	s.answers["tools/call"] = func(request) string { return `{}` }
	s.before = func(_ http.ResponseWriter, r *http.Request, _ request) bool {
		if r.Method == http.MethodDelete {
			<-release
		}
		return false
	}
	c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	ctx := deadline(t, 30*time.Second)
	for range 200 {
		answer, err := c.NewSession(relay.SessionOptions{}).Exchange(ctx, message(t, relay.Legacy, "tools/call", `{"name":"a"}`), nil)
		result(t, answer, err)
	}
	began := time.Now()
	c.Close()
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("Close took %v", took)
	}
	close(release)
}

func TestCancelledCallIsToldToTheBackend(t *testing.T) {
	s := newScripted(t)
	begun := make(chan struct{})
	release := make(chan struct{})
	s.answers["tools/call"] = func(request) string { close(begun); <-release; return `{}` }
	defer close(release)
	c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	ctx, cancel := context.WithCancel(deadline(t, 10*time.Second))
	go func() { <-begun; cancel() }()
	if _, err := c.Call(ctx, "tools/call", json.RawMessage(`{}`)); !errors.Is(err, context.Canceled) {
		t.Errorf("Call returned %v", err)
	}
	eventually(t, "the backend heard of it", func() bool { return s.count("notifications/cancelled") == 1 })
	var params struct {
		RequestID json.RawMessage `json:"requestId"`
	}
	if err := json.Unmarshal(s.last("notifications/cancelled").Params, &params); err != nil ||
		string(params.RequestID) != string(s.last("tools/call").ID) {
		t.Errorf("cancelled %s, the call was %s (%v)", params.RequestID, s.last("tools/call").ID, err)
	}
}

func TestRPCErrorKeepsItsData(t *testing.T) {
	s := newScripted(t)
	s.before = func(w http.ResponseWriter, _ *http.Request, message request) bool {
		if message.Method != "tools/call" {
			return false
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32042,"message":"consent","data":{"elicitations":[{"url":"https://x"}]}}}`, message.ID)
		return true
	}
	c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	_, err := c.Call(deadline(t, 5*time.Second), "tools/call", json.RawMessage(`{}`))
	var rpc *backend.RPCError
	if !errors.As(err, &rpc) || rpc.Code != -32042 || rpc.Message != "consent" || string(rpc.Data) != `{"elicitations":[{"url":"https://x"}]}` {
		t.Errorf("got %+v", err)
	}
}

// TestForeignResponsesOnTheStream has a server put responses to other requests before and after the right one.
func TestForeignResponsesOnTheStream(t *testing.T) {
	s := newScripted(t)
	s.before = func(w http.ResponseWriter, _ *http.Request, message request) bool {
		if message.Method != "tools/call" {
			return false
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for range 20 {
			fmt.Fprint(w, "data: {\"jsonrpc\":\"2.0\",\"id\":4711,\"result\":{\"wrong\":true}}\n\n")
		}
		fmt.Fprint(w, "event: message\r\ndata: {\"jsonrpc\":\"2.0\",\r\ndata: \"method\":\"notifications/progress\",\"params\":{}}\r\n\r\n")
		for range 20 {
			fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"right\":true}}\n\n", message.ID)
		}
		return true
	}
	c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	result, err := c.Call(deadline(t, 5*time.Second), "tools/call", json.RawMessage(`{}`))
	if err != nil || string(result) != `{"right":true}` {
		t.Errorf("got %s, %v", result, err)
	}
}

func TestRedirectWithinTheHost(t *testing.T) {
	s := newScripted(t)
	s.before = func(w http.ResponseWriter, r *http.Request, _ request) bool {
		if r.URL.Path != "/old" {
			return false
		}
		http.Redirect(w, r, "/new", http.StatusPermanentRedirect)
		return true
	}
	c := newClient(t, s.URL+"/old", v1alpha1.TransportStreamableHTTP, backend.Limits{})
	if err := c.Probe(deadline(t, 5*time.Second)); err != nil {
		t.Error(err)
	}
}

func TestServersRequestsAreAnswered(t *testing.T) {
	s := newScripted(t)
	var mu sync.Mutex
	var answers []string
	s.before = func(w http.ResponseWriter, r *http.Request, message request) bool {
		switch {
		case message.Method == "tools/call":
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "data: {\"jsonrpc\":\"2.0\",\"id\":\"p\",\"method\":\"ping\"}\n\n")
			_ = http.NewResponseController(w).Flush()
			ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
			defer cancel()
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for done := false; !done && ctx.Err() == nil; <-tick.C {
				mu.Lock()
				done = len(answers) > 0
				mu.Unlock()
			}
			fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{}}\n\n", message.ID)
			return true
		case r.Method == http.MethodPost && message.Method == "":
			mu.Lock()
			answers = append(answers, string(message.ID))
			mu.Unlock()
			w.WriteHeader(http.StatusAccepted)
			return true
		}
		return false
	}
	c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	if _, err := c.Call(deadline(t, 10*time.Second), "tools/call", json.RawMessage(`{}`)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{`"p"`}, answers); diff != "" {
		t.Error(diff)
	}
}
