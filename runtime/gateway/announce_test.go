// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/gateway"
)

// openStream is the answer to a request that stays open.
type openStream struct {
	*httptest.ResponseRecorder
	mu sync.Mutex
}

func (s *openStream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Body.Write(p)
}

func (*openStream) Flush() {}

// count says how often something stands in what came so far.
func (s *openStream) count(text string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Count(s.Body.Bytes(), []byte(text))
}

// TestChangesAreAnnouncedOnce: a burst of changes is one announcement to each open session and subscription, of either era, and only of
// the lists that changed. Changes that are apart are announced each.
func TestChangesAreAnnouncedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gateway.New(gateway.Options{Upstreams: only{}, UID: "uid", Name: "team", Version: "v1"})
		ctx, cancel := context.WithCancel(t.Context())
		var open sync.WaitGroup
		send := func(method, body string, headers ...string) *openStream {
			r := httptest.NewRequestWithContext(ctx, method, "http://localhost"+gateway.Path, strings.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Accept", "application/json, text/event-stream")
			for i := 0; i < len(headers); i += 2 {
				r.Header.Set(headers[i], headers[i+1])
			}
			s := &openStream{ResponseRecorder: httptest.NewRecorder()}
			open.Go(func() { g.Handler().ServeHTTP(s, r) })
			synctest.Wait()
			return s
		}
		session := send(http.MethodPost, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"`+legacy+
			`","capabilities":{},"clientInfo":{"name":"raw","version":"1"}}}`).Header().Get("Mcp-Session-Id")
		streams := map[string]*openStream{
			"legacy": send(http.MethodGet, "", "Mcp-Session-Id", session, "Mcp-Protocol-Version", legacy, "Accept", "text/event-stream"),
			"modern": send(http.MethodPost, `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true,`+
				`"promptsListChanged":true,"resourcesListChanged":true},"_meta":{"io.modelcontextprotocol/protocolVersion":"`+modern+
				`","io.modelcontextprotocol/clientCapabilities":{}}}}`, "Mcp-Protocol-Version", modern, "Mcp-Method", "subscriptions/listen"),
		}
		change := func(n int) {
			g.SetSnapshot(snapshot(backend.Inventory{Tools: items("name", fmt.Sprintf(`{"name":"t%d","inputSchema":{"type":"object"}}`, n))}))
		}
		expect := func(announced int) {
			t.Helper()
			time.Sleep(time.Second) // virtual time
			synctest.Wait()
			for era, s := range streams {
				if got, other := s.count("notifications/tools/list_changed"), s.count("prompts/list_changed")+s.count("resources/list_changed"); got != announced || other != 0 {
					t.Errorf("%s: tools were announced %d times, want %d; other lists %d times: %s", era, got, announced, other, s.Body)
				}
			}
		}
		expect(0)
		for n := range 20 {
			change(n)
		}
		expect(1)
		for n := range 3 {
			change(100 + n)
			expect(2 + n)
		}
		change(102) // nothing changed
		expect(4)
		cancel()
		open.Wait()
		if err := g.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
