// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/gateway"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
)

func TestAnswersReachTheReplicaThatAsks(t *testing.T) {
	for _, method := range []string{"elicitation/create", "sampling/createMessage", "roots/list"} {
		t.Run(method, func(t *testing.T) {
			r := startReplicas(t, 3, shared(exchanges(asker(method))))
			c := r[0].as(legacy, `{"elicitation":{},"sampling":{},"roots":{}}`)
			for n := range 3 {
				s := c.stream("1", "tools/call", `"name":"docs_search"`, "")
				e, _ := s.next()
				m := parsed(e.data)
				id := string(m.ID.Of(m.Raw))
				text := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"n":%d}}`, id, n)
				if response := r[2].as(legacy, `{}`).say(text); response.StatusCode != http.StatusAccepted {
					t.Errorf("somebody else's answer: %s", response.Status)
				}
				if response := c.at(r[n]).say(text); response.StatusCode != http.StatusAccepted {
					t.Errorf("the answer at replica %d: %s", n, response.Status)
				}
				if got := s.rest(); len(got) != 1 || !strings.Contains(got[0], fmt.Sprintf(`"reply":{"n":%d}`, n)) {
					t.Errorf("the call answered at replica %d ends with %q", n, got)
				}
				if response := c.at(r[1]).say(text); response.StatusCode != http.StatusAccepted {
					t.Errorf("an answer that comes too late: %s", response.Status)
				}
			}
		})
	}
}

// TestBatchedAnswersReachTheReplicaThatAsks: revision 2025-03-26 has batches, whose answers can be for several replicas.
func TestBatchedAnswersReachTheReplicaThatAsks(t *testing.T) {
	r := startReplicas(t, 2, shared(exchanges(asker("roots/list"))))
	c := r[0].as("2025-03-26", `{"roots":{}}`)
	var calls []*streaming
	var answers []string
	for i := range r {
		s := c.at(r[i]).stream("1", "tools/call", `"name":"docs_search"`, "")
		e, _ := s.next()
		m := parsed(e.data)
		calls = append(calls, s)
		answers = append(answers, `{"jsonrpc":"2.0","id":`+string(m.ID.Of(m.Raw))+`,"result":{"roots":[]}}`)
	}
	if response := c.at(r[1]).say("[" + strings.Join(answers, ",") + "]"); response.StatusCode != http.StatusAccepted {
		t.Errorf("the batch: %s", response.Status)
	}
	for i, s := range calls {
		if got := s.rest(); len(got) != 1 || !strings.Contains(got[0], `"roots":[]`) {
			t.Errorf("the call at replica %d ends with %q", i, got)
		}
	}
}

func TestResumptionAtAnotherReplica(t *testing.T) {
	b := newStepwise()
	r := startReplicas(t, 2, shared(exchanges(b.exchange)))
	c := r[0].as(legacy, `{}`)
	last := c.lostStream(t, b)
	var heard []string
	for n := 2; n < 8; n += 2 { // the connection is lost again and again
		b.steps <- n
		s := c.at(r[1]).get(last)
		first, _ := s.next()
		b.steps <- n + 1
		second, _ := s.next()
		heard = append(heard, first.data, second.data)
		last = second.id
		s.cancel()
		for range s.events { // until the connection is gone
		}
	}
	for i, data := range heard {
		if !strings.Contains(data, fmt.Sprintf(`"progress":%d,`, i+2)) {
			t.Errorf("event %d is %s", i+2, data)
		}
	}
	close(b.steps)
	if err := <-b.ended; err != nil {
		t.Fatalf("the call was cut: %v", err)
	}
	eventually(t, "the answer can be had", func() bool {
		rest := c.at(r[1]).get(last).rest()
		return len(rest) == 1 && strings.HasPrefix(rest[0], `{"jsonrpc":"2.0","id":1,"result":`)
	})
	if got := r[0].as(legacy, `{}`).at(r[1]).get(last); got.status != http.StatusOK || !strings.Contains(strings.Join(got.rest(), ""), `"error"`) {
		t.Errorf("another session resumes it with %d", got.status)
	}
}

// TestResumptionOfTheSessionsStream is exact, too, and goes on at the replica that has it.
func TestResumptionOfTheSessionsStream(t *testing.T) {
	upstream := &fake{exchange: respond(`"result":{"content":[]}`)}
	r := startReplicas(t, 2, shared(only{upstream}))
	c := r[0].as(legacy, `{}`)
	s := c.get("")
	c.do("1", "tools/call", `"name":"docs_search"`, "")
	say := func(n int) {
		upstream.opened()[0].options.OnNotification(parsed(fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error","data":%d}}`, n)))
	}
	say(1)
	e, _ := s.next()
	s.cancel()
	for range s.events {
	}
	say(2)
	say(3)
	again := c.at(r[1]).get(e.id)
	say(4)
	for n := 2; n <= 4; n++ {
		if e, _ := again.next(); !strings.Contains(e.data, fmt.Sprintf(`"data":%d}`, n)) {
			t.Errorf("heard %s for %d", e.data, n)
		}
	}
}

func TestCancellationReachesTheCall(t *testing.T) {
	b := newStepwise()
	r := startReplicas(t, 3, shared(exchanges(b.exchange)))
	c := r[0].as(legacy, `{}`)
	done := make(chan []string)
	go func() { done <- c.stream(`"one"`, "tools/call", `"name":"docs_search"`, `"progressToken":1`).rest() }()
	b.steps <- 1
	if response := r[1].as(legacy, `{}`).at(r[1]).say(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"one"}}`); response.StatusCode != http.StatusAccepted {
		t.Errorf("somebody else's: %s", response.Status)
	}
	b.steps <- 2
	if response := c.at(r[2]).say(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"one"}}`); response.StatusCode != http.StatusAccepted {
		t.Errorf("cancelled: %s", response.Status)
	}
	if err := <-b.ended; err == nil {
		t.Error("the backend did not hear of it")
	}
	if got := <-done; len(got) != 2 {
		t.Errorf("the call heard %q", got)
	}
}

func TestRootsChangedReachesAllSessionsWithBackends(t *testing.T) {
	upstream := &fake{exchange: respond(`"result":{"content":[]}`)}
	r := startReplicas(t, 3, shared(only{upstream}))
	c := r[0].as(legacy, `{"roots":{"listChanged":true}}`)
	c.do("1", "tools/call", `"name":"docs_search"`, "")
	c.at(r[1]).do("2", "tools/call", `"name":"docs_search"`, "")
	c.at(r[2]).say(`{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`)
	for i, s := range upstream.opened() {
		if got := s.told(); !slices.Equal(got, []string{"roots"}) {
			t.Errorf("session %d was told %q", i, got)
		}
	}
}

// TestLogLevelIsTheSessions, whichever replica it was set at, before its calls elsewhere and between them.
func TestLogLevelIsTheSessions(t *testing.T) {
	upstream := &fake{exchange: func(_ context.Context, r *relay.Request, sink relay.Sink) (*relay.Answer, error) {
		for _, level := range []string{"debug", "error"} {
			if err := sink.Notify(parsed(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"` + level + `","data":1}}`)); err != nil {
				return nil, err
			}
		}
		return answeredIn(r.Era, `"result":{}`)
	}}
	r := startReplicas(t, 3, shared(only{upstream}))
	c := r[0].as(legacy, `{}`)
	hears := func(at *replica, want int) {
		t.Helper()
		if got := c.at(at).stream("1", "tools/call", `"name":"docs_search"`, "").rest(); len(got) != want+1 {
			t.Errorf("heard %q", got)
		}
	}
	set := func(at *replica, level string) {
		t.Helper()
		if _, body := c.at(at).do("1", "logging/setLevel", `"level":"`+level+`"`, ""); !strings.Contains(body, `"result":{}`) {
			t.Error(body)
		}
	}
	hears(r[1], 1)
	set(r[0], "debug")
	hears(r[1], 2) // which knew the session
	hears(r[2], 2) // which did not
	set(r[2], "emergency")
	hears(r[0], 0)
	hears(r[1], 0)
	want := [][]string{{"level debug", "level emergency"}, {"level debug", "level emergency"}, {"level emergency"}}
	for i, s := range upstream.opened() {
		if got := s.told(); !slices.Equal(got, want[i]) {
			t.Errorf("session %d was told %q", i, got)
		}
	}
}

// TestSubscriptionsAreTheSessions: updates come on its stream, wherever that is and whichever replica was asked for them.
func TestSubscriptionsAreTheSessions(t *testing.T) {
	upstreams := []*fake{{exchange: respond(`"result":{}`)}, {exchange: respond(`"result":{}`)}, {exchange: respond(`"result":{}`)}}
	r := startReplicas(t, 3, func(i int) gateway.Options { return gateway.Options{Upstreams: only{upstreams[i]}} })
	for _, one := range r {
		one.SetSnapshot(snapshot(backend.Inventory{Resources: items("uri", `{"uri":"file:///readme"}`, `{"uri":"file:///other"}`, `{"uri":"file:///refused"}`)}))
	}
	const update = `{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:///readme"}}`
	const last = `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error","data":1}}`
	c := r[0].as(legacy, `{}`)
	s := c.get("")
	subscribe := func(at *replica, method, uri, want string) {
		t.Helper()
		if _, body := c.at(at).do("1", method, `"uri":"`+uri+`"`, ""); !strings.Contains(body, want) {
			t.Error(body)
		}
	}
	subscribe(r[1], "resources/subscribe", "file:///refused", `"error"`)
	subscribe(r[1], "resources/subscribe", "file:///readme", `"result":{}`)
	// Each replica's session with the backend hears of the update.
	updated := func() {
		for _, u := range upstreams {
			for _, one := range u.opened() {
				if !one.isClosed() && slices.Contains(one.told(), "subscribe file:///readme") {
					one.options.OnNotification(parsed(update))
				}
			}
		}
	}
	if got := upstreams[0].opened(); len(got) != 1 || !slices.Equal(got[0].told(), []string{"subscribe file:///readme"}) {
		t.Fatalf("the backend of the replica with the stream has %d sessions", len(got))
	}
	updated()
	upstreams[0].opened()[0].options.OnNotification(parsed(last))
	for _, want := range []string{update, last} { // once
		if e, _ := s.next(); e.data != want {
			t.Errorf("heard %s, want %s", e.data, want)
		}
	}
	// Another replica takes the stream over, which has never heard of the session.
	moved := c.at(r[2]).get("")
	if got := s.rest(); len(got) > 0 {
		t.Errorf("the stream that was taken over heard %q", got)
	}
	if e, _ := moved.next(); e.data != update { // what happened meanwhile nobody knows
		t.Errorf("heard %s", e.data)
	}
	updated()
	if e, _ := moved.next(); e.data != update {
		t.Errorf("heard %s", e.data)
	}
	upstreams[0].opened()[0].options.OnNotification(parsed(last)) // what the first one hears goes there, too
	if e, _ := moved.next(); e.data != last {
		t.Errorf("heard %s", e.data)
	}
	subscribe(r[0], "resources/unsubscribe", "file:///readme", `"result":{}`)
	updated()
	upstreams[2].opened()[0].options.OnNotification(parsed(last))
	if e, _ := moved.next(); e.data != last {
		t.Errorf("after the end of the subscription it heard %s", e.data)
	}
}

// TestWhatABackendSaysOnTheSide comes on the session's stream, though it was said to another replica.
func TestWhatABackendSaysOnTheSide(t *testing.T) {
	upstreams := []*fake{{exchange: respond(`"result":{}`)}, {exchange: respond(`"result":{}`)}, {exchange: respond(`"result":{}`)}}
	r := startReplicas(t, 3, func(i int) gateway.Options { return gateway.Options{Upstreams: only{upstreams[i]}} })
	c := r[0].as(legacy, `{"elicitation":{}}`)
	c.at(r[1]).do("1", "tools/call", `"name":"docs_search"`, "") // before the stream
	if upstreams[1].opened()[0].isListened() {
		t.Error("a backend is listened to though nobody hears it")
	}
	s := c.get("")
	c.at(r[2]).do("1", "tools/call", `"name":"docs_search"`, "") // after it
	for i, said := range []string{
		`{"jsonrpc":"2.0","method":"notifications/elicitation/complete","params":{"elicitationId":"x"}}`,
		`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error","data":1}}`,
	} {
		one := upstreams[i+1].opened()[0]
		if !one.isListened() {
			t.Errorf("the backend of replica %d is not listened to", i+1)
		}
		one.options.OnNotification(parsed(said))
		if e, _ := s.next(); e.data != said {
			t.Errorf("heard %s", e.data)
		}
	}
}

func TestEndReachesAllReplicas(t *testing.T) {
	b := newStepwise()
	r := startReplicas(t, 3, shared(exchanges(b.exchange)))
	c := r[0].as(legacy, `{}`)
	s := c.get("")
	done := make(chan string)
	go func() {
		_, body := c.do("1", "tools/call", `"name":"docs_search"`, "")
		done <- body
	}()
	b.steps <- 1
	if response, _ := r[1].do(http.MethodDelete, gateway.Path, "", "Mcp-Session-Id", c.session); response.StatusCode != http.StatusOK {
		t.Fatalf("DELETE: %s", response.Status)
	}
	if got := s.rest(); len(got) > 0 {
		t.Errorf("heard %q", got)
	}
	if err := <-b.ended; err == nil {
		t.Error("the call went on")
	}
	if body := <-done; !strings.Contains(body, "the session has ended; whether") {
		t.Errorf("the call gets %s", body)
	}
	for i, one := range r {
		for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodDelete} {
			if response, _ := one.do(method, gateway.Path, pingBody, "Mcp-Session-Id", c.session); response.StatusCode != http.StatusNotFound {
				t.Errorf("%s at replica %d: %s", method, i, response.Status)
			}
		}
	}
}

// TestEndIsLearned by a replica that could not be told of it, as soon as it has to remember anything of the session.
func TestEndIsLearned(t *testing.T) {
	r := startReplicas(t, 2, shared(answer(`{"content":[]}`)))
	c := r[0].as(legacy, `{}`)
	absent(t, r[1], func() { r[0].do(http.MethodDelete, gateway.Path, "", "Mcp-Session-Id", c.session) })
	if response, _ := c.at(r[1]).do("1", "tools/call", `"name":"docs_search"`, ""); response.StatusCode != http.StatusNotFound {
		t.Errorf("a call: %s", response.Status)
	}
	if s := c.at(r[1]).get(""); s.status != http.StatusNotFound {
		t.Errorf("GET: %d", s.status)
	}
}

// TestSettingsAreLearned by a replica that was not there when they were set.
func TestSettingsAreLearned(t *testing.T) {
	upstreams := []*fake{{exchange: respond(`"result":{}`)}, {exchange: respond(`"result":{}`)}}
	r := startReplicas(t, 2, func(i int) gateway.Options { return gateway.Options{Upstreams: only{upstreams[i]}} })
	c := r[0].as(legacy, `{}`)
	absent(t, r[1], func() {
		c.do("1", "logging/setLevel", `"level":"debug"`, "")
		c.do("1", "resources/subscribe", `"uri":"file:///readme"`, "")
	})
	c.at(r[1]).do("1", "tools/call", `"name":"docs_search"`, "")
	eventually(t, "the backend was told", func() bool {
		return slices.Equal(upstreams[1].opened()[0].told(), []string{"level debug", "subscribe file:///readme"})
	})
	s := c.at(r[1]).get("")
	upstreams[1].opened()[0].options.OnNotification(parsed(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:///readme","own":1}}`))
	e, _ := s.next()
	if !strings.Contains(e.data, `"own":1`) { // that it may have changed unheard may come first
		e, _ = s.next()
	}
	if !strings.Contains(e.data, `"own":1`) {
		t.Errorf("heard %s", e.data)
	}
}

// TestIdleSettingsStay where there are other replicas, as long as there is room.
func TestIdleSettingsStay(t *testing.T) {
	const idle = 20 * time.Millisecond
	upstreams := []*fake{{exchange: respond(`"result":{}`)}, {exchange: respond(`"result":{}`)}}
	r := startReplicas(t, 2, func(i int) gateway.Options {
		return gateway.Options{Upstreams: only{upstreams[i]}, Limits: gateway.Limits{SessionIdle: idle, Sessions: 1}}
	})
	c := r[0].as(legacy, `{}`)
	c.do("1", "tools/call", `"name":"docs_search"`, "")
	c.do("1", "logging/setLevel", `"level":"debug"`, "")
	eventually(t, "the session with the backend was closed", func() bool { return upstreams[0].opened()[0].isClosed() })
	c.at(r[1]).do("1", "tools/call", `"name":"docs_search"`, "")
	if got := upstreams[1].opened()[0].told(); !slices.Equal(got, []string{"level debug"}) {
		t.Errorf("the backend was told %q", got)
	}
	eventually(t, "another session finds room", func() bool {
		response, _ := r[0].as(legacy, `{}`).do("1", "tools/call", `"name":"docs_search"`, "")
		return response.StatusCode == http.StatusOK
	})
}
