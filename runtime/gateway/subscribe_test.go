// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
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
	say(updated("file:///other"), updated("file:///refused"), updated("file:///readme"), updated("file:///readme#part"),
		`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"debug","data":1}}`, last)
	for _, want := range []string{updated("file:///readme"), updated("file:///readme#part"), last} {
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

// replaceable are backends that are replaced while they are in use.
type replaceable struct{ now atomic.Pointer[backends] }

func (r *replaceable) Upstream(key backend.Key) (relay.Upstream, bool) {
	return r.now.Load().Upstream(key)
}

func (*replaceable) Missed(backend.Key) {}

// TestSubscriptionsFollowTheBackend: one that is replaced is subscribed to anew, and since it may have changed meanwhile the client hears so.
func TestSubscriptionsFollowTheBackend(t *testing.T) {
	wiki := backend.Key{Kind: v1alpha1.KindMCPBackend, Name: "wiki"}
	const uri = "file:///readme"
	updated := `"method":"notifications/resources/updated","params":{`
	at := func(key backend.Key, title string) *catalog.Snapshot {
		return catalog.Build([]catalog.Member{{Key: key, Inventory: &backend.Inventory{Resources: items("uri", `{"uri":"`+uri+`","title":"`+title+`"}`)}}},
			v1alpha1.Aggregation{})
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
