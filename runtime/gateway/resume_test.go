// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vmcp-dev/vmcp-operator/runtime/gateway"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
)

// TestEndOfASessionEndsItsCalls, and whoever still waits for one hears that the session is over; not with a status after which clients send
// the call again, as the backend has it.
func TestEndOfASessionEndsItsCalls(t *testing.T) {
	b := newStepwise()
	f := start(t, gateway.Options{Upstreams: exchanges(b.exchange)})
	c := f.as(legacy, `{}`)
	type result struct {
		response answered
		body     string
	}
	done := make(chan result)
	go func() {
		response, body := c.do("1", "tools/call", `"name":"docs_search"`, "")
		done <- result{response, body}
	}()
	b.steps <- 1
	if response, _ := f.do(http.MethodDelete, gateway.Path, "", "Mcp-Session-Id", c.session); response.StatusCode != http.StatusOK {
		t.Fatalf("DELETE: %s", response.Status)
	}
	if err := <-b.ended; err == nil {
		t.Error("the call went on")
	}
	if got := <-done; got.response.StatusCode != http.StatusOK || !strings.Contains(got.body, `"id":1,"error":{"code":-32603,"message":"the session has ended; whether`) {
		t.Errorf("the call gets %s %s", got.response.Status, got.body)
	}
}

// stepwise is a backend that says one progress for each step it is allowed, and answers at the end of steps, or at a negative one.
type stepwise struct {
	steps chan int
	ended chan error
}

func newStepwise() *stepwise { return &stepwise{steps: make(chan int), ended: make(chan error, 1)} }

func (s *stepwise) exchange(ctx context.Context, r *relay.Request, sink relay.Sink) (*relay.Answer, error) {
	for {
		select {
		case n, more := <-s.steps:
			if !more || n < 0 {
				if !more {
					s.ended <- nil
				}
				return answeredIn(r.Era, `"result":{"content":[]}`)
			}
			if err := sink.Notify(progress(n, "")); err != nil {
				s.ended <- err
				return nil, err
			}
		case <-ctx.Done():
			s.ended <- ctx.Err()
			return nil, ctx.Err()
		}
	}
}

// TestResumption: a client of the legacy era that loses the connection of a call gets what it missed, each message once.
func TestResumption(t *testing.T) {
	b := newStepwise()
	f := start(t, gateway.Options{Upstreams: exchanges(b.exchange)})
	c := f.as(legacy, `{}`)
	opened := make(chan *streaming)
	go func() { opened <- c.stream("1", "tools/call", `"name":"docs_search"`, `"progressToken":"p"`) }()
	b.steps <- 1
	s := <-opened
	primed := <-s.events
	if primed.data != "" || primed.id == "" {
		t.Fatalf("the first event is %+v, which primes nothing", primed)
	}
	first, _ := s.next()
	s.cancel()
	for range s.events { // until the connection is gone
	}
	b.steps <- 2
	b.steps <- 3
	resumed := c.get(first.id)
	second, _ := resumed.next()
	third, _ := resumed.next()
	b.steps <- 4
	fourth, _ := resumed.next()
	for i, e := range []sse{first, second, third, fourth} {
		if !strings.Contains(e.data, fmt.Sprintf(`"progress":%d,`, i+1)) || !strings.Contains(e.data, `"progressToken":"p"`) {
			t.Errorf("event %d is %s", i+1, e.data)
		}
	}
	resumed.cancel()
	for range resumed.events {
	}
	close(b.steps)
	if err := <-b.ended; err != nil {
		t.Fatalf("the call was cut: %v", err)
	}
	eventually(t, "the answer can be had", func() bool {
		rest := c.get(fourth.id).rest()
		return len(rest) == 1 && strings.HasPrefix(rest[0], `{"jsonrpc":"2.0","id":1,"result":`)
	})
	if all := c.get(primed.id).rest(); len(all) != 5 {
		t.Errorf("from the beginning there is %q", all)
	}
	for name, id := range map[string]string{"unknown": "abcdefghij-9-1", "malformed": "x", "without a number": first.id + "x"} {
		if s := c.get(id); s.status != http.StatusBadRequest {
			t.Errorf("%s: %d", name, s.status)
		}
	}
	if s := f.as(legacy, `{}`).get(first.id); s.status != http.StatusBadRequest {
		t.Errorf("another session resumes with %d", s.status)
	}
}

// lostStream begins a call, loses the connection after its first event and returns that event's id.
func (c *caller) lostStream(t *testing.T, b *stepwise) string {
	t.Helper()
	opened := make(chan *streaming)
	go func() { opened <- c.stream("1", "tools/call", `"name":"docs_search"`, `"progressToken":"p"`) }()
	b.steps <- 1
	s := <-opened
	first, _ := s.next()
	s.cancel()
	for range s.events { // until the connection is gone
	}
	return first.id
}

// TestStreamsAreKeptWithinBounds: of all that clients missed, and of the streams of one session.
func TestStreamsAreKeptWithinBounds(t *testing.T) {
	t.Run("bytes", func(t *testing.T) {
		b := newStepwise()
		f := start(t, gateway.Options{Upstreams: exchanges(b.exchange), Limits: gateway.Limits{KeptBytes: 1}})
		c := f.as(legacy, `{}`)
		first := c.lostStream(t, b)
		for n := range 5 {
			b.steps <- n + 2
		}
		close(b.steps)
		if err := <-b.ended; err != nil {
			t.Fatal(err)
		}
		eventually(t, "the answer can be had", func() bool {
			rest := c.get(first).rest()
			return len(rest) == 1 && strings.Contains(rest[0], `"result"`)
		})
	})
	t.Run("streams", func(t *testing.T) {
		var backends [3]*stepwise
		for i := range backends {
			backends[i] = newStepwise()
		}
		var calls atomic.Int32
		f := start(t, gateway.Options{Limits: gateway.Limits{SessionStreams: 1}, Upstreams: exchanges(
			func(ctx context.Context, r *relay.Request, sink relay.Sink) (*relay.Answer, error) {
				return backends[calls.Add(1)-1].exchange(ctx, r, sink)
			})})
		c := f.as(legacy, `{}`)
		first := c.lostStream(t, backends[0])
		if second := c.lostStream(t, backends[1]); first == "" || second != "" {
			t.Errorf("the events have ids %q and %q", first, second)
		}
		for _, b := range backends[:2] { // both go on
			b.steps <- 2
			close(b.steps)
			if err := <-b.ended; err != nil {
				t.Errorf("a call was cut: %v", err)
			}
		}
		eventually(t, "the answer of the one that is kept can be had", func() bool {
			rest := c.get(first).rest()
			return len(rest) == 2 && strings.Contains(rest[1], `"result"`)
		})
		if third := c.lostStream(t, backends[2]); third == "" {
			t.Error("a stream that has ended makes no room")
		}
		if s := c.get(first); s.status != http.StatusBadRequest {
			t.Errorf("one that made room is resumed with %d", s.status)
		}
		close(backends[2].steps)
	})
}

// TestPollingBackend: where a backend makes the gateway come back for the answer, the client can do the same.
func TestPollingBackend(t *testing.T) {
	release := make(chan struct{})
	f := start(t, gateway.Options{Upstreams: exchanges(func(ctx context.Context, r *relay.Request, sink relay.Sink) (*relay.Answer, error) {
		sink.(relay.Waiter).Wait()
		select {
		case <-release:
			return answeredIn(r.Era, `"result":{"content":[]}`)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})})
	c := f.as(legacy, `{}`)
	s := c.stream("1", "tools/call", `"name":"docs_search"`, "")
	primed := <-s.events
	s.cancel()
	for range s.events { // until the connection is gone
	}
	resumed := c.get(primed.id)
	close(release)
	if e, _ := resumed.next(); primed.data != "" || !strings.Contains(e.data, `"id":1,"result"`) {
		t.Errorf("primed with %+v, then heard %s", primed, e.data)
	}
	body, headers := c.request("2", "tools/call", `"name":"docs_search"`, "")
	response, answer := f.do(http.MethodPost, gateway.Path, body, append(headers, "Accept", "application/json")...)
	if response.Header.Get("Content-Type") != "application/json" || !strings.Contains(answer, `"id":2,"result"`) {
		t.Errorf("a client that takes no stream gets %v %s", response.Header, answer)
	}
}

// TestEndedSessionsGiveBack what was kept for them, also what calls say that end with them.
func TestEndedSessionsGiveBack(t *testing.T) {
	var now atomic.Pointer[stepwise]
	f := start(t, gateway.Options{Limits: gateway.Limits{KeptBytes: 1500}, Upstreams: exchanges(
		func(ctx context.Context, r *relay.Request, sink relay.Sink) (*relay.Answer, error) {
			return now.Load().exchange(ctx, r, sink)
		})})
	for range 20 {
		b := newStepwise()
		now.Store(b)
		c := f.as(legacy, `{}`)
		c.lostStream(t, b)
		b.steps <- 2
		f.do(http.MethodDelete, gateway.Path, "", "Mcp-Session-Id", c.session)
		if err := <-b.ended; err == nil {
			t.Fatal("the call went on")
		}
	}
	b := newStepwise()
	now.Store(b)
	c := f.as(legacy, `{}`)
	first := c.lostStream(t, b)
	for n := range 3 {
		b.steps <- n + 2
	}
	close(b.steps)
	<-b.ended
	eventually(t, "all that was missed can be had", func() bool { return len(c.get(first).rest()) == 4 })
}

// TestGoingAway: in the legacy era a client that disconnects has cancelled nothing, in the modern era it has.
func TestGoingAway(t *testing.T) {
	eras(t, func(t *testing.T, era string) {
		b := newStepwise()
		f := start(t, gateway.Options{Upstreams: exchanges(b.exchange)})
		c := f.as(era, `{}`)
		opened := make(chan *streaming)
		go func() { opened <- c.stream("1", "tools/call", `"name":"docs_search"`, `"progressToken":"p"`) }()
		b.steps <- 1
		s := <-opened
		if _, ok := s.next(); !ok {
			t.Fatal("no event")
		}
		s.cancel()
		for range s.events {
		}
		if era == modern {
			if err := <-b.ended; err == nil {
				t.Error("the call went on")
			}
			return
		}
		for n := range 5 {
			select {
			case b.steps <- n:
			case err := <-b.ended:
				t.Fatalf("the call ended: %v", err)
			}
		}
		close(b.steps)
		if err := <-b.ended; err != nil {
			t.Error(err)
		}
	})
}

func TestCancelled(t *testing.T) {
	for _, id := range []string{`7`, `"seven"`} {
		b := newStepwise()
		f := start(t, gateway.Options{Upstreams: exchanges(b.exchange)})
		c := f.as(legacy, `{}`)
		type result struct {
			response answered
			body     string
		}
		done := make(chan result)
		go func() {
			response, body := c.do(id, "tools/call", `"name":"docs_search"`, "")
			done <- result{response, body}
		}()
		b.steps <- 1
		f.as(legacy, `{}`).say(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":` + id + `}}`)
		c.say(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"other"}}`)
		b.steps <- 2
		if status := c.say(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":` + id + `}}`).StatusCode; status != http.StatusAccepted {
			t.Errorf("cancelling: %d", status)
		}
		if err := <-b.ended; err == nil {
			t.Error("the call was not cancelled")
		}
		if got := <-done; got.response.StatusCode != http.StatusAccepted || got.body != "" {
			t.Errorf("a request that was cancelled is answered: %s %s", got.response.Status, got.body)
		}
	}
}
