// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/gateway"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
)

// watched is a backend that watches some resources.
type watched struct {
	fake
	mu      sync.Mutex
	updates map[string]func(rpc.Message)
	ended   map[string]bool
}

func newWatched() *watched {
	w := &watched{updates: map[string]func(rpc.Message){}, ended: map[string]bool{}}
	w.exchange = respond(`"result":{}`)
	w.watch = func(ctx context.Context, uri string, updated func(rpc.Message)) error {
		if strings.HasSuffix(uri, "refused") {
			return errors.New("no")
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.updates[uri] = updated
		context.AfterFunc(ctx, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.ended[uri] = true
		})
		return nil
	}
	return w
}

func (w *watched) update(uri, text string) {
	w.mu.Lock()
	updated := w.updates[uri]
	w.mu.Unlock()
	updated(parsed(text))
}

func (w *watched) hasEnded(uri string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ended[uri]
}

func TestListen(t *testing.T) {
	w := newWatched()
	f := start(t, gateway.Options{Upstreams: only{w}})
	resources := items("uri", `{"uri":"file:///readme"}`, `{"uri":"file:///refused"}`)
	f.SetSnapshot(snapshot(backend.Inventory{Resources: resources}))
	for _, id := range []string{`1`, `"one"`} {
		s := f.as(modern, "").stream(id, "subscriptions/listen", `"notifications":{"toolsListChanged":true,"promptsListChanged":false,"future":true,`+
			`"resourceSubscriptions":["file:///readme","file:///refused","file:///nowhere","file:///readme"]}`, "")
		if s.status != 200 || s.header.Get("X-Accel-Buffering") != "no" || s.header.Get("Mcp-Session-Id") != "" {
			t.Fatalf("%d %v", s.status, s.header)
		}
		stamp := `"_meta":{"io.modelcontextprotocol/subscriptionId":` + id + `}`
		expect := func(want string) {
			t.Helper()
			e, _ := s.next()
			if diff := cmp.Diff(want, e.data); diff != "" || e.id != "" {
				t.Errorf("event %q: %s", e.id, diff)
			}
		}
		expect(`{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{` + stamp +
			`,"notifications":{"toolsListChanged":true,"resourceSubscriptions":["file:///readme"]}}}`)
		f.SetSnapshot(snapshot(backend.Inventory{Resources: resources, Prompts: items("name", `{"name":"greet"}`),
			Tools: items("name", `{"name":"t`+strings.Trim(id, `"`)+`","inputSchema":{"type":"object"}}`)}))
		expect(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{` + stamp + `}}`)
		w.update("file:///readme", `{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:///readme","own":1}}`)
		expect(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{` + stamp + `,"uri":"file:///readme","own":1}}`)
		w.update("file:///readme", `{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:///readme","_meta":{"io.modelcontextprotocol/subscriptionId":"theirs","k":1}}}`)
		expect(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:///readme","_meta":{"io.modelcontextprotocol/subscriptionId":` + id + `,"k":1}}}`)
		for n := range 3 {
			w.update("file:///readme", fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:///readme#%d"}}`, n))
		}
		for n := range 3 {
			expect(fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{`+stamp+`,"uri":"file:///readme#%d"}}`, n))
		}
		s.cancel()
		eventually(t, "the backend watches no more", func() bool { return w.hasEnded("file:///readme") })
		delete(w.ended, "file:///readme")
	}
}

// TestListenEnds: when the gateway closes, a subscription has a result.
func TestListenEnds(t *testing.T) {
	f := start(t, gateway.Options{})
	s := f.as(modern, "").stream(`"l"`, "subscriptions/listen", `"notifications":{"toolsListChanged":true}`, "")
	s.next()
	if err := f.Gateway.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := s.rest()
	if len(got) != 1 {
		t.Fatalf("heard %q", got)
	}
	var m struct {
		ID     string
		Result struct {
			ResultType string
			Meta       map[string]any `json:"_meta"`
		}
	}
	if err := json.Unmarshal([]byte(got[0]), &m); err != nil || m.ID != "l" || m.Result.ResultType != "complete" ||
		m.Result.Meta["io.modelcontextprotocol/subscriptionId"] != "l" {
		t.Errorf("ended with %s, %v", got[0], err)
	}
}

func TestListenRefuses(t *testing.T) {
	f := start(t, gateway.Options{Limits: gateway.Limits{Streams: 1, Subscriptions: 2}})
	c := f.as(modern, "")
	for params, want := range map[string]int{
		``: 400, `"notifications":7`: 400, `"notifications":{"toolsListChanged":"yes"}`: 400,
		`"notifications":{"resourceSubscriptions":["a:1","a:2","a:3"]}`: 400,
	} {
		if response, body := c.do("1", "subscriptions/listen", params, ""); response.StatusCode != want || !strings.Contains(body, "-32602") {
			t.Errorf("%s: %s %s", params, response.Status, body)
		}
	}
	first := c.stream("1", "subscriptions/listen", `"notifications":{}`, "")
	first.next()
	if response, _ := c.do("2", "subscriptions/listen", `"notifications":{}`, ""); response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
		t.Errorf("a stream too many: %s", response.Status)
	}
	if s := f.as(legacy, `{}`).get(""); s.status != 503 {
		t.Errorf("a stream of the other era too many: %d", s.status)
	}
	first.cancel()
	eventually(t, "there is room again", func() bool {
		s := c.stream("3", "subscriptions/listen", `"notifications":{}`, "")
		defer s.cancel()
		return s.status == 200
	})
	if _, body := f.as(legacy, `{}`).do("1", "subscriptions/listen", `"notifications":{}`, ""); !strings.Contains(body, "-32601") {
		t.Errorf("in the legacy era: %s", body)
	}
}

func TestListenHeartbeat(t *testing.T) {
	f := start(t, gateway.Options{Limits: gateway.Limits{Heartbeat: 5 * time.Millisecond}})
	body, headers := f.as(modern, "").request("1", "subscriptions/listen", `"notifications":{}`, "")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.endpoint(), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var read strings.Builder
	for buffer := make([]byte, 1024); strings.Count(read.String(), "\n: \n") < 2; {
		n, err := response.Body.Read(buffer)
		read.Write(buffer[:n])
		if err != nil {
			t.Fatalf("%v after %q", err, read.String())
		}
	}
}

// TestInputRequired goes round twice: what the backend gave as its state comes back to it as it was, and only from this client for this request.
func TestInputRequired(t *testing.T) {
	var requests []string
	results := []string{
		`{"resultType":"input_required","inputRequests":{"k":{"method":"elicitation/create","params":{"x":1}}},"requestState":"a\"\u0041\n"}`,
		`{"resultType":"input_required","inputRequests":{"k":{"method":"roots/list"}}}`,
		`{"resultType":"complete","content":[]}`,
	}
	f := start(t, gateway.Options{Principal: func(r *http.Request) string { return r.Header.Get("Who") },
		Upstreams: exchanges(func(_ context.Context, r *relay.Request, _ relay.Sink) (*relay.Answer, error) {
			requests = append(requests, outgoing(r))
			return answeredIn(relay.Modern, `"result":`+results[min(len(requests), len(results))-1])
		})})
	f.SetSnapshot(snapshot(backend.Inventory{Tools: items("name", `{"name":"search","inputSchema":{"type":"object"}}`, `{"name":"other","inputSchema":{"type":"object"}}`)}))
	c := f.as(modern, "")
	type result struct {
		ResultType    string
		InputRequests json.RawMessage
		RequestState  *string
		Meta          map[string]any `json:"_meta"`
	}
	ask := func(who, tool, more string) (result, string) {
		t.Helper()
		body, headers := c.request("1", "tools/call", `"name":"`+tool+`"`+more, "")
		_, answer := f.do(http.MethodPost, gateway.Path, body, append(headers, "Who", who)...)
		var m struct{ Result result }
		if err := json.Unmarshal([]byte(answer), &m); err != nil {
			t.Fatalf("%s: %v", answer, err)
		}
		return m.Result, answer
	}
	first, text := ask("alice", "docs_search", "")
	if first.ResultType != "input_required" || string(first.InputRequests) != `{"k":{"method":"elicitation/create","params":{"x":1}}}` ||
		first.RequestState == nil || strings.Contains(*first.RequestState, "A") && *first.RequestState == `a"A`+"\n" || first.Meta["io.modelcontextprotocol/serverInfo"] == nil {
		t.Fatalf("got %s", text)
	}
	retry := `,"inputResponses":{"k":{"action":"accept"}},"requestState":"` + *first.RequestState + `"`
	for name, tc := range map[string]struct{ who, tool, more string }{
		"another principal": {"bob", "docs_search", retry},
		"another tool":      {"alice", "docs_other", retry},
		"forged":            {"alice", "docs_search", `,"requestState":"a"`},
		"no string":         {"alice", "docs_search", `,"requestState":{}`},
		"input: a number":   {"alice", "docs_search", `,"inputResponses":12345`},
		"input: an array":   {"alice", "docs_search", `,"inputResponses":[{"action":"accept"}]`},
		"input: no result":  {"alice", "docs_search", `,"inputResponses":{"j":{"action":"decline"},"k":"yes"}`},
		"input: twice":      {"alice", "docs_search", `,"inputResponses":{},"inputResponses":{"k":{"action":"accept"}}`},
		"changed":           {"alice", "docs_search", strings.Replace(retry, *first.RequestState, (*first.RequestState)[1:], 1)},
	} {
		if _, text := ask(tc.who, tc.tool, tc.more); !strings.Contains(text, "-32602") || len(requests) != 1 {
			t.Errorf("%s: %s, %d requests", name, text, len(requests))
		}
	}
	second, text := ask("alice", "docs_search", retry)
	if second.ResultType != "input_required" || second.RequestState != nil {
		t.Errorf("got %s", text)
	}
	if !strings.Contains(requests[1], `"name":"search","inputResponses":{"k":{"action":"accept"}},"requestState":"a\"\u0041\n",`) {
		t.Errorf("the backend got %s", requests[1])
	}
	if third, text := ask("alice", "docs_search", `,"inputResponses":{}`); third.ResultType != "complete" {
		t.Errorf("without a state: %s", text)
	}
}

// TestResultTypes: what is no result of the method is the backend's fault.
func TestResultTypes(t *testing.T) {
	for name, tc := range map[string]struct {
		era    string
		from   relay.Era
		method string
		params string
		result string
		want   string
	}{
		"modern, unknown type":             {modern, relay.Modern, "tools/call", `"name":"docs_search"`, `{"resultType":"task"}`, "malformed"},
		"modern, type that is none":        {modern, relay.Modern, "prompts/get", `"name":"docs_greet"`, `{"resultType":7}`, "malformed"},
		"modern, input where none can be":  {modern, relay.Modern, "completion/complete", `"ref":{"type":"ref/prompt","name":"docs_greet"}`, `{"resultType":"input_required"}`, "malformed"},
		"modern, state that is none":       {modern, relay.Modern, "tools/call", `"name":"docs_search"`, `{"resultType":"input_required","requestState":{}}`, "malformed"},
		"modern, foreign field":            {modern, relay.Legacy, "tools/call", `"name":"docs_search"`, `{"resultType":"own"}`, `"resultType":"complete"`},
		"modern, empty result":             {modern, relay.Legacy, "resources/read", `"uri":"db://x"`, `{ }`, `{"resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"team","version":"v1"}},"ttlMs":0,"cacheScope":"private" }`},
		"modern, hints of the backend":     {modern, relay.Modern, "resources/read", `"uri":"db://x"`, `{"resultType":"complete","ttlMs":5,"cacheScope":"public"}`, `"resultType":"complete","ttlMs":5,"cacheScope":"public"}`},
		"modern, wrong hints":              {modern, relay.Modern, "resources/read", `"uri":"db://x"`, `{"resultType":"complete","ttlMs":-5,"cacheScope":"all"}`, `"ttlMs":0,"cacheScope":"private"}`},
		"modern, the backend's serverInfo": {modern, relay.Modern, "tools/call", `"name":"docs_search"`, `{"resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"b"},"k":1}}`, `{"resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"team","version":"v1"},"k":1}}`},
		"modern, _meta that is none":       {modern, relay.Modern, "tools/call", `"name":"docs_search"`, `{"resultType":"complete","_meta":7}`, `"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"team","version":"v1"}}`},
		"legacy, input":                    {legacy, relay.Modern, "tools/call", `"name":"docs_search"`, `{"resultType":"input_required"}`, "needs input"},
		"legacy, structure of another era": {legacy, relay.Modern, "tools/call", `"name":"docs_search"`, `{"content":[],"structuredContent":[1,2],"x":1}`, `"result":{"x":1,"content":[{"type":"text","text":"[1,2]"}]}}`},
		"legacy, its text":                 {legacy, relay.Modern, "tools/call", `"name":"docs_search"`, `{"content":[{"type":"text","text":"t"}],"structuredContent":7}`, `"result":{"content":[{"type":"text","text":"t"}]}}`},
		"2025-06-18, link":                 {"2025-06-18", relay.Legacy, "tools/call", `"name":"docs_search"`, `{"content":[{"type":"resource_link","uri":"a://b","name":"n"}]}`, `{"content":[{"type":"resource_link","uri":"a://b","name":"n"}]}`},
		"2025-03-26, link of a tool": {"2025-03-26", relay.Legacy, "tools/call", `"name":"docs_search"`, `{"content":[{"type":"text","text":"t"},{"type":"resource_link","uri":"a://b","name":"n","description":"\"d\"","annotations":{"priority":1}}],"x":1}`,
			`"result":{"content":[{"type":"text","text":"t"},{"type":"text","text":"n: a://b\n\"d\"","annotations":{"priority":1}}],"x":1}`},
		"2025-03-26, link of a modern tool": {"2025-03-26", relay.Modern, "tools/call", `"name":"docs_search"`, `{"resultType":"complete","content":[{"type":"resource_link","uri":"a://b","name":"n"}],"structuredContent":7}`,
			`"content":[{"type":"text","text":"n: a://b"}]}`},
		"2025-03-26, link of a prompt": {"2025-03-26", relay.Legacy, "prompts/get", `"name":"docs_greet"`, `{"messages":[{"role":"user","content":{"type":"resource_link","uri":"a://b"}}]}`, `{"messages":[{"role":"user","content":{"type":"text","text":"a://b"}}]}`},
		"legacy, structure of its own": {legacy, relay.Modern, "tools/call", `"name":"docs_search"`, `{"structuredContent":{"a":1}}`, `"result":{"structuredContent":{"a":1}}}`},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, gateway.Options{Upstreams: exchanges(func(context.Context, *relay.Request, relay.Sink) (*relay.Answer, error) {
				return answeredIn(tc.from, `"result":`+tc.result)
			})})
			_, body := f.as(tc.era, `{}`).do("1", tc.method, tc.params, "")
			if !strings.Contains(body, tc.want) {
				t.Errorf("got %s", body)
			}
			if !json.Valid([]byte(body)) {
				t.Errorf("no JSON: %s", body)
			}
		})
	}
}
