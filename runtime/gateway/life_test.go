// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vmcp-dev/vmcp-operator/runtime/gateway"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
	"github.com/vmcp-dev/vmcp-operator/runtime/session"
)

// TestACallOutlivesItsSession: a call that is under way when its session ends by age gets its answer. It has been made: a client that was
// told that there is no such session would make it again in the next one. Nothing else is served, nobody is asked, and the session with the
// backend ends after the call.
func TestACallOutlivesItsSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ask, finish := make(chan struct{}), make(chan struct{})
		var asked string // what became of the question
		upstream := &fake{exchange: func(ctx context.Context, r *relay.Request, sink relay.Sink) (*relay.Answer, error) {
			for {
				select {
				case <-ask:
					_ = sink.Ask(parsed(`{"jsonrpc":"2.0","id":"q","method":"roots/list"}`), func(m rpc.Message) { asked = string(m.Raw) })
				case <-finish:
					return answeredIn(r.Era, `"result":{"content":[],"late":true}`)
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
		}}
		g := gateway.New(gateway.Options{Upstreams: only{upstream}, UID: "uid", Limits: gateway.Limits{Heartbeat: 24 * time.Hour}})
		g.SetSnapshot(standard())
		var open sync.WaitGroup
		send := func(method, body, session string) *openStream {
			r := httptest.NewRequestWithContext(t.Context(), method, "http://localhost"+gateway.Path, strings.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Accept", "application/json, text/event-stream")
			if session != "" {
				r.Header.Set("Mcp-Session-Id", session)
			}
			s := &openStream{ResponseRecorder: httptest.NewRecorder()}
			open.Go(func() { g.Handler().ServeHTTP(s, r) })
			synctest.Wait()
			return s
		}
		id := send(http.MethodPost, strings.Replace(initializeBody, `"capabilities":{}`, `"capabilities":{"roots":{}}`, 1), "").Header().Get("Mcp-Session-Id")
		send(http.MethodGet, "", id)
		call := send(http.MethodPost, callBody, id)
		at := upstream.opened()[0]

		time.Sleep(session.Life + 5*time.Minute) // of the bubble's clock
		synctest.Wait()
		if got := send(http.MethodPost, pingBody, id).Code; got != http.StatusNotFound {
			t.Errorf("a new request gets %d", got)
		}
		if call.count("error") != 0 || at.isClosed() {
			t.Fatalf("the call was cut: %s", call.Body)
		}
		ask <- struct{}{}
		synctest.Wait()
		if !strings.Contains(asked, `"error"`) {
			t.Errorf("a question whose answer would be refused gets %q", asked)
		}
		close(finish)
		open.Wait() // the stream of the session, too
		if call.Code != http.StatusOK || call.count(`"late":true`) != 1 {
			t.Errorf("the call gets %d %s", call.Code, call.Body)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if !at.isClosed() {
			t.Error("the session with the backend stays open")
		}
		if err := g.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
