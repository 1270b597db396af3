// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
)

// replies are the responses that a scripted server got to what it asked.
type replies struct{ c chan string }

// onCall has the server answer tools/call as a test says, and collects the replies of the gateway.
func (s *scripted) onCall(answer func(w http.ResponseWriter, r *http.Request, m request)) *replies {
	got := &replies{make(chan string, 16)}
	s.before = func(w http.ResponseWriter, r *http.Request, m request) bool {
		switch {
		case m.Method == "tools/call":
			answer(w, r, m)
		case r.Method == http.MethodPost && m.Method == "":
			w.WriteHeader(http.StatusAccepted)
			s.mu.Lock()
			raw := s.got[len(s.got)-1].whole
			s.mu.Unlock()
			got.c <- raw
		default:
			return false
		}
		return true
	}
	return got
}

func (r *replies) next(t *testing.T) string {
	t.Helper()
	select {
	case reply := <-r.c:
		return reply
	case <-time.After(10 * time.Second):
		t.Error("no reply came")
		return ""
	}
}

func TestLegacy_AsksReachTheCall(t *testing.T) {
	s := newScripted(t)
	var got *replies
	var heard []string
	got = s.onCall(func(w http.ResponseWriter, _ *http.Request, m request) {
		for _, method := range []string{"elicitation/create", "sampling/createMessage", "ping"} {
			event(w, data(`{"jsonrpc":"2.0","id":"ask-1","method":%q,"params":{"a":1}}`, method))
			heard = append(heard, got.next(t))
		}
		event(w, data(`{"jsonrpc":"2.0","id":%s,"result":{}}`, m.ID))
	})
	c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	session := c.NewSession(relay.SessionOptions{Capabilities: json.RawMessage(`{"elicitation":{"form":{}}}`)})
	defer session.Close()
	sink := &recorder{answer: `{"jsonrpc":"2.0","id":99,"result":{"action":"accept"}}`}
	answer, err := session.Exchange(deadline(t, 10*time.Second), message(t, relay.Legacy, "tools/call", `{"name":"a"}`), sink)
	result(t, answer, err)
	if diff := cmp.Diff([]string{"elicitation/create"}, sink.asked); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(string(s.last("initialize").Params), `"capabilities":{"elicitation":{"form":{}}}`) {
		t.Errorf("initialize with %s", s.last("initialize").Params)
	}
	for i, want := range []string{`{"jsonrpc":"2.0","id":"ask-1","result":{"action":"accept"}}`, `"code":-32601`, `{"jsonrpc":"2.0","id":"ask-1","result":{}}`} {
		if !strings.Contains(heard[i], want) || !strings.Contains(heard[i], `"id":"ask-1"`) {
			t.Errorf("the reply is %s, want %s", heard[i], want)
		}
	}
}

// A client without a session cannot be asked: the session that such clients share declares nothing.
func TestLegacy_NobodyIsAskedOverTheSharedSession(t *testing.T) {
	s := newScripted(t)
	var got *replies
	var heard string
	got = s.onCall(func(w http.ResponseWriter, _ *http.Request, m request) {
		event(w, data(`{"jsonrpc":"2.0","id":3,"method":"elicitation/create","params":{}}`))
		heard = got.next(t)
		event(w, data(`{"jsonrpc":"2.0","id":%s,"result":{}}`, m.ID))
	})
	c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	r := message(t, relay.Modern, "tools/call", `{"name":"a","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","traceparent":"x","progressToken":"p"}}`)
	r.Capabilities = json.RawMessage(`{"elicitation":{}}`)
	sink := &recorder{answer: `{"jsonrpc":"2.0","id":1,"result":{}}`}
	answer, err := c.Exchange(deadline(t, 10*time.Second), r, sink)
	result(t, answer, err)
	if len(sink.asked) != 0 || !strings.Contains(heard, "-32601") || answer.Era != relay.Legacy {
		t.Errorf("asked %q, the reply was %s", sink.asked, heard)
	}
	call := s.last("tools/call")
	had := map[string]string{}
	for key, value := range meta(t, call) {
		had[key] = string(value)
	}
	if diff := cmp.Diff(map[string]string{"traceparent": `"x"`, "progressToken": string(call.ID)}, had); diff != "" {
		t.Error(diff)
	}
}

func TestLegacy_AReplyAfterTheCallHasNoEffect(t *testing.T) {
	s := newScripted(t)
	got := s.onCall(func(w http.ResponseWriter, _ *http.Request, m request) {
		event(w, data(`{"jsonrpc":"2.0","id":3,"method":"roots/list"}`))
		event(w, data(`{"jsonrpc":"2.0","id":%s,"result":{}}`, m.ID))
	})
	c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	session := c.NewSession(relay.SessionOptions{Capabilities: json.RawMessage(`{"roots":{"listChanged":true}}`)})
	defer session.Close()
	sink := &late{}
	answer, err := session.Exchange(deadline(t, 10*time.Second), message(t, relay.Legacy, "tools/call", `{"name":"a"}`), sink)
	result(t, answer, err)
	m, err := rpc.Parse([]byte(`{"jsonrpc":"2.0","id":1,"result":{}}`))
	if err != nil || sink.reply == nil {
		t.Fatal(err, "nothing was asked")
	}
	sink.reply(m)
	session.RootsChanged(t.Context()) // comes after it, if there is one
	eventually(t, "the backend hears of the roots", func() bool { return s.count("notifications/roots/list_changed") == 1 })
	c.Close() // waits for what is on its way
	if len(got.c) != 0 {
		t.Errorf("the backend got %s", <-got.c)
	}
}

type late struct{ reply func(rpc.Message) }

func (*late) Notify(rpc.Message) error { return nil }
func (l *late) Ask(_ rpc.Message, reply func(rpc.Message)) error {
	l.reply = reply
	return nil
}

// A session that the backend forgets is opened again, with what the client had set in it.
func TestLegacy_ANewSessionIsLikeTheOld(t *testing.T) {
	s := newScripted(t)
	s.capabilities = `{"tools":{},"logging":{},"resources":{"subscribe":true}}`
	for _, method := range []string{"tools/call", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"} {
		s.answers[method] = func(request) string { return `{}` }
	}
	c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	session := c.NewSession(relay.SessionOptions{Capabilities: json.RawMessage(`{"sampling":{}}`)})
	ctx := deadline(t, 10*time.Second)
	call := func() {
		t.Helper()
		answer, err := session.Exchange(ctx, message(t, relay.Legacy, "tools/call", `{"name":"a"}`), nil)
		result(t, answer, err)
	}
	if err := session.SetLogLevel(ctx, "warning"); err != nil || s.count("initialize") != 0 {
		t.Fatalf("a level needs no session: %v", err)
	}
	call()
	for _, uri := range []string{"x://a", "x://b", "x://b"} {
		if err := session.Subscribe(ctx, uri); err != nil {
			t.Fatal(err)
		}
	}
	if err := session.Unsubscribe(ctx, "x://a"); err != nil {
		t.Fatal(err)
	}
	if s.count("logging/setLevel") != 1 || s.count("resources/subscribe") != 2 || s.count("resources/unsubscribe") != 1 {
		t.Errorf("got %+v", s.got)
	}
	s.forget()
	call()
	if s.count("logging/setLevel") != 2 || s.count("resources/subscribe") != 3 || string(s.last("resources/subscribe").Params) != `{"uri":"x://b"}` {
		t.Errorf("the new session: %+v", s.got)
	}
	for _, method := range []string{"tools/call", "logging/setLevel", "resources/subscribe"} {
		if h := s.last(method).Header; h.Get("Mcp-Session-Id") != "session-2" || h.Get("Mcp-Protocol-Version") != "2025-11-25" {
			t.Errorf("%s with %v", method, h)
		}
	}
	if err := session.SetLogLevel(ctx, "loud"); err == nil {
		t.Error("a level that there is not is taken")
	}
	session.Close()
	if diff := cmp.Diff([]string{"session-2"}, s.deleted); diff != "" {
		t.Error(diff)
	}
	if _, err := session.Exchange(ctx, message(t, relay.Legacy, "tools/call", `{"name":"a"}`), nil); err == nil {
		t.Error("a closed session calls")
	}
}

// What may have been processed is not sent again, unless that does no harm.
func TestLegacy_ADeadCallIsRepeatedOnlyIfItMayBe(t *testing.T) {
	for _, repeatable := range []bool{true, false} {
		t.Run(fmt.Sprint(repeatable), func(t *testing.T) {
			s := newScripted(t)
			var calls atomic.Int32
			s.before = func(w http.ResponseWriter, r *http.Request, m request) bool {
				switch {
				case r.Method == http.MethodGet && r.Header.Get("Last-Event-Id") != "":
					w.WriteHeader(http.StatusNotFound) // it was restarted meanwhile
				case m.Method == "tools/call" && calls.Add(1) == 1:
					s.forget()
					event(w, "id: 1", "retry: 1", "data:")
					panic(http.ErrAbortHandler)
				case m.Method == "tools/call":
					return false
				default:
					return false
				}
				return true
			}
			s.answers["tools/call"] = func(request) string { return `{}` }
			c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
			r := message(t, relay.Legacy, "tools/call", `{"name":"a"}`)
			r.Repeatable = repeatable
			_, err := c.Exchange(deadline(t, 10*time.Second), r, nil)
			if (err == nil) != repeatable || calls.Load() == 2 != repeatable {
				t.Errorf("%v after %d calls", err, calls.Load())
			}
			if reason := backend.Classify(docs, err).Reason; !repeatable && reason != v1alpha1.ReasonConnectionFailed {
				t.Errorf("reason %s of %v", reason, err)
			}
		})
	}
}

// TestLegacy_AStreamIsTakenUp breaks a call's stream twice, once by force, and counts what comes.
func TestLegacy_AStreamIsTakenUp(t *testing.T) {
	s := newScripted(t)
	var resumed []string
	var id json.RawMessage
	s.before = func(w http.ResponseWriter, r *http.Request, m request) bool {
		from := r.Header.Get("Last-Event-Id")
		switch {
		case m.Method == "tools/call":
			id = m.ID
			event(w, "id: a1", "retry: 5", "data:")
			event(w, "id: a2", data(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":1}}`, id))
			panic(http.ErrAbortHandler)
		case r.Method == http.MethodGet && from != "":
			resumed = append(resumed, from)
			if len(resumed) == 1 {
				event(w, "id: a3", data(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":2}}`, id))
				return true
			}
			event(w, "id: a4", data(`{"jsonrpc":"2.0","id":%s,"result":{"done":true}}`, id))
		default:
			return false
		}
		return true
	}
	c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	sink := &recorder{}
	answer, err := c.Exchange(deadline(t, 10*time.Second), message(t, relay.Legacy, "tools/call", `{"name":"a","_meta":{"progressToken":0}}`), sink)
	if got := result(t, answer, err); got != `{"done":true}` {
		t.Errorf("got %s", got)
	}
	if diff := cmp.Diff([]string{"a2", "a3"}, resumed); diff != "" || len(sink.notes) != 2 {
		t.Errorf("%s, %q", diff, sink.notes)
	}
}

func TestLegacy_MessagesOutsideOfCalls(t *testing.T) {
	s := newScripted(t)
	s.changes = make(chan string)
	s.answers["tools/call"] = func(request) string { return `{}` }
	c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	heard := make(chan string, 8)
	session := c.NewSession(relay.SessionOptions{OnNotification: func(m rpc.Message) { heard <- m.Method }})
	defer session.Close()
	answer, err := session.Exchange(deadline(t, 10*time.Second), message(t, relay.Legacy, "tools/call", `{"name":"a"}`), nil)
	result(t, answer, err)
	for _, method := range []string{"notifications/tools/list_changed", "notifications/message", "", "notifications/resources/updated"} {
		s.changes <- method // the empty one ends the stream, which is opened again
	}
	if first, second := <-heard, <-heard; first != "notifications/message" || second != "notifications/resources/updated" {
		t.Errorf("heard %s, %s", first, second)
	}
	if n := s.count("initialize"); n != 1 {
		t.Errorf("%d sessions", n)
	}
}

// TestLegacy_Quiet: a session to which nobody listens has no stream, and one to which somebody begins to listen gets one.
func TestLegacy_Quiet(t *testing.T) {
	s := newScripted(t)
	s.changes = make(chan string)
	s.answers["tools/call"] = func(request) string { return `{}` }
	c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	heard := make(chan string, 1)
	session := c.NewSession(relay.SessionOptions{Quiet: true, OnNotification: func(m rpc.Message) {
		select {
		case heard <- m.Method:
		default:
		}
	}})
	defer session.Close()
	call := func() {
		answer, err := session.Exchange(deadline(t, 10*time.Second), message(t, relay.Legacy, "tools/call", `{"name":"a"}`), nil)
		result(t, answer, err)
	}
	call()
	call()
	select {
	case s.changes <- "notifications/message": // a stream takes it
		t.Error("there is a stream")
	default:
	}
	session.Listen()
	session.Listen()
	s.changes <- "notifications/message"
	if got := <-heard; got != "notifications/message" {
		t.Errorf("heard %s", got)
	}
	s.forget()
	call()
	for patience := time.After(10 * time.Second); ; {
		select {
		case s.changes <- "notifications/message": // the stream of the session before may take some
			continue
		case <-heard:
		case <-patience:
			t.Error("nothing is heard in the next session")
		}
		break
	}
}

func TestLegacy_LogMessagesOfASharedSession(t *testing.T) {
	s := newScripted(t)
	s.capabilities = `{"tools":{},"logging":{}}`
	s.answers["logging/setLevel"] = func(request) string { return `{}` }
	s.onCall(func(w http.ResponseWriter, _ *http.Request, m request) {
		for _, level := range []string{"debug", "info", "error"} {
			event(w, data(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":%q}}`, level))
		}
		event(w, data(`{"jsonrpc":"2.0","id":%s,"result":{}}`, m.ID))
	})
	c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	for _, tc := range []struct {
		era    relay.Era
		level  string
		passed int
		set    int
	}{{relay.Modern, "", 0, 0}, {relay.Legacy, "", 2, 0}, {relay.Modern, "error", 1, 1}, {relay.Modern, "debug", 3, 2}, {relay.Modern, "error", 1, 2}} {
		r := message(t, tc.era, "tools/call", `{"name":"a"}`)
		r.LogLevel = tc.level
		sink := &recorder{}
		answer, err := c.Exchange(deadline(t, 10*time.Second), r, sink)
		result(t, answer, err)
		if len(sink.notes) != tc.passed || s.count("logging/setLevel") != tc.set {
			t.Errorf("%+v: %q, %d", tc, sink.notes, s.count("logging/setLevel"))
		}
	}
}

// TestBounds has answers that are too long in each of the ways in which they come.
func TestBounds(t *testing.T) {
	long := strings.Repeat("x", 5000)
	for name, answer := range map[string]func(w http.ResponseWriter, m request){
		"with a length": func(w http.ResponseWriter, m request) {
			body := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%q}`, m.ID, long)
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			fmt.Fprint(w, body)
		},
		"without a length": func(w http.ResponseWriter, m request) {
			w.Header().Set("Content-Type", "application/json")
			_ = http.NewResponseController(w).Flush()
			whole(w, m, `"`+long+`"`)
		},
		"as an event": func(w http.ResponseWriter, m request) {
			event(w, data(`{"jsonrpc":"2.0","id":%s,"result":%q}`, m.ID, long))
		},
		"as a notification": func(w http.ResponseWriter, m request) { event(w, data(`{"jsonrpc":"2.0","method":%q}`, long)) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newScripted(t)
			s.onCall(func(w http.ResponseWriter, _ *http.Request, m request) { answer(w, m) })
			c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{ResponseBytes: 4096})
			_, err := c.Exchange(deadline(t, 5*time.Second), message(t, relay.Legacy, "tools/call", `{}`), nil)
			if f := c.Classify(err); f.Reason != v1alpha1.ReasonProtocolError || !strings.Contains(f.Message, "more bytes") {
				t.Errorf("%+v of %v", f, err)
			}
		})
	}
}

func TestASinkThatFailsEndsTheCall(t *testing.T) {
	s := newScripted(t)
	s.onCall(func(w http.ResponseWriter, r *http.Request, _ request) {
		event(w, data(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info"}}`))
		<-r.Context().Done()
	})
	c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	_, err := c.Exchange(deadline(t, 10*time.Second), message(t, relay.Legacy, "tools/call", `{}`), full{})
	if !errors.Is(err, errFull) {
		t.Errorf("got %v", err)
	}
	eventually(t, "the backend heard of it", func() bool { return s.count("notifications/cancelled") == 1 })
}

var errFull = errors.New("the client is gone")

type full struct{}

func (full) Notify(rpc.Message) error                 { return errFull }
func (full) Ask(rpc.Message, func(rpc.Message)) error { return errFull }

// TestBatches is for revision 2025-03-26, which has them.
func TestBatches(t *testing.T) {
	for name, asEvent := range map[string]bool{"JSON": false, "event": true} {
		t.Run(name, func(t *testing.T) {
			s := newScripted(t)
			s.version = "2025-03-26"
			s.onCall(func(w http.ResponseWriter, _ *http.Request, m request) {
				batch := fmt.Sprintf(`[{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info"}},{"jsonrpc":"2.0","id":%s,"result":{}}]`, m.ID)
				if asEvent {
					event(w, data("[]"))
					event(w, data("%s", batch))
					return
				}
				w.Header().Set("Content-Type", "application/json")
				fmt.Fprint(w, batch)
			})
			c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
			sink := &recorder{}
			answer, err := c.Exchange(deadline(t, 5*time.Second), message(t, relay.Legacy, "tools/call", `{}`), sink)
			if got := result(t, answer, err); got != `{}` || len(sink.notes) != 1 {
				t.Errorf("%s, %q", got, sink.notes)
			}
		})
	}
}

// The front puts answers into streams, where a line end would be another line.
func TestAnswersEndWithTheMessage(t *testing.T) {
	s := newScripted(t)
	s.onCall(func(w http.ResponseWriter, _ *http.Request, m request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, "{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{}}\r\n\n", m.ID)
	})
	c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	answer, err := c.Exchange(deadline(t, 5*time.Second), message(t, relay.Legacy, "tools/call", `{}`), nil)
	if err != nil || !strings.HasSuffix(string(answer.Message.Raw), "{}}") {
		t.Errorf("%q, %v", answer.Message.Raw, err)
	}
}
