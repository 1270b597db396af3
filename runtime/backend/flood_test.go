// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
)

// pinging is a server that sends pings in a call, and does not accept what it is answered before it is told to.
type pinging struct {
	*scripted
	accept chan struct{}
	open   atomic.Int32 // replies that wait
	most   atomic.Int32
	got    atomic.Int32 // replies that were accepted
}

// newPinging makes a server that sends n pings with ids of the size in a call of the tool flood, and does not answer that of the tool slow. It
// sends one small ping in any other call.
func newPinging(t *testing.T, n, size int) *pinging {
	t.Helper()
	s := &pinging{scripted: newScripted(t), accept: make(chan struct{})}
	id := strings.Repeat("x", size)
	s.before = func(w http.ResponseWriter, r *http.Request, m request) bool {
		switch {
		case m.Method == "tools/call" && strings.Contains(string(m.Params), "flood"):
			for i := range n {
				event(w, data(`{"jsonrpc":"2.0","id":"%s%d","method":"ping"}`, id, i))
			}
			event(w, data(`{"jsonrpc":"2.0","id":%s,"result":{}}`, m.ID))
		case m.Method == "tools/call" && strings.Contains(string(m.Params), "slow"):
			<-r.Context().Done()
		case m.Method == "tools/call":
			event(w, data(`{"jsonrpc":"2.0","id":"last","method":"ping"}`))
			event(w, data(`{"jsonrpc":"2.0","id":%s,"result":{}}`, m.ID))
		case r.Method == http.MethodPost && m.Method == "":
			open := s.open.Add(1)
			for most := s.most.Load(); open > most && !s.most.CompareAndSwap(most, open); most = s.most.Load() {
			}
			await(r, s.accept)
			s.open.Add(-1)
			s.got.Add(1)
			w.WriteHeader(http.StatusAccepted)
		default:
			return false
		}
		return true
	}
	return s
}

// A backend that asks and does not accept the replies gets only so many at a time; each of them arrives once it does. What clients say does not
// wait for them.
func TestLegacy_RepliesWait(t *testing.T) {
	const pings, atATime = 500, 64
	s := newPinging(t, pings, 1)
	c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	ctx := deadline(t, 20*time.Second)
	answer, err := c.Exchange(ctx, message(t, relay.Legacy, "tools/call", `{"name":"flood"}`), nil)
	result(t, answer, err)
	eventually(t, "replies are on their way", func() bool { return s.open.Load() >= atATime })
	if err := c.Probe(ctx); err != nil { // requests do not wait for them
		t.Error(err)
	}
	leaving, leave := context.WithCancel(ctx)
	left := make(chan error, 1)
	go func() {
		_, err := c.Exchange(leaving, message(t, relay.Legacy, "tools/call", `{"name":"slow"}`), nil)
		left <- err
	}()
	eventually(t, "another call is under way", func() bool { return s.count("tools/call") == 2 })
	leave()
	eventually(t, "the backend hears that its client left", func() bool { return s.count("notifications/cancelled") == 1 })
	if err := <-left; err == nil {
		t.Error("a call that its client left has an answer")
	}
	close(s.accept)
	eventually(t, "all replies arrive", func() bool { return s.got.Load() == pings })
	if most := s.most.Load(); most > atATime {
		t.Errorf("%d replies were on their way at a time", most)
	}
}

// What replies hold is bounded, too. The call that they are dropped in is answered.
func TestLegacy_RepliesAreBounded(t *testing.T) {
	const pings, held = 100, 70
	s := newPinging(t, pings, 256<<10) // 25 MiB, of which 16 are held
	said := &warnings{}
	c := backend.NewClient(backend.Target{Key: docs, URL: s.URL, Transport: v1alpha1.TransportStreamableHTTP},
		backend.Options{Logger: slog.New(said)})
	defer c.Close()
	ctx := deadline(t, 20*time.Second)
	call := func(name string) {
		t.Helper()
		answer, err := c.Exchange(ctx, message(t, relay.Legacy, "tools/call", fmt.Sprintf(`{"name":%q}`, name)), nil)
		result(t, answer, err)
	}
	call("flood")
	if said := said.all(); len(said) != 1 || !strings.Contains(said[0], "does not accept the replies") {
		t.Errorf("logged %q", said)
	}
	close(s.accept)
	eventually(t, "what was held is accepted", func() bool { return s.got.Load() > 0 && s.open.Load() == 0 })
	call("once")
	eventually(t, "replies arrive again", func() bool { return strings.Contains(s.last("").whole, `"id":"last"`) })
	if got := s.got.Load(); got > held {
		t.Errorf("%d replies of %d were held", got, pings)
	}
}

// warnings is a handler of logs that keeps what is at least a warning.
type warnings struct {
	mu   sync.Mutex
	said []string
}

func (*warnings) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }
func (w *warnings) WithAttrs([]slog.Attr) slog.Handler             { return w }
func (w *warnings) WithGroup(string) slog.Handler                  { return w }

func (w *warnings) Handle(_ context.Context, r slog.Record) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, r.Message)
	return nil
}

func (w *warnings) all() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.said...)
}

// reluctant is a client that is asked, and takes nothing before it is told to.
type reluctant struct {
	take  chan struct{}
	asked atomic.Int32
}

func (*reluctant) Notify(rpc.Message) error { return nil }

func (s *reluctant) Ask(rpc.Message, func(rpc.Message)) error {
	<-s.take
	s.asked.Add(1)
	return nil
}

// asks is how often the tests ask a reluctant client: of 4 MB a megabyte is kept, besides what it is busy with.
const (
	asks    = 40
	maxKept = 22
)

var rootsList = `{"jsonrpc":"2.0","id":"ask","method":"roots/list","params":{"_meta":{"long":"` + strings.Repeat("x", 100_000) + `"}}}`

// What a backend asks a slow client on the stream of no call is kept for it as far as there is room. The rest is refused.
func TestLegacy_WhatIsAskedIsBounded(t *testing.T) {
	s := newScripted(t)
	called, finish := make(chan struct{}), make(chan struct{})
	var refused atomic.Int32
	s.before = func(w http.ResponseWriter, r *http.Request, m request) bool {
		switch {
		case r.Method == http.MethodGet:
			event(w, ": open")
			await(r, called)
			for range asks {
				event(w, data("%s", rootsList))
			}
			<-r.Context().Done()
		case m.Method == "tools/call":
			close(called)
			await(r, finish)
			whole(w, m, `{}`)
		case r.Method == http.MethodPost && m.Method == "":
			if strings.Contains(m.whole, "-32603") {
				refused.Add(1)
			}
			w.WriteHeader(http.StatusAccepted)
		default:
			return false
		}
		return true
	}
	c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	session := c.NewSession(relay.SessionOptions{Capabilities: json.RawMessage(`{"roots":{}}`)})
	defer session.Close()
	sink := &reluctant{take: make(chan struct{})}
	ctx := deadline(t, 20*time.Second)
	var wg sync.WaitGroup
	wg.Go(func() {
		answer, err := session.Exchange(ctx, message(t, relay.Legacy, "tools/call", `{"name":"a"}`), sink)
		result(t, answer, err)
	})
	eventually(t, "what is too much is refused", func() bool { return refused.Load() >= asks-maxKept })
	close(sink.take)
	eventually(t, "the client is asked the rest", func() bool { return sink.asked.Load()+refused.Load() == asks })
	close(finish)
	wg.Wait()
}

// On the one stream of HTTP+SSE, the response of a call comes after all that its client was to be asked, and is not lost.
func TestSSE_WhatIsAskedIsBounded(t *testing.T) {
	s, url := newEventServer(t)
	s.replies = make(chan string, asks)
	c := newClient(t, url, v1alpha1.TransportSSE, backend.Limits{})
	session := c.NewSession(relay.SessionOptions{Capabilities: json.RawMessage(`{"roots":{}}`)})
	defer session.Close()
	sink := &reluctant{take: make(chan struct{})}
	ctx := deadline(t, 20*time.Second)
	var wg sync.WaitGroup
	wg.Go(func() {
		answer, err := session.Exchange(ctx, message(t, relay.Legacy, "tools/call", `{"name":"a"}`), sink)
		result(t, answer, err)
	})
	call := <-s.calls
	for range asks {
		s.say(rootsList)
	}
	s.answer(call)
	s.say(`{"jsonrpc":"2.0","id":"after it","method":"ping"}`)
	for read := false; !read; {
		select {
		case reply := <-s.replies:
			read = strings.Contains(reply, "after it")
		case <-ctx.Done():
			t.Fatal("a client that takes nothing holds up the stream")
		}
	}
	close(sink.take)
	wg.Wait()
	if n := sink.asked.Load(); n == 0 || n > maxKept {
		t.Errorf("the client was asked %d times", n)
	}
}
