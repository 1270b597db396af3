// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	mcpgo "github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
)

// talkative is a server of another implementation whose tool tells its progress a hundred times.
func talkative() *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "talkative", Version: "1"}, nil)
	s.AddTool(&mcp.Tool{Name: "talk", InputSchema: json.RawMessage(`{"type":"object"}`)},
		func(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			for i := range 100 {
				if err := r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{
					ProgressToken: r.Params.GetProgressToken(), Progress: float64(i + 1), Message: string(r.Params.Arguments),
				}); err != nil {
					return nil, err
				}
			}
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: string(r.Params.Arguments)}}}, nil
		})
	return s
}

// progress checks that the notifications of a call are its own, all of them, in order.
type progress struct {
	who  string
	next int
	err  error
}

func (p *progress) Notify(m rpc.Message) error {
	var params struct {
		Progress int
		Message  string
	}
	if err := json.Unmarshal(m.Params.Of(m.Raw), &params); err != nil {
		return err
	}
	p.next++
	if params.Progress != p.next || params.Message != p.who {
		p.err = fmt.Errorf("%s got number %d of %s, want %d", p.who, params.Progress, params.Message, p.next)
	}
	return nil
}

func (*progress) Ask(rpc.Message, func(rpc.Message)) error { return nil }

// TestParallelCallsGetTheirOwnProgress has 16 calls at once, in each era, in sessions with and without a stream besides the calls', and
// without a session.
func TestParallelCallsGetTheirOwnProgress(t *testing.T) {
	one := talkative()
	get := func(*http.Request) *mcp.Server { return one }
	listen := relay.SessionOptions{OnNotification: func(m rpc.Message) {
		if m.Method == "notifications/progress" {
			panic("progress that belongs to no call")
		}
	}}
	for name, tc := range map[string]struct {
		handler   http.Handler
		transport v1alpha1.Transport
		options   *relay.SessionOptions // nil means that there is no session
		era       relay.Era
	}{
		"legacy, with a stream":    {mcp.NewStreamableHTTPHandler(get, nil), v1alpha1.TransportStreamableHTTP, &listen, relay.Legacy},
		"legacy, without a stream": {mcp.NewStreamableHTTPHandler(get, nil), v1alpha1.TransportStreamableHTTP, &relay.SessionOptions{}, relay.Legacy},
		"legacy, no session":       {mcp.NewStreamableHTTPHandler(get, nil), v1alpha1.TransportStreamableHTTP, nil, relay.Modern},
		"modern":                   {mcp.NewStreamableHTTPHandler(get, &mcp.StreamableHTTPOptions{Stateless: true}), v1alpha1.TransportStreamableHTTP, nil, relay.Modern},
		"modern, a legacy client": {
			mcp.NewStreamableHTTPHandler(get, &mcp.StreamableHTTPOptions{Stateless: true}), v1alpha1.TransportStreamableHTTP, &listen, relay.Legacy,
		},
		"HTTP+SSE": {mcp.NewSSEHandler(get, nil), v1alpha1.TransportSSE, &listen, relay.Legacy},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t, serve(t, tc.handler), tc.transport, backend.Limits{})
			exchange := c.Exchange
			if tc.options != nil {
				session := c.NewSession(*tc.options)
				defer session.Close()
				exchange = session.Exchange
			}
			ctx := deadline(t, time.Minute)
			var wg sync.WaitGroup
			for i := range 16 {
				wg.Go(func() {
					sink := &progress{who: fmt.Sprintf(`{"who":%d}`, i)}
					// Clients choose their tokens without regard to each other.
					r := message(t, tc.era, "tools/call", `{"name":"talk","arguments":`+sink.who+`,"_meta":{"progressToken":"mine"}}`)
					answer, err := exchange(ctx, r, sink)
					if got := result(t, answer, err); !strings.Contains(got, fmt.Sprintf(`{\"who\":%d}`, i)) {
						t.Errorf("call %d got %s", i, got)
					}
					if sink.err != nil || sink.next != 100 {
						t.Errorf("call %d heard of %d steps: %v", i, sink.next, sink.err)
					}
				})
			}
			wg.Wait()
		})
	}
}

// TestMcpGoServers speaks to servers of a second implementation.
func TestMcpGoServers(t *testing.T) {
	s := server.NewMCPServer("second", "1", server.WithToolCapabilities(true))
	s.AddTool(mcpgo.NewTool("echo", mcpgo.WithString("text")), func(_ context.Context, r mcpgo.CallToolRequest) (*mcpgo.CallToolResult, error) {
		return mcpgo.NewToolResultText(r.GetString("text", "")), nil
	})
	for name, tc := range map[string]struct {
		handler   http.Handler
		transport v1alpha1.Transport
		path      string
		version   string
	}{
		"streamable HTTP": {server.NewStreamableHTTPServer(s), v1alpha1.TransportStreamableHTTP, "/mcp", "2026-07-28"},
		"HTTP+SSE":        {server.NewSSEServer(s), v1alpha1.TransportSSE, "/sse", "2025-11-25"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t, serve(t, tc.handler)+tc.path, tc.transport, backend.Limits{})
			ctx := deadline(t, 10*time.Second)
			for range 2 {
				if err := c.Probe(ctx); err != nil {
					t.Fatal(err)
				}
			}
			inventory, err := c.Inventory(ctx)
			if err != nil || len(inventory.Tools) != 1 || inventory.ProtocolVersion != tc.version {
				t.Fatalf("%+v, %v", inventory, err)
			}
			got, err := c.Call(ctx, "tools/call", json.RawMessage(`{"name":"echo","arguments":{"text":"hello"}}`))
			if err != nil || !strings.Contains(string(got), "hello") {
				t.Errorf("got %s, %v", got, err)
			}
		})
	}
}

// TestCallsLeaveNothingBehind counts goroutines before and after two thousand calls, half of which are answered on streams.
func TestCallsLeaveNothingBehind(t *testing.T) {
	for name, options := range map[string]*mcp.StreamableHTTPOptions{
		"legacy": nil, "legacy, JSON": {JSONResponse: true}, "modern": {Stateless: true}, "modern, JSON": {Stateless: true, JSONResponse: true},
	} {
		t.Run(name, func(t *testing.T) {
			one := sdkServer()
			c := newClient(t, serve(t, mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return one }, options)),
				v1alpha1.TransportStreamableHTTP, backend.Limits{})
			ctx := deadline(t, 2*time.Minute)
			calls := func(n int) {
				for range n {
					answer, err := c.Exchange(ctx, message(t, relay.Legacy, "tools/call", `{"name":"alpha","arguments":{"x":1}}`), nil)
					result(t, answer, err)
				}
			}
			calls(20)
			before := runtime.NumGoroutine()
			calls(500)
			eventually(t, "there are as few goroutines as before", func() bool { return runtime.NumGoroutine() <= before+5 })
		})
	}
}
