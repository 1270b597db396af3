// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
)

func TestListChangedOfAnIndependentServer(t *testing.T) {
	for name, tc := range map[string]struct {
		handler   func(func(*http.Request) *mcp.Server) http.Handler
		transport v1alpha1.Transport
	}{
		"streamable HTTP": {
			func(f func(*http.Request) *mcp.Server) http.Handler { return mcp.NewStreamableHTTPHandler(f, nil) },
			v1alpha1.TransportStreamableHTTP,
		},
		"SSE": {
			func(f func(*http.Request) *mcp.Server) http.Handler { return mcp.NewSSEHandler(f, nil) },
			v1alpha1.TransportSSE,
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := sdkServer()
			c := newClient(t, serve(t, tc.handler(func(*http.Request) *mcp.Server { return server })), tc.transport, backend.Limits{})
			var announced atomic.Int32
			c.OnListChanged(func() { announced.Add(1) })
			if _, err := c.Inventory(deadline(t, 5*time.Second)); err != nil {
				t.Fatal(err)
			}
			server.RemoveTools("alpha")
			server.RemovePrompts("greet")
			eventually(t, "the change was announced", func() bool { return announced.Load() > 0 })
			inventory, err := c.Inventory(deadline(t, 5*time.Second))
			if err != nil || len(inventory.Tools) != 2 {
				t.Errorf("%+v, %v", inventory, err)
			}
		})
	}
}

func TestABurstIsAnnouncedOnce(t *testing.T) {
	s := newScripted(t)
	s.changes = make(chan string)
	c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	var announced, running atomic.Int32
	c.OnListChanged(func() {
		if running.Add(1) > 1 {
			t.Error("announcements overlap")
		}
		defer running.Add(-1)
		announced.Add(1)
	})
	if err := c.Probe(deadline(t, 5*time.Second)); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		s.changes <- "notifications/tools/list_changed"
	}
	s.changes <- "notifications/message" // no change; and once it is taken the ones before it have been sent
	eventually(t, "the burst was announced", func() bool { return announced.Load() > 0 })
	if n := announced.Load(); n > 2 {
		t.Errorf("a burst was announced %d times", n)
	}
}

func TestAnInterruptedStreamIsAChange(t *testing.T) {
	s := newScripted(t)
	s.changes = make(chan string)
	c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	var announced atomic.Int32
	c.OnListChanged(func() { announced.Add(1) })
	if err := c.Probe(deadline(t, 5*time.Second)); err != nil {
		t.Fatal(err)
	}
	s.changes <- ""                      // taken by the open stream, which ends
	s.changes <- "notifications/message" // taken by the next one
	eventually(t, "the gap was announced", func() bool { return announced.Load() == 1 })
	if n := s.count("initialize"); n != 1 {
		t.Errorf("the session was opened %d times", n)
	}
}

func TestALostSSEConnectionIsReplaced(t *testing.T) {
	server := sdkServer()
	handler := mcp.NewSSEHandler(func(*http.Request) *mcp.Server { return server }, nil)
	c := newClient(t, serve(t, handler), v1alpha1.TransportSSE, backend.Limits{})
	var announced atomic.Int32
	c.OnListChanged(func() { announced.Add(1) })
	ctx := deadline(t, 10*time.Second)
	if err := c.Probe(ctx); err != nil {
		t.Fatal(err)
	}
	for session := range server.Sessions() {
		_ = session.Close()
	}
	eventually(t, "the gap was announced", func() bool {
		_ = c.Probe(ctx) // the first one may still meet the lost connection
		return announced.Load() == 1
	})
	if err := c.Probe(ctx); err != nil {
		t.Error(err)
	}
}

// TestACallSurvivesTheEndOfItsStream has the server end a call's stream on purpose and answer on the resumed one (SEP-1699).
func TestACallSurvivesTheEndOfItsStream(t *testing.T) {
	server := mcp.NewServer(&mcp.Implementation{Name: "independent", Version: "1"}, nil)
	server.AddTool(&mcp.Tool{Name: "slow", InputSchema: json.RawMessage(`{"type":"object"}`)},
		func(_ context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			r.Extra.CloseSSEStream(mcp.CloseSSEStreamArgs{RetryAfter: 10 * time.Millisecond})
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "late"}}}, nil
		})
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server },
		&mcp.StreamableHTTPOptions{EventStore: mcp.NewMemoryEventStore(nil)})
	c := newClient(t, serve(t, handler), v1alpha1.TransportStreamableHTTP, backend.Limits{})
	result, err := c.Call(deadline(t, 10*time.Second), "tools/call", json.RawMessage(`{"name":"slow"}`))
	if err != nil || !strings.Contains(string(result), "late") {
		t.Errorf("got %s, %v", result, err)
	}
}

// TestAStreamThatTheServerThinksIsOpen has the server answer 409 to the second GET: it has not noticed that the first stream is gone.
func TestAStreamThatTheServerThinksIsOpen(t *testing.T) {
	s := newScripted(t)
	s.changes = make(chan string)
	var gets atomic.Int32
	s.before = func(w http.ResponseWriter, r *http.Request, _ request) bool {
		if r.Method != http.MethodGet || gets.Add(1) != 2 {
			return false
		}
		w.WriteHeader(http.StatusConflict)
		return true
	}
	c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	var announced atomic.Int32
	c.OnListChanged(func() { announced.Add(1) })
	ctx := deadline(t, 20*time.Second)
	if err := c.Probe(ctx); err != nil {
		t.Fatal(err)
	}
	for _, change := range []string{"", "notifications/message"} { // the first stream ends; the third GET gets one
		select {
		case s.changes <- change:
		case <-ctx.Done():
			t.Fatal("the stream was given up")
		}
	}
	eventually(t, "the gap was announced", func() bool { return announced.Load() == 1 })
	s.changes <- "notifications/tools/list_changed"
	eventually(t, "a change was announced", func() bool { return announced.Load() == 2 })
	if n := s.count("initialize"); n != 1 || gets.Load() != 3 {
		t.Errorf("%d sessions, %d streams asked for", n, gets.Load())
	}
}
