// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
)

// called is the result of a call of tool a, or the error.
func called(ctx context.Context, t *testing.T, s relay.Session) string {
	t.Helper()
	answer, err := s.Exchange(ctx, message(t, relay.Legacy, "tools/call", `{"name":"a"}`), nil)
	if err != nil {
		return err.Error()
	}
	return result(t, answer, nil)
}

// twoServers are two behind one address that say who they are.
func twoServers(t *testing.T) (before, after *scripted, address *handover) {
	t.Helper()
	before, after = newScripted(t), newScripted(t)
	before.answers["tools/call"], after.answers["tools/call"] = func(request) string { return `"before"` }, func(request) string { return `"after"` }
	return before, after, newHandover(t, before)
}

// TestHandshake_AvoidsTheServerThatLeaves opens a session over a connection to a server that takes no more, as a pod does not that is about
// to end.
func TestHandshake_AvoidsTheServerThatLeaves(t *testing.T) {
	before, after, address := twoServers(t)
	// Two calls at a time leave two connections, so that closing the one of the refusal does not do.
	var both sync.WaitGroup
	both.Add(2)
	before.before = func(w http.ResponseWriter, _ *http.Request, m request) bool {
		switch {
		case m.Method == "tools/call":
			both.Done()
			both.Wait()
		case m.Method == "initialize" && address.now.Load() == after:
			w.Header().Set("Connection", "close")
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32603,"message":"shutting down"}}`, m.ID)
			return true
		}
		return false
	}
	c := newClient(t, address.url, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	ctx := deadline(t, 10*time.Second)
	first := c.NewSession(relay.SessionOptions{})
	defer first.Close()
	var calls sync.WaitGroup
	for range 2 {
		calls.Go(func() {
			if got := called(ctx, t, first); got != `"before"` {
				t.Errorf("a call was answered with %s", got)
			}
		})
	}
	calls.Wait()

	address.now.Store(after)
	for range 2 {
		s := c.NewSession(relay.SessionOptions{})
		t.Cleanup(s.Close)
		if got := called(ctx, t, s); got != `"after"` {
			t.Errorf("a call in a new session was answered with %s", got)
		}
	}
	if n := before.count("initialize"); n > 2 {
		t.Errorf("the server that leaves got %d times initialize", n)
	}
}

// TestHandshake_EndsWhereItDidNotBegin has the session unknown where its handshake is confirmed.
func TestHandshake_EndsWhereItDidNotBegin(t *testing.T) {
	for name, tc := range map[string]struct {
		losses int32
		works  bool
	}{
		"once":            {1, true},
		"again and again": {3, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScripted(t)
			s.answers["tools/call"] = func(request) string { return `"done"` }
			var confirmed atomic.Int32
			s.before = func(_ http.ResponseWriter, _ *http.Request, m request) bool {
				if m.Method == "notifications/initialized" && confirmed.Add(1) <= tc.losses {
					s.forget()
				}
				return false
			}
			session := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{}).NewSession(relay.SessionOptions{})
			defer session.Close()
			got := called(deadline(t, 10*time.Second), t, session)
			if want := min(tc.losses+1, 3); (got == `"done"`) != tc.works || s.count("initialize") != int(want) {
				t.Errorf("%s after %d times initialize", got, s.count("initialize"))
			}
		})
	}
}

// TestLegacy_LeavesWithItsStream: the stream is what learns first that the session is gone, and the call that comes next does not go back.
func TestLegacy_LeavesWithItsStream(t *testing.T) {
	before, after, address := twoServers(t)
	before.changes = make(chan string)
	streams := make(chan struct{}, 10) // that were asked for
	before.before = func(_ http.ResponseWriter, r *http.Request, _ request) bool {
		if r.Method == http.MethodGet {
			streams <- struct{}{}
		}
		return false
	}
	c := newClient(t, address.url, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	session := c.NewSession(relay.SessionOptions{OnNotification: func(rpc.Message) {}})
	defer session.Close()
	ctx := deadline(t, 10*time.Second)
	if got := called(ctx, t, session); got != `"before"` {
		t.Fatalf("the first call was answered with %s", got)
	}
	before.changes <- "notifications/tools/list_changed" // is taken once the stream is open
	<-streams
	address.now.Store(after)
	before.forget()
	before.changes <- "" // its end
	select {
	case <-streams:
	case <-ctx.Done():
		t.Fatal("the stream was not asked for again")
	}
	if got := called(ctx, t, session); got != `"after"` {
		t.Errorf("the call after that was answered with %s", got)
	}
	if n := before.count("initialize"); n != 1 {
		t.Errorf("the server before got %d times initialize", n)
	}
}

// TestHandshake_Ends has a server that answers part of the handshake and then nothing more.
func TestHandshake_Ends(t *testing.T) {
	silent := func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	unconfirmed := func(t *testing.T) string {
		s := newScripted(t)
		s.before = func(w http.ResponseWriter, r *http.Request, m request) bool {
			if m.Method != "notifications/initialized" {
				return false
			}
			<-r.Context().Done()
			return true
		}
		return s.URL
	}
	for name, tc := range map[string]struct {
		transport v1alpha1.Transport
		url       func(*testing.T) string
	}{
		"initialize is never confirmed": {v1alpha1.TransportStreamableHTTP, unconfirmed},
		"the stream has no head": {v1alpha1.TransportSSE, func(t *testing.T) string {
			return serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
		}},
		"the stream names no endpoint": {v1alpha1.TransportSSE, func(t *testing.T) string {
			return serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				silent(w, r)
			}))
		}},
	} {
		for how, limits := range map[string]backend.Limits{"by the limit": {Timeout: 200 * time.Millisecond}, "with the client": {}} {
			t.Run(name+", "+how, func(t *testing.T) {
				c := newClient(t, tc.url(t), tc.transport, limits)
				ended := make(chan error, 1)
				go func() {
					_, err := c.Exchange(context.Background(), message(t, relay.Legacy, "tools/call", `{"name":"a"}`), nil)
					ended <- err
				}()
				if limits.Timeout == 0 {
					c.Close()
				}
				select {
				case err := <-ended:
					if err == nil {
						t.Error("the call has succeeded")
					}
				case <-deadline(t, 10*time.Second).Done():
					t.Error("the call goes on")
				}
			})
		}
	}
}
