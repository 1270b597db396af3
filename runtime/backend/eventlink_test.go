// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
)

// eventServer is a server over HTTP+SSE that does as a test says.
type eventServer struct {
	t       *testing.T
	stream  chan string  // what goes on the stream
	replies chan string  // the responses that it got
	calls   chan request // the requests that it does not answer by itself
}

func newEventServer(t *testing.T) (*eventServer, string) {
	s := &eventServer{t: t, stream: make(chan string), replies: make(chan string, 8), calls: make(chan request, 8)}
	return s, serve(t, s)
}

func (s *eventServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		event(w, "event: endpoint", "data: /post?session=1")
		for {
			select {
			case text := <-s.stream:
				event(w, data("%s", text))
			case <-r.Context().Done():
				return
			}
		}
	}
	body, err := io.ReadAll(r.Body)
	var m request
	if err != nil || json.Unmarshal(body, &m) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusAccepted)
	switch {
	case m.Method == "initialize":
		go func() {
			s.say(`{"jsonrpc":"2.0","id":` + string(m.ID) + `,"result":{"protocolVersion":"2024-11-05","capabilities":{}}}`)
		}()
	case m.Method == "":
		s.replies <- string(body)
	case len(m.ID) > 0:
		s.calls <- m
	}
}

// say puts a message on the stream.
func (s *eventServer) say(text string) {
	select {
	case s.stream <- text:
	case <-time.After(10 * time.Second):
		s.t.Errorf("nobody takes %.100s", text)
	}
}

func (s *eventServer) progress(m request, n string) {
	s.say(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":` + string(m.ID) + `,"progress":` + n + `}}`)
}

func (s *eventServer) answer(m request) {
	s.say(`{"jsonrpc":"2.0","id":` + string(m.ID) + `,"result":{}}`)
}

// A client that takes nothing does not hold up the others on the stream that they share.
func TestSSE_NobodyHoldsUpTheStream(t *testing.T) {
	s, url := newEventServer(t)
	c := newClient(t, url, v1alpha1.TransportSSE, backend.Limits{})
	ctx, cancel := context.WithCancel(deadline(t, 10*time.Second))
	defer cancel()
	slow := &steps{slow: make(chan struct{})}
	var wg sync.WaitGroup
	wg.Go(func() {
		answer, err := c.Exchange(ctx, message(t, relay.Legacy, "tools/call", `{"name":"slow","_meta":{"progressToken":1}}`), slow)
		result(t, answer, err)
	})
	held := <-s.calls
	wg.Go(func() {
		sink := &steps{}
		answer, err := c.Exchange(ctx, message(t, relay.Legacy, "tools/call", `{"name":"quick","_meta":{"progressToken":1}}`), sink)
		result(t, answer, err)
		if diff := cmp.Diff([]float64{1, 2}, sink.all()); diff != "" {
			t.Error(diff)
		}
		close(slow.slow)
	})
	quick := <-s.calls
	s.say(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info"}}`) // of whose call nobody can tell
	for range 3000 {
		s.progress(held, `1,"message":"`+strings.Repeat("x", 1000)+`"`)
	}
	s.answer(held)
	s.progress(quick, "1")
	s.progress(quick, "2")
	s.answer(quick)
	s.answer(quick)
	wg.Wait()
	if n := len(slow.all()); n < 900 || n > 1900 { // a megabyte, and what it was busy with
		t.Errorf("%d messages were kept for the slow client", n)
	}
}

func TestSSE_AsksReachACallOfTheClient(t *testing.T) {
	s, url := newEventServer(t)
	c := newClient(t, url, v1alpha1.TransportSSE, backend.Limits{})
	heard := make(chan string, 1)
	session := c.NewSession(relay.SessionOptions{
		Capabilities: json.RawMessage(`{"roots":{}}`), OnNotification: func(m rpc.Message) { heard <- m.Method },
	})
	defer session.Close()
	sink := &recorder{answer: `{"jsonrpc":"2.0","id":1,"result":{"roots":[]}}`}
	var wg sync.WaitGroup
	wg.Go(func() {
		answer, err := session.Exchange(deadline(t, 10*time.Second), message(t, relay.Legacy, "tools/call", `{"name":"a"}`), sink)
		result(t, answer, err)
	})
	call := <-s.calls
	for method, want := range map[string]string{"roots/list": `"roots":[]`, "elicitation/create": `-32601`, "ping": `"result":{}`} {
		s.say(`{"jsonrpc":"2.0","id":"` + method + `","method":"` + method + `"}`)
		if reply := <-s.replies; !strings.Contains(reply, want) || !strings.Contains(reply, `"id":"`+method+`"`) {
			t.Errorf("%s: the backend got %s", method, reply)
		}
	}
	s.say(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info"}}`)
	s.say(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"x://a"}}`)
	if method := <-heard; method != "notifications/resources/updated" {
		t.Errorf("heard %s", method)
	}
	s.answer(call)
	wg.Wait()
	if diff := cmp.Diff([]string{"roots/list"}, sink.asked); diff != "" || len(sink.notes) != 1 {
		t.Errorf("%s, %q", diff, sink.notes)
	}
}
