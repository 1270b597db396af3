// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	mcpgo "github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
)

// steps collects the progress of a call.
type steps struct {
	mu    sync.Mutex
	heard []float64
	slow  chan struct{} // unless nil, the first notification waits for it
}

func (s *steps) Notify(m rpc.Message) error {
	if s.slow != nil {
		<-s.slow
	}
	if m.Method != "notifications/progress" {
		return fmt.Errorf("of another call: %s", m.Raw)
	}
	var params struct{ Progress float64 }
	if err := json.Unmarshal(m.Params.Of(m.Raw), &params); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = append(s.heard, params.Progress)
	return nil
}

func (*steps) Ask(rpc.Message, func(rpc.Message)) error { return nil }

func (s *steps) all() []float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]float64(nil), s.heard...)
}

// await waits for a server's turn, but not longer than the client does.
func await[T any](r *http.Request, c <-chan T) (value T) {
	select {
	case value = <-c:
	case <-r.Context().Done():
	}
	return value
}

// TestLegacy_ProgressOnTheWrongStream has a server tell the progress of one call on the stream of another, and on that of no call.
func TestLegacy_ProgressOnTheWrongStream(t *testing.T) {
	s := newScripted(t)
	tokens := make(chan string, 1)
	told, heard := make(chan struct{}), make(chan struct{})
	progress := func(token string, n int) string {
		return data(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":%d}}`, token, n)
	}
	s.before = func(w http.ResponseWriter, r *http.Request, m request) bool {
		switch {
		case r.Method == http.MethodGet:
			event(w, ": open")
			await(r, told)
			token := await(r, tokens)
			event(w, progress(token, 3))
			event(w, progress(token, 2)) // too late
			event(w, progress("4711", 1))
			event(w, progress(`"no id"`, 1))
			tokens <- token
			<-r.Context().Done()
		case m.Method == "tools/call" && strings.Contains(string(m.Params), "first"):
			tokens <- string(meta(t, m)["progressToken"])
			await(r, heard)
			event(w, progress(string(meta(t, m)["progressToken"]), 4))
			event(w, data(`{"jsonrpc":"2.0","id":%s,"result":{}}`, m.ID))
		case m.Method == "tools/call":
			token := await(r, tokens)
			event(w, progress(token, 1))
			tokens <- token
			event(w, data(`{"jsonrpc":"2.0","id":%s,"result":{}}`, m.ID))
		default:
			return false
		}
		return true
	}
	c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	session := c.NewSession(relay.SessionOptions{OnNotification: func(m rpc.Message) { t.Errorf("nobody's: %s", m.Raw) }})
	defer session.Close()
	ctx := deadline(t, 10*time.Second)
	first, second := &steps{}, &steps{}
	var wg sync.WaitGroup
	wg.Go(func() {
		answer, err := session.Exchange(ctx, message(t, relay.Legacy, "tools/call", `{"name":"first","_meta":{"progressToken":1}}`), first)
		result(t, answer, err)
	})
	wg.Go(func() {
		answer, err := session.Exchange(ctx, message(t, relay.Legacy, "tools/call", `{"name":"second","_meta":{"progressToken":1}}`), second)
		result(t, answer, err)
	})
	eventually(t, "the first step is heard of", func() bool { return len(first.all()) == 1 })
	close(told)
	eventually(t, "the next step is heard of", func() bool { return len(first.all()) == 2 })
	close(heard)
	wg.Wait()
	if diff := cmp.Diff([]float64{1, 3, 4}, first.all()); diff != "" {
		t.Error(diff)
	}
	if got := second.all(); len(got) != 0 {
		t.Errorf("the other call heard %v", got)
	}
}

// A client that takes nothing holds up its own call only.
func TestLegacy_AStrayWaitsForNobody(t *testing.T) {
	s := newScripted(t)
	tokens := make(chan string, 1)
	long := strings.Repeat("x", 1000)
	s.onCall(func(w http.ResponseWriter, r *http.Request, m request) {
		if strings.Contains(string(m.Params), "slow") {
			tokens <- string(m.ID)
			event(w, ": working")
			<-r.Context().Done()
			return
		}
		token := await(r, tokens)
		for i := range 3000 {
			event(w, data(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":%d,"message":%q}}`, token, i, long))
		}
		event(w, data(`{"jsonrpc":"2.0","id":%s,"result":{}}`, m.ID))
	})
	c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	ctx, cancel := context.WithCancel(deadline(t, 10*time.Second))
	slow := &steps{slow: make(chan struct{})}
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := c.Exchange(ctx, message(t, relay.Legacy, "tools/call", `{"name":"slow","_meta":{"progressToken":1}}`), slow); err == nil {
			t.Error("the slow call has an answer")
		}
	})
	answer, err := c.Exchange(ctx, message(t, relay.Legacy, "tools/call", `{"name":"quick"}`), nil)
	result(t, answer, err)
	cancel()
	close(slow.slow)
	wg.Wait()
	if n := len(slow.all()); n < 900 || n > 1900 { // a megabyte, and what it was busy with
		t.Errorf("%d messages were kept", n)
	}
}

// TestLegacy_AsksOnTheStreamOfNoCall is for servers that ask there, whoever called.
func TestLegacy_AsksOnTheStreamOfNoCall(t *testing.T) {
	s := newScripted(t)
	var got *replies
	ask := make(chan string, 2)
	got = s.onCall(func(w http.ResponseWriter, _ *http.Request, m request) {
		ask <- "elicitation/create"
		reply := got.next(t)
		ask <- "sampling/createMessage"
		reply += got.next(t)
		whole(w, m, fmt.Sprintf("%q", reply))
	})
	calls := s.before
	s.before = func(w http.ResponseWriter, r *http.Request, m request) bool {
		if r.Method != http.MethodGet {
			return calls(w, r, m)
		}
		event(w, ": open")
		for {
			select {
			case method := <-ask:
				event(w, data(`{"jsonrpc":"2.0","id":"a","method":%q,"params":{}}`, method))
			case <-r.Context().Done():
				return true
			}
		}
	}
	c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	session := c.NewSession(relay.SessionOptions{Capabilities: json.RawMessage(`{"elicitation":{}}`)})
	defer session.Close()
	sink := &recorder{answer: `{"jsonrpc":"2.0","id":1,"result":{"action":"decline"}}`}
	answer, err := session.Exchange(deadline(t, 10*time.Second), message(t, relay.Legacy, "tools/call", `{"name":"a"}`), sink)
	reply := result(t, answer, err)
	if !strings.Contains(reply, "decline") || !strings.Contains(reply, "-32601") {
		t.Errorf("the backend heard %s", reply)
	}
	if diff := cmp.Diff([]string{"elicitation/create"}, sink.asked); diff != "" {
		t.Error(diff)
	}
}

// TestMcpGoSessions has parallel calls in one session of a server that puts all that it tells in one queue. What it sends arrives at the
// call that it is for, and never goes back.
func TestMcpGoSessions(t *testing.T) {
	s := server.NewMCPServer("second", "1", server.WithToolCapabilities(true))
	s.AddTool(mcpgo.NewTool("talk", mcpgo.WithString("who")), func(ctx context.Context, r mcpgo.CallToolRequest) (*mcpgo.CallToolResult, error) {
		for i := range 20 {
			if err := s.SendNotificationToClient(ctx, "notifications/progress", map[string]any{
				"progressToken": r.Params.Meta.ProgressToken, "progress": i + 1, "message": r.GetString("who", ""),
			}); err != nil {
				return nil, err
			}
		}
		return mcpgo.NewToolResultText(r.GetString("who", "")), nil
	})
	// A server of the legacy era: it knows no other revisions.
	legacy := server.NewStreamableHTTPServer(s)
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Mcp-Protocol-Version") == "2026-07-28" {
			http.NotFound(w, r)
			return
		}
		legacy.ServeHTTP(w, r)
	}))
	c := newClient(t, url+"/mcp", v1alpha1.TransportStreamableHTTP, backend.Limits{})
	session := c.NewSession(relay.SessionOptions{OnNotification: func(rpc.Message) {}})
	defer session.Close()
	ctx := deadline(t, 30*time.Second)
	var wg sync.WaitGroup
	sinks := make([]*steps, 8)
	for i := range sinks {
		sinks[i] = &steps{}
		wg.Go(func() {
			r := message(t, relay.Legacy, "tools/call", fmt.Sprintf(`{"name":"talk","arguments":{"who":"%d"},"_meta":{"progressToken":"p"}}`, i))
			answer, err := session.Exchange(ctx, r, sinks[i])
			result(t, answer, err)
		})
	}
	wg.Wait()
	total := 0
	for i, sink := range sinks {
		heard := sink.all()
		total += len(heard)
		for j := 1; j < len(heard); j++ {
			if heard[j] <= heard[j-1] {
				t.Errorf("call %d heard %v", i, heard)
				break
			}
		}
	}
	t.Logf("%d of 160 arrived", total)
	if total < 40 { // without help it is 17; how many the server sends in time, and in order, varies
		t.Errorf("%d of 160 arrived", total)
	}
}
