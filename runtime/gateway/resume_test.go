// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/catalog"
	"github.com/vmcp-dev/vmcp-operator/runtime/gateway"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
)

// TestEndOfASessionEndsItsCalls, and whoever still waits for one hears that the session is over.
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
	if got := <-done; got.response.StatusCode != http.StatusNotFound || !strings.Contains(got.body, `"id":1,"error":{"code":-32600,"message":"the session is unknown or has ended"`) {
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

// replaceable are backends that are replaced while they are in use.
type replaceable struct{ now atomic.Pointer[backends] }

func (r *replaceable) Upstream(key backend.Key) (relay.Upstream, bool) {
	return r.now.Load().Upstream(key)
}

func (*replaceable) Missed(backend.Key) {}

// TestSubscriptionsFollowTheBackend: one that is replaced is subscribed to anew, and since it may have changed meanwhile the client hears so.
func TestSubscriptionsFollowTheBackend(t *testing.T) {
	wiki := backend.Key{Kind: backend.KindMCPBackend, Name: "wiki"}
	const uri = "file:///readme"
	updated := `"method":"notifications/resources/updated","params":{`
	at := func(key backend.Key, title string) *catalog.Snapshot {
		return catalog.Build([]catalog.Member{{Key: key, Inventory: &backend.Inventory{Resources: items("uri", `{"uri":"`+uri+`","title":"`+title+`"}`)}}},
			v1alpha1.ConflictResolution{})
	}
	eras(t, func(t *testing.T, era string) {
		first, second, third := newWatched(), newWatched(), newWatched()
		serving := &replaceable{}
		serving.now.Store(&backends{docs: first})
		f := start(t, gateway.Options{Upstreams: serving})
		f.SetSnapshot(at(docs, ""))
		c := f.as(era, `{}`)
		var s *streaming
		if era == modern {
			s = c.stream(`"l"`, "subscriptions/listen", `"notifications":{"resourceSubscriptions":["`+uri+`"]}`, "")
			if e, _ := s.next(); !strings.Contains(e.data, uri) {
				t.Fatalf("acknowledged with %s", e.data)
			}
		} else {
			s = c.get("")
			if _, body := c.do("1", "resources/subscribe", `"uri":"`+uri+`"`, ""); !strings.Contains(body, `"result":{}`) {
				t.Fatal(body)
			}
		}
		expect := func(what string) {
			t.Helper()
			for {
				e, ok := s.next()
				if strings.Contains(e.data, "resources/list_changed") {
					continue
				}
				if !ok || !strings.Contains(e.data, updated) || !strings.Contains(e.data, uri) {
					t.Errorf("%s: heard %q", what, e.data)
				}
				return
			}
		}
		say := func(w *watched) {
			m := `{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"` + uri + `","own":1}}`
			if era == modern {
				w.update(uri, m)
			} else {
				opened := w.opened()
				opened[len(opened)-1].options.OnNotification(parsed(m))
			}
		}
		say(first)
		expect("the first backend's word")
		serving.now.Store(&backends{docs: second})
		f.SetSnapshot(at(docs, "new"))
		expect("the backend is replaced")
		say(second)
		expect("the second backend's word")
		serving.now.Store(&backends{docs: second, wiki: third})
		f.SetSnapshot(at(wiki, "moved"))
		expect("the resource moves")
		say(third)
		expect("the third backend's word")
		if era == modern && (!first.hasEnded(uri) || !second.hasEnded(uri)) {
			t.Error("the backends that were replaced are still watched")
		}
	})
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

// TestSubscriptions of the legacy era: updates come on the stream of the session, of what it subscribed to.
func TestSubscriptions(t *testing.T) {
	upstream := &fake{exchange: respond(`"result":{}`)}
	f := start(t, gateway.Options{Upstreams: only{upstream}})
	f.SetSnapshot(snapshot(backend.Inventory{Resources: items("uri", `{"uri":"file:///readme"}`, `{"uri":"file:///other"}`, `{"uri":"file:///refused"}`)}))
	c := f.as(legacy, `{}`)
	s := c.get("")
	step := func(method, uri, want string) {
		t.Helper()
		if _, body := c.do("1", method, `"uri":"`+uri+`"`, ""); !strings.Contains(body, want) {
			t.Errorf("%s %s: %s", method, uri, body)
		}
	}
	updated := func(uri string) string {
		return `{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"` + uri + `","own":1}}`
	}
	step("resources/subscribe", "file:///readme", `"result":{}`)
	step("resources/subscribe", "file:///readme", `"result":{}`)
	step("resources/subscribe", "file:///nowhere", `"code":-32002`)
	step("resources/subscribe", "file:///refused", `"error":{"code":-32602,"data":{"a":1},"message":"no"}`)
	backendSession := upstream.opened()[0]
	say := func(texts ...string) {
		for _, text := range texts {
			backendSession.options.OnNotification(parsed(text))
		}
	}
	last := `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error","data":1}}`
	say(updated("file:///other"), updated("file:///refused"), updated("file:///readme"),
		`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"debug","data":1}}`, last)
	for _, want := range []string{updated("file:///readme"), last} {
		if e, _ := s.next(); e.data != want {
			t.Errorf("heard %s, want %s", e.data, want)
		}
	}
	s.cancel()
	for range s.events {
	}
	e := c.get("")
	say(updated("file:///readme"))
	heard, _ := e.next()
	e.cancel()
	for range e.events {
	}
	say(updated("file:///readme"), last)
	again := c.get(heard.id)
	for _, want := range []string{updated("file:///readme"), last} {
		if e, _ := again.next(); e.data != want {
			t.Errorf("after it resumed it heard %s, want %s", e.data, want)
		}
	}
	step("resources/unsubscribe", "file:///readme", `"result":{}`)
	say(updated("file:///readme"), last)
	if e, _ := again.next(); e.data != last {
		t.Errorf("heard %s", e.data)
	}
	c.say(`{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`)
	want := []string{"subscribe file:///readme", "subscribe file:///readme", "unsubscribe file:///readme", "roots"}
	if got := backendSession.told(); !slices.Equal(got, want) {
		t.Errorf("the backend was told %q", got)
	}
	if len(upstream.opened()) != 1 {
		t.Errorf("%d sessions were opened", len(upstream.opened()))
	}
}

// TestBackendsAreListenedTo for a client that has a stream to hear of it, and for no other: it costs a connection to each backend.
func TestBackendsAreListenedTo(t *testing.T) {
	first, second := &fake{exchange: respond(`"result":{}`)}, &fake{exchange: respond(`"result":{}`)}
	serving := &replaceable{}
	serving.now.Store(&backends{docs: first})
	f := start(t, gateway.Options{Upstreams: serving})
	c := f.as(legacy, `{}`)
	call := func() { c.do("1", "tools/call", `"name":"docs_search"`, "") }
	call()
	if first.opened()[0].isListened() {
		t.Error("a backend is listened to though nobody hears it")
	}
	c.get("")
	eventually(t, "it is listened to once the client has a stream", first.opened()[0].isListened)
	serving.now.Store(&backends{docs: second})
	call()
	if !second.opened()[0].isListened() {
		t.Error("another backend is not listened to though the client has a stream")
	}
}

// TestSecondStream takes the first one's place: a client knows that a connection is dead long before the gateway does.
func TestSecondStream(t *testing.T) {
	f := start(t, gateway.Options{})
	c := f.as(legacy, `{}`)
	first := c.get("")
	second := c.get("")
	if got := first.rest(); len(got) > 0 {
		t.Errorf("the first one heard %q", got)
	}
	f.SetSnapshot(snapshot(backend.Inventory{}))
	for range 3 {
		if e, ok := second.next(); !ok || !strings.Contains(e.data, "list_changed") {
			t.Errorf("the second one heard %+v", e)
		}
	}
}

// TestChangesBeforeTheStreamOpens are announced when it does: the client may have read the lists before.
func TestChangesBeforeTheStreamOpens(t *testing.T) {
	f := start(t, gateway.Options{})
	before := f.as(legacy, `{}`)
	f.SetSnapshot(snapshot(backend.Inventory{Tools: items("name", `{"name":"search","inputSchema":{"type":"object"}}`)}))
	after := f.as(legacy, `{}`)
	s := before.get("")
	var heard []string
	for range 2 {
		e, _ := s.next()
		heard = append(heard, e.data)
	}
	slices.Sort(heard)
	want := []string{`{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}`, `{"jsonrpc":"2.0","method":"notifications/resources/list_changed"}`}
	if !slices.Equal(heard, want) {
		t.Errorf("heard %q", heard)
	}
	quiet := after.get("")
	f.SetSnapshot(snapshot(backend.Inventory{}))
	for _, s := range []*streaming{s, quiet} {
		if e, _ := s.next(); e.data != `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}` {
			t.Errorf("heard %s", e.data)
		}
	}
}
