// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
)

// handover is an address behind which another server takes over, as behind a Service: a connection stays with the one that it was made to.
type handover struct {
	url string
	now atomic.Pointer[scripted]
}

type servedBy struct{}

func newHandover(t *testing.T, first *scripted) *handover {
	t.Helper()
	h := &handover{}
	h.now.Store(first)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Context().Value(servedBy{}).(*scripted).ServeHTTP(w, r)
	}))
	s.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		return context.WithValue(ctx, servedBy{}, h.now.Load())
	}
	s.Start()
	t.Cleanup(s.Close)
	h.url = s.URL
	return h
}

// TestLegacy_MovesToTheServerThatTookOver has an idle connection to the server before when the one that took over does not know the session.
// Over that connection the next session would be opened where nobody is soon.
func TestLegacy_MovesToTheServerThatTookOver(t *testing.T) {
	before, after := newScripted(t), newScripted(t)
	address := newHandover(t, before)
	busy, finish, met, refuse := make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{})
	answers := func(by string) func(request) string { return func(request) string { return `"` + by + `"` } }
	before.answers["tools/call"], after.answers["tools/call"] = answers("before"), answers("after")
	var started, refused sync.Once
	before.before = func(_ http.ResponseWriter, r *http.Request, m request) bool {
		if m.Method == "tools/call" {
			started.Do(func() { close(busy) })
			await(r, finish)
		}
		return false
	}
	after.before = func(w http.ResponseWriter, r *http.Request, m request) bool {
		if m.Method == "tools/call" {
			refused.Do(func() {
				close(met)
				await(r, refuse)
				w.Header().Set("Connection", "close") // so that the one to the server before is the only one
			})
		}
		return false
	}
	c := newClient(t, address.url, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	session := c.NewSession(relay.SessionOptions{})
	defer session.Close()
	ctx := deadline(t, 10*time.Second)
	results := make(chan string, 2)
	call := func() {
		answer, err := session.Exchange(ctx, message(t, relay.Legacy, "tools/call", `{"name":"a"}`), nil)
		if err != nil {
			t.Error(err)
			results <- ""
			return
		}
		results <- result(t, answer, nil)
	}

	go call()
	<-busy // its connection is in use, the next call needs another
	address.now.Store(after)
	go call()
	<-met
	close(finish)
	if got := <-results; got != `"before"` {
		t.Errorf("the call under way was answered by %s", got)
	}
	close(refuse)
	if got := <-results; got != `"after"` {
		t.Errorf("the call after it was answered by %s", got)
	}
	if n, m := before.count("initialize"), after.count("initialize"); n != 1 || m != 1 {
		t.Errorf("%d sessions with the server before, %d with the one that took over", n, m)
	}
}

// TestLegacy_NeverGoesBack has a call under way at the server before when the session is lost. Its connection is free when the call has ended,
// and leads where the next session is unknown.
func TestLegacy_NeverGoesBack(t *testing.T) {
	before, after := newScripted(t), newScripted(t)
	address := newHandover(t, before)
	busy, finish := make(chan struct{}), make(chan struct{})
	before.answers["tools/call"], after.answers["tools/call"] = func(request) string { return `"before"` }, func(request) string { return `"after"` }
	var started sync.Once
	before.before = func(w http.ResponseWriter, r *http.Request, m request) bool {
		if m.Method != "tools/call" {
			w.Header().Set("Connection", "close") // so that the one of the call is the only one
			return false
		}
		started.Do(func() { close(busy) })
		await(r, finish)
		return false
	}
	c := newClient(t, address.url, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	ctx := deadline(t, 10*time.Second)
	call := func() (string, error) {
		answer, err := c.Exchange(ctx, message(t, relay.Legacy, "tools/call", `{"name":"a"}`), nil)
		if err != nil {
			return "", err
		}
		return result(t, answer, nil), nil
	}
	ended := make(chan string, 1)
	go func() {
		got, err := call()
		ended <- fmt.Sprint(got, err)
	}()
	<-busy
	address.now.Store(after)
	for i := range 3 {
		if got, err := call(); got != `"after"` {
			t.Errorf("call %d was answered by %s: %v", i, got, err)
		}
		if i == 0 {
			close(finish)
			if got := <-ended; got != `"before"<nil>` {
				t.Errorf("the call under way ended with %s", got)
			}
		}
	}
	if n, m := before.count("tools/call"), after.count("initialize"); n != 1 || m != 1 {
		t.Errorf("%d calls at the server before, %d sessions at the one that took over", n, m)
	}
}

// TestLegacy_MeetsBothServersInTurn has the session lost as often as it may be, and once more.
func TestLegacy_MeetsBothServersInTurn(t *testing.T) {
	for name, tc := range map[string]struct {
		losses int32
		works  bool
	}{
		"as often as two servers can": {2, true},
		"again and again":             {3, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScripted(t)
			s.answers["tools/call"] = func(request) string { return `{}` }
			var calls atomic.Int32
			s.before = func(_ http.ResponseWriter, _ *http.Request, m request) bool {
				if m.Method == "tools/call" && calls.Add(1) <= tc.losses {
					s.forget()
				}
				return false
			}
			c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
			answer, err := c.Exchange(deadline(t, 10*time.Second), message(t, relay.Legacy, "tools/call", `{"name":"a"}`), nil)
			answer.Done()
			if (err == nil) != tc.works || calls.Load() != 3 {
				t.Errorf("%v after %d calls", err, calls.Load())
			}
		})
	}
}
