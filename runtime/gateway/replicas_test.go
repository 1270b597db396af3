// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/gateway"
	"github.com/vmcp-dev/vmcp-operator/runtime/peer"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
	"github.com/vmcp-dev/vmcp-operator/runtime/session"
)

// goneWithin is how soon a client hears that a replica is gone.
const goneWithin = 1500 * time.Millisecond

// replica is one of several gateways that have their keys in common.
type replica struct {
	*fixture
	peers *peer.Group
	kill  func() // no replica reaches it any more
}

// startReplicas starts n replicas. What distinguishes them is said by options.
func startReplicas(t *testing.T, n int, options func(i int) gateway.Options) []*replica {
	t.Helper()
	keys := session.Keys{Current: bytes.Repeat([]byte{7}, session.KeySize)}
	listeners, names := make([]net.Listener, n), make([]string, n)
	for i := range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners[i], names[i] = l, l.Addr().String()
	}
	all := make([]*replica, n)
	for i := range n {
		group := peer.New(peer.Options{UID: "uid", Address: netip.MustParseAddrPort(names[i]), Replicas: names, Patience: 10 * time.Second})
		o := options(i)
		o.UID, o.Peers = "uid", group
		if o.Principal == nil {
			o.Principal = func(*http.Request) string { return "alice" }
		}
		if err := group.SetKeys(keys); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(group.Close)
		var server http.Server
		done := make(chan struct{})
		kill := sync.OnceFunc(func() {
			_ = server.Close() // connections that it cuts are what it is for
			<-done
		})
		t.Cleanup(kill)
		r := &replica{peers: group, kill: kill}
		r.fixture = start(t, o)
		if err := r.SetKeys(keys); err != nil {
			t.Fatal(err)
		}
		server.Handler, server.ErrorLog = group.Handler(r.PeerHandler()), log.New(io.Discard, "", 0)
		go func() {
			defer close(done)
			_ = server.Serve(tls.NewListener(listeners[i], group.ServerTLS())) // until kill
		}()
		all[i] = r
	}
	return all
}

// shared is for replicas that have the same backends and nothing else to tell them apart.
func shared(upstreams gateway.Upstreams) func(int) gateway.Options {
	return func(int) gateway.Options { return gateway.Options{Upstreams: upstreams} }
}

// at is the same client, whose requests reach another replica.
func (c *caller) at(r *replica) *caller { return &caller{f: r.fixture, era: c.era, session: c.session} }

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
	done := make(chan answered)
	go func() {
		response, _ := c.do("1", "tools/call", `"name":"docs_search"`, "")
		done <- response
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
	if response := <-done; response.StatusCode != http.StatusNotFound {
		t.Errorf("the call gets %s", response.Status)
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

// absent does something while a replica is not to be reached.
func absent(t *testing.T, r *replica, f func()) {
	t.Helper()
	for i, key := range []byte{8, 7} {
		if err := r.peers.SetKeys(session.Keys{Current: bytes.Repeat([]byte{key}, session.KeySize)}); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			f()
		}
	}
}

// TestOwnerIsGone: whoever waits for it hears so at once, and the session goes on.
func TestOwnerIsGone(t *testing.T) {
	var asked atomic.Bool
	stepwise := newStepwise()
	asking := asker("elicitation/create")
	r := startReplicas(t, 2, shared(exchanges(func(ctx context.Context, q *relay.Request, sink relay.Sink) (*relay.Answer, error) {
		if asked.Swap(true) {
			return asking(ctx, q, sink)
		}
		return stepwise.exchange(ctx, q, sink)
	})))
	c := r[0].as(legacy, `{"elicitation":{}}`)
	standing := c.get("")
	primed := <-standing.events
	last := c.lostStream(t, stepwise)
	waiting := c.stream(`"second"`, "tools/call", `"name":"docs_search"`, "")
	e, _ := waiting.next()
	question := parsed(e.data)
	r[0].kill()
	r[0].CloseClientConnections()

	begin := time.Now()
	s := c.at(r[1]).get(last)
	got := s.rest()
	if len(got) != 1 || !strings.HasPrefix(got[0], `{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"the replica of the gateway that carried the request is gone`) {
		t.Errorf("resuming a call: %d %q", s.status, got)
	}
	response := c.at(r[1]).say(`{"jsonrpc":"2.0","id":` + string(question.ID.Of(question.Raw)) + `,"result":{}}`)
	if response.StatusCode != http.StatusBadRequest {
		t.Errorf("answering a question: %s", response.Status)
	}
	if s := c.at(r[1]).get(primed.id); s.status != http.StatusOK {
		t.Errorf("resuming the stream of the session: %d", s.status)
	}
	if took := time.Since(begin); took > goneWithin {
		t.Errorf("that took %s", took)
	}
	if response := c.at(r[1]).say(pingBody); response.StatusCode != http.StatusOK {
		t.Errorf("the session: %s", response.Status)
	}
	stepwise.steps <- -1
	c.say(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"second"}}`) // it would go on
}

// TestDrainingReplica: calls that end meanwhile are answered to clients that come back to another replica.
func TestDrainingReplica(t *testing.T) {
	b := newStepwise()
	r := startReplicas(t, 2, shared(exchanges(b.exchange)))
	c := r[0].as(legacy, `{}`)
	body, headers := c.request("1", "tools/call", `"name":"docs_search"`, `"progressToken":1`)
	opened := make(chan *streaming)
	go func() { opened <- r[0].stream(http.MethodPost, body, headers...) }()
	b.steps <- 1
	first, _ := (<-opened).next()
	closed := make(chan error)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		closed <- r[0].Gateway.Close(ctx)
	}()
	eventually(t, "the replica drains", func() bool {
		response, _ := r[0].do(http.MethodPost, gateway.Path, pingBody, "Mcp-Session-Id", c.session)
		return response.StatusCode == http.StatusServiceUnavailable
	})
	s := c.at(r[1]).get(first.id)
	b.steps <- 2
	if e, _ := s.next(); !strings.Contains(e.data, `"progress":2,`) {
		t.Errorf("heard %s", e.data)
	}
	b.steps <- -1
	if got := s.rest(); len(got) != 1 || !strings.Contains(got[0], `"result"`) {
		t.Errorf("the call ends with %q", got)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// TestForgedOwners: an id names a replica only if a replica has made it.
func TestForgedOwners(t *testing.T) {
	r := startReplicas(t, 2, shared(answer(`{"content":[]}`)))
	asked, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer asked.Close()
	content, err := peer.Replica{Address: netip.MustParseAddrPort(asked.Addr().String())}.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := r[0].as(legacy, `{}`)
	stranger := session.NewSealer("uid") // with a key of its own
	for name, owner := range map[string]string{
		"sealed with another key": stranger.Seal(session.PurposeReplica, "", content),
		"a session's id":          c.session,
		"not sealed":              string(content),
		"nothing":                 "",
	} {
		if response := c.say(`{"jsonrpc":"2.0","id":` + string(encode(owner+".abcdefghij-1")) + `,"result":{}}`); response.StatusCode != http.StatusAccepted {
			t.Errorf("answer, %s: %s", name, response.Status)
		}
		if name == "not sealed" {
			continue // no header
		}
		if got := c.get(owner + "..abcdefghij-1-1").status; got != http.StatusBadRequest {
			t.Errorf("event, %s: %d", name, got)
		}
	}
	for _, request := range []string{"!", "e30", "MS41", "bnVsbA", "Ig", "MQ=="} { // what no id of a request is: {}, 1.5, null, a quote
		if got := c.get("owner." + request + ".abcdefghij-1-1").status; got != http.StatusBadRequest {
			t.Errorf("event of the request %s: %d", request, got)
		}
	}
	_ = asked.(*net.TCPListener).SetDeadline(time.Now())
	if connection, err := asked.Accept(); err == nil {
		connection.Close()
		t.Error("a forged replica was connected to")
	}
}

// TestPeersBindThePrincipal: what one replica asks of another is for one client's session only.
func TestPeersBindThePrincipal(t *testing.T) {
	r := startReplicas(t, 2, func(int) gateway.Options {
		return gateway.Options{Principal: func(r *http.Request) string { return r.Header.Get("X-Test-User") }}
	})
	response, _ := r[0].do(http.MethodPost, gateway.Path, initializeBody, "X-Test-User", "alice")
	id := response.Header.Get("Mcp-Session-Id")
	for principal, want := range map[string]int{"YWxpY2U": http.StatusAccepted, "Ym9i": http.StatusNotFound, "": http.StatusNotFound, "!": http.StatusBadRequest} {
		got, err := r[1].peers.Send(t.Context(), r[0].peers.Self(), &peer.Message{
			Method: http.MethodPost, Path: gateway.Path, Header: http.Header{"Mcp-Session-Id": {id}, "Vmcp-Principal": {principal}},
			Body: []byte(`{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`),
		})
		if err != nil || got != want {
			t.Errorf("%q: %d, %v", principal, got, err)
		}
	}
	large := bytes.Repeat([]byte("x"), 5<<20)
	got, err := r[1].peers.Send(t.Context(), r[0].peers.Self(), &peer.Message{
		Method: http.MethodPost, Path: gateway.Path, Header: http.Header{"Mcp-Session-Id": {id}, "Vmcp-Principal": {"YWxpY2U"}}, Body: large,
	})
	if err == nil && got != http.StatusRequestEntityTooLarge {
		t.Errorf("5 MiB: %d, %v", got, err)
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

// balancer sends each request of a client to the next replica, on a connection of its own. It cuts the streams of some calls.
type balancer struct {
	replicas []*replica
	requests atomic.Int64
	cuts     atomic.Int64 // streams that are still to be cut, after an event
}

func (b *balancer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Host = b.replicas[b.requests.Add(1)%int64(len(b.replicas))].Listener.Addr().String()
	r.Close = true
	response, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && r.Method == http.MethodPost && response.Header.Get("Content-Type") == "text/event-stream" && b.cuts.Add(-1) >= 0 {
		response.Body = &cut{response.Body, bufio.NewReader(response.Body)}
	}
	return response, err
}

// cut is a stream that breaks after its first event with content.
type cut struct {
	io.Closer
	from *bufio.Reader
}

func (c *cut) Read(p []byte) (int, error) {
	if c.from == nil {
		return 0, io.ErrUnexpectedEOF
	}
	var said []byte
	for {
		line, err := c.from.ReadBytes('\n')
		said = append(said, line...)
		if err != nil || len(line) == 1 && bytes.Contains(said, []byte("data: {")) {
			c.from = nil
			return copy(p, said), err // some hundred bytes
		}
	}
}

// TestClientOfGoSDKAmongReplicas drives several replicas with a client that knows of one address, as behind a Service.
func TestClientOfGoSDKAmongReplicas(t *testing.T) {
	var stateMu sync.Mutex
	rounds := map[string]int{}
	upstreams := exchanges(func(ctx context.Context, q *relay.Request, sink relay.Sink) (*relay.Answer, error) {
		for n := range 3 {
			if err := sink.Notify(progress(n, "")); err != nil {
				return nil, err
			}
		}
		if q.Era == relay.Modern {
			stateMu.Lock()
			defer stateMu.Unlock()
			text := outgoing(q)
			if !strings.Contains(text, `"requestState":"theirs"`) {
				rounds["first"]++
				return answeredIn(q.Era, `"result":{"resultType":"input_required","inputRequests":{"k":{"method":"elicitation/create","params":{"mode":"form","message":"?","requestedSchema":{"type":"object","properties":{}}}}},"requestState":"theirs"}`)
			}
			rounds["second"]++
			return answeredIn(q.Era, `"result":{"resultType":"complete","content":[{"type":"text","text":"done"}]}`)
		}
		for _, ask := range []string{
			`"method":"elicitation/create","params":{"message":"?","requestedSchema":{"type":"object","properties":{}}}`,
			`"method":"sampling/createMessage","params":{"messages":[],"maxTokens":1}`, `"method":"roots/list"`,
		} {
			replies := make(chan rpc.Kind, 1)
			if err := sink.Ask(parsed(`{"jsonrpc":"2.0","id":"theirs",`+ask+`}`), func(m rpc.Message) { replies <- m.Kind }); err != nil {
				return nil, err
			}
			select {
			case kind := <-replies:
				if kind != rpc.Result {
					return nil, fmt.Errorf("%s was answered with an error", ask)
				}
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		return answeredIn(q.Era, `"result":{"content":[{"type":"text","text":"done"}]}`)
	})
	versions(t, func(t *testing.T, version string) {
		r := startReplicas(t, 3, shared(upstreams))
		between := &balancer{replicas: r}
		var progressed atomic.Int64
		client := mcp.NewClient(&mcp.Implementation{Name: "independent", Version: "1"}, &mcp.ClientOptions{
			ProgressNotificationHandler: func(context.Context, *mcp.ProgressNotificationClientRequest) { progressed.Add(1) },
			ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
				return &mcp.ElicitResult{Action: "decline"}, nil
			},
			//nolint:staticcheck // SA1019: deprecated, and part of the revisions that are served
			CreateMessageHandler: func(context.Context, *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
				return &mcp.CreateMessageResult{Role: "assistant", Model: "m", Content: &mcp.TextContent{Text: "hi"}}, nil //nolint:staticcheck // as above
			},
		})
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		session, err := client.Connect(ctx, &mcp.StreamableClientTransport{
			Endpoint: r[0].endpoint(), HTTPClient: &http.Client{Transport: between},
		}, &mcp.ClientSessionOptions{ProtocolVersion: version})
		if err != nil {
			t.Fatal(err)
		}
		defer session.Close()
		if version != modern && version != legacy && version != "2025-06-18" {
			return // it has no elicitation
		}
		for n := range 10 {
			if n == 5 && version == legacy {
				between.cuts.Store(1) // the client goes on a second later
			}
			params := &mcp.CallToolParams{Name: "docs_search"}
			params.SetProgressToken(fmt.Sprintf("call %d", n))
			result, err := session.CallTool(ctx, params)
			if err != nil || result.IsError || len(result.Content) != 1 {
				t.Fatalf("call %d: %+v, %v", n, result, err)
			}
		}
		eventually(t, "all progress was heard", func() bool { return progressed.Load() >= 30 })
	})
}

// TestListensAmongReplicas: each stream of the modern era hears of changes from the replica that it reached.
func TestListensAmongReplicas(t *testing.T) {
	r := startReplicas(t, 2, shared(answer(`{"content":[]}`)))
	for i, one := range r {
		s := one.as(modern, `{}`).stream(`"l"`, "subscriptions/listen", `"notifications":{"toolsListChanged":true}`, "")
		if e, _ := s.next(); !strings.Contains(e.data, "acknowledged") {
			t.Errorf("heard %s", e.data)
		}
		one.SetSnapshot(snapshot(backend.Inventory{}))
		if e, _ := s.next(); !strings.Contains(e.data, "tools/list_changed") {
			t.Errorf("replica %d said %s", i, e.data)
		}
	}
}
