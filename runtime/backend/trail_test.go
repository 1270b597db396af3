// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend_test

import (
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
)

// TestTrail_IsOnEveryRequest sees that a request goes on with the trail that it came with, in both eras and over both transports, and that
// what the gateway asks for itself has a trail as well.
func TestTrail_IsOnEveryRequest(t *testing.T) {
	const own, other = "aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"
	server := sdkServer()
	get := func(*http.Request) *mcp.Server { return server }
	for name, tc := range map[string]struct {
		handler   http.Handler
		transport v1alpha1.Transport
	}{
		"legacy":   {mcp.NewStreamableHTTPHandler(get, nil), v1alpha1.TransportStreamableHTTP},
		"modern":   {mcp.NewStreamableHTTPHandler(get, &mcp.StreamableHTTPOptions{Stateless: true}), v1alpha1.TransportStreamableHTTP},
		"HTTP+SSE": {mcp.NewSSEHandler(get, nil), v1alpha1.TransportSSE},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var seen []string
			url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				seen = append(seen, r.Header.Get(backend.HeaderTrail))
				mu.Unlock()
				tc.handler.ServeHTTP(w, r)
			}))
			c := backend.NewClient(backend.Target{Key: docs, URL: url, Transport: tc.transport}, backend.Options{GatewayID: own})
			defer c.Close()
			ctx := deadline(t, 10*time.Second)
			if _, err := c.Inventory(ctx); err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			if odd := slices.DeleteFunc(seen, func(trail string) bool { return trail == own }); len(odd) > 0 {
				t.Errorf("the gateway's own requests went with %q", odd)
			}
			seen = nil
			mu.Unlock()
			session := c.NewSession(relay.SessionOptions{})
			defer session.Close()
			answer, err := session.Exchange(backend.WithTrail(ctx, backend.Trail{other}), message(t, relay.Legacy, "tools/call", `{"name":"alpha","arguments":{"x":1}}`), nil)
			result(t, answer, err)
			mu.Lock()
			defer mu.Unlock()
			if odd := slices.DeleteFunc(slices.Clone(seen), func(trail string) bool { return trail == other+", "+own }); len(odd) > 0 || len(seen) == 0 {
				t.Errorf("the client's request went with %q of %q", odd, seen)
			}
		})
	}
}
