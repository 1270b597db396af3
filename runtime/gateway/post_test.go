// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/runtime/gateway"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/session"
)

// serveRaw serves one request without a connection.
func serveRaw(h http.Handler, method, body string, headers ...string) (int, string) {
	r := httptest.NewRequest(method, "http://localhost"+gateway.Path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// TestEnvelopes goes through what is wrong with a message before anybody looks at what it asks for.
func TestEnvelopes(t *testing.T) {
	f := start(t, gateway.Options{Upstreams: failure(fmt.Errorf("must not be called"))})
	session := f.initialize()
	for name, tc := range map[string]struct {
		body    string
		headers []string
		status  int
		want    string
	}{
		"no JSON":                    {`{`, nil, 400, `"id":null,"error":{"code":-32700,`},
		"nothing":                    {``, nil, 400, `"code":-32700`},
		"no message":                 {`{}`, nil, 400, `"code":-32600`},
		"id null":                    {`{"jsonrpc":"2.0","id":null,"method":"ping"}`, nil, 400, `"code":-32600`},
		"another version":            {`{"jsonrpc":"1.0","id":1,"method":"ping"}`, nil, 400, `"code":-32600`},
		"nested too deep":            {`{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}}`, nil, 400, `"code":-32700`},
		"no session":                 {pingBody, nil, 400, `"id":1,"error":{"code":-32600,`},
		"unknown session":            {pingBody, []string{"Mcp-Session-Id", "x"}, 404, `"id":1,"error":{"code":-32600,`},
		"unknown method":             {`{"jsonrpc":"2.0","id":1,"method":"a/b"}`, []string{"Mcp-Session-Id", session}, 200, `"code":-32601`},
		"tasks":                      {`{"jsonrpc":"2.0","id":1,"method":"tasks/list"}`, []string{"Mcp-Session-Id", session}, 200, `"code":-32601`},
		"another era's method":       {`{"jsonrpc":"2.0","id":1,"method":"server/discover"}`, []string{"Mcp-Session-Id", session}, 200, `"code":-32601`},
		"no name":                    {`{"jsonrpc":"2.0","id":1,"method":"tools/call"}`, []string{"Mcp-Session-Id", session}, 200, `"code":-32602`},
		"name that is none":          {`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":7}}`, []string{"Mcp-Session-Id", session}, 200, `"code":-32602`},
		"two names":                  {`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"docs_search","name":"x"}}`, []string{"Mcp-Session-Id", session}, 200, `"code":-32602`},
		"level that is none":         {`{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"loud"}}`, []string{"Mcp-Session-Id", session}, 200, `"code":-32602`},
		"no reference":               {`{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{}}`, []string{"Mcp-Session-Id", session}, 200, `"code":-32602`},
		"reference to nobody":        {`{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"x"}}}`, []string{"Mcp-Session-Id", session}, 200, `"code":-32602`},
		"unserved revision":          {pingBody, []string{"Mcp-Session-Id", session, "Mcp-Protocol-Version", "2024-11-05"}, 400, `"code":-32600`},
		"future revision, modern":    {pingBody, []string{"Mcp-Protocol-Version", "v999.0.0"}, 400, `"code":-32602`},
		"modern response":            {`{"jsonrpc":"2.0","id":1,"result":{}}`, []string{"Mcp-Protocol-Version", modern}, 400, `"code":-32600`},
		"modern notification":        {`{"jsonrpc":"2.0","method":"notifications/x"}`, []string{"Mcp-Protocol-Version", modern}, 202, ``},
		"legacy notification":        {`{"jsonrpc":"2.0","method":"notifications/initialized"}`, []string{"Mcp-Session-Id", session}, 202, ``},
		"notification, no session":   {`{"jsonrpc":"2.0","method":"notifications/initialized"}`, nil, 400, `"id":null`},
		"batch of another revision":  {`[` + pingBody + `]`, []string{"Mcp-Session-Id", session}, 400, `"code":-32600`},
		"batch of no session":        {`[` + pingBody + `]`, nil, 400, `"code":-32600`},
		"batch that is no JSON":      {`[` + pingBody, []string{"Mcp-Session-Id", session}, 400, `"code":-32700`},
		"another content type":       {pingBody, []string{"Content-Type", "text/plain"}, 415, ``},
		"content type with a suffix": {pingBody, []string{"Content-Type", "application/json; charset=utf-8", "Mcp-Session-Id", session}, 200, `{"jsonrpc":"2.0","id":1,"result":{}}`},
	} {
		response, body := f.do(http.MethodPost, gateway.Path, tc.body, tc.headers...)
		if response.StatusCode != tc.status || !strings.Contains(body, tc.want) {
			t.Errorf("%s: %s %s", name, response.Status, body)
		}
	}
}

// TestForeignSessions: an id is good at any replica of the gateway, for the principal that it was given to.
func TestForeignSessions(t *testing.T) {
	key := session.Keys{Current: bytes.Repeat([]byte{7}, session.KeySize)}
	gatewayOf := func(uid string) *fixture {
		f := start(t, gateway.Options{UID: uid, Principal: func(r *http.Request) string { return r.Header.Get("Who") }})
		if err := f.SetKeys(key); err != nil {
			t.Fatal(err)
		}
		return f
	}
	a, replica, b := gatewayOf("a"), gatewayOf("a"), gatewayOf("b")
	response, _ := a.do(http.MethodPost, gateway.Path, initializeBody, "Who", "alice")
	id := response.Header.Get("Mcp-Session-Id")
	for name, tc := range map[string]struct {
		f    *fixture
		who  string
		want int
	}{"own": {a, "alice", 200}, "another replica": {replica, "alice", 200}, "another gateway": {b, "alice", 404}, "another principal": {a, "bob", 404}} {
		for _, body := range []string{pingBody, callBody, listBody, callBody} {
			if response, _ := tc.f.do(http.MethodPost, gateway.Path, body, "Who", tc.who, "Mcp-Session-Id", id); response.StatusCode != tc.want {
				t.Errorf("%s: %s to %s", name, response.Status, body)
			}
		}
	}
	if response, _ := a.do(http.MethodDelete, gateway.Path, "", "Who", "bob", "Mcp-Session-Id", id); response.StatusCode != http.StatusNotFound {
		t.Errorf("another principal ends it: %s", response.Status)
	}
}

// TestBatches are of one revision only (MCP 2025-03-26): all answers in one array, or on one stream.
func TestBatches(t *testing.T) {
	f := start(t, gateway.Options{Limits: gateway.Limits{Batch: 5}, Upstreams: exchanges(
		func(_ context.Context, r *relay.Request, sink relay.Sink) (*relay.Answer, error) {
			if r.Progress {
				if err := sink.Notify(progress(1, "")); err != nil {
					return nil, err
				}
			}
			return answeredIn(r.Era, `"result":{"content":[]}`)
		})})
	c := f.as("2025-03-26", `{}`)
	post := func(body string) (answered, string) {
		return f.do(http.MethodPost, gateway.Path, body, "Mcp-Session-Id", c.session)
	}
	const note = `{"jsonrpc":"2.0","method":"notifications/initialized"}`
	call := func(id, more string) string {
		return `{"jsonrpc":"2.0","id":` + id + `,"method":"tools/call","params":{"name":"docs_search"` + more + `}}`
	}
	response, body := post(` [` + pingBody + `,` + note + `, ` + call(`"c"`, "") + `,{"jsonrpc":"2.0","id":3,"method":"x"},7]`)
	var all []struct {
		ID     any
		Result map[string]any
		Error  *struct{ Code int }
	}
	if err := json.Unmarshal([]byte(body), &all); err != nil || response.StatusCode != http.StatusOK || len(all) != 4 {
		t.Fatalf("%s %s: %v", response.Status, body, err)
	}
	var summary []string
	for _, m := range all {
		code := 0
		if m.Error != nil {
			code = m.Error.Code
		}
		summary = append(summary, fmt.Sprintf("%v %d %d", m.ID, code, len(m.Result)))
	}
	slices.Sort(summary)
	if want := []string{"1 0 0", "3 -32601 0", "<nil> -32600 0", "c 0 1"}; !slices.Equal(summary, want) {
		t.Errorf("got %q", summary)
	}
	if response, body := post(`[` + note + `,` + note + `]`); response.StatusCode != http.StatusAccepted || body != "" {
		t.Errorf("notifications only: %s %s", response.Status, body)
	}
	got := f.stream(http.MethodPost, `[`+pingBody+`,`+call(`2`, `,"_meta":{"progressToken":"p"}`)+`]`, "Mcp-Session-Id", c.session).rest()
	answers := 0
	for _, text := range got {
		if strings.Contains(text, `"result"`) {
			answers++
		}
	}
	if len(got) != 3 || answers != 2 || !strings.Contains(got[0]+got[1], `"progressToken":"p"`) {
		t.Errorf("on a stream: %q", got)
	}
	for name, body := range map[string]string{
		"empty": `[]`, "too many": `[` + strings.Repeat(pingBody+`,`, 5) + pingBody + `]`, "initialize": `[` + initializeBody + `]`,
	} {
		if _, body := post(body); !strings.Contains(body, "-32600") {
			t.Errorf("%s: %s", name, body)
		}
	}
}

// TestInitialize touches no backend, whatever is asked for.
func TestInitialize(t *testing.T) {
	upstream := &fake{exchange: respond(`"result":{}`)}
	f := start(t, gateway.Options{Upstreams: only{upstream}, Instructions: `say "hi"`})
	for asked, want := range map[string]string{"2025-06-18": "2025-06-18", "2026-07-28": "2025-11-25", "1999-01-01": "2025-11-25"} {
		_, body := f.do(http.MethodPost, gateway.Path, strings.Replace(initializeBody, "2025-11-25", asked, 1))
		wanted := `{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"` + want + `","capabilities":{"tools":{"listChanged":true},"prompts":{"listChanged":true},` +
			`"resources":{"subscribe":true,"listChanged":true},"completions":{},"logging":{}},"serverInfo":{"name":"team","version":"v1"},"instructions":"say \"hi\""}}`
		if body != wanted {
			t.Errorf("%s: %s", asked, body)
		}
	}
	if n := len(upstream.opened()); n > 0 {
		t.Errorf("%d sessions with a backend", n)
	}
	_, body := f.as(modern, "").do("1", "server/discover", "", "")
	for _, want := range []string{`"supportedVersions":["2026-07-28","2025-11-25","2025-06-18","2025-03-26"]`, `"resultType":"complete"`, `"ttlMs":0`, `"instructions":"say \"hi\""`, `"subscribe":true`} {
		if !strings.Contains(body, want) || !json.Valid([]byte(body)) {
			t.Errorf("server/discover: %s", body)
		}
	}
}

// TestReplacedBackend: a session is with one backend, not with its name.
func TestReplacedBackend(t *testing.T) {
	first, second := &fake{exchange: respond(`"result":{}`)}, &fake{exchange: respond(`"result":{}`)}
	serving := backends{docs: first}
	f := start(t, gateway.Options{Upstreams: serving})
	c := f.as(legacy, `{"roots":{}}`)
	call := func() string {
		_, body := c.do("1", "tools/call", `"name":"docs_search"`, "")
		return body
	}
	call()
	call()
	serving[docs] = second
	call()
	if a, b := len(first.opened()), len(second.opened()); a != 1 || b != 1 {
		t.Fatalf("%d and %d sessions", a, b)
	}
	eventually(t, "the old session is closed", first.opened()[0].isClosed)
	if got := string(second.opened()[0].options.Capabilities); got != `{"roots":{}}` {
		t.Errorf("the backend may ask for %s", got)
	}
	delete(serving, docs)
	if body := call(); !strings.Contains(body, `"vmcp.dev/reason":"NotServed"`) {
		t.Errorf("while it is not served: %s", body)
	}
	f.do(http.MethodDelete, gateway.Path, "", "Mcp-Session-Id", c.session)
	eventually(t, "the session at the backend ends with the client's", second.opened()[0].isClosed)
}

func TestCallLimit(t *testing.T) {
	b := newStepwise()
	f := start(t, gateway.Options{Upstreams: exchanges(b.exchange), Limits: gateway.Limits{Calls: 1}})
	c := f.as(modern, "")
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.do("1", "tools/call", `"name":"docs_search"`, "")
	}()
	b.steps <- 1
	if response, body := c.do("2", "tools/call", `"name":"docs_search"`, ""); response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" || !strings.Contains(body, `"id":2`) {
		t.Errorf("a call too many: %s %s", response.Status, body)
	}
	if response, _ := c.do("3", "tools/list", "", ""); response.StatusCode != http.StatusOK {
		t.Errorf("a list meanwhile: %s", response.Status)
	}
	close(b.steps)
	<-done
}

// TestSlowClientsAreCut: one that does not read an answer holds the gateway no longer than it may.
func TestSlowClientsAreCut(t *testing.T) {
	big := strings.Repeat("x", 8<<20)
	ended := make(chan struct{}, 2)
	f := start(t, gateway.Options{Limits: gateway.Limits{WriteTimeout: 50 * time.Millisecond}, Upstreams: exchanges(
		func(ctx context.Context, r *relay.Request, sink relay.Sink) (*relay.Answer, error) {
			answer, err := answeredIn(r.Era, `"result":{"big":"`+big+`"}`)
			answer.Release = func() { ended <- struct{}{} }
			if r.Progress {
				for range 8 {
					if err := sink.Notify(parsed(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"message":"` + big[:1<<20] + `"}}`)); err != nil {
						return answer, nil //nolint:nilerr // the client is gone
					}
				}
			}
			return answer, err
		})})
	for _, meta := range []string{"", `"progressToken":1`} {
		body, headers := f.as(modern, "").request("1", "tools/call", `"name":"docs_search"`, meta)
		conn, err := net.Dial("tcp", f.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n", gateway.Path, len(body))
		for i := 0; i < len(headers); i += 2 {
			fmt.Fprintf(conn, "%s: %s\r\n", headers[i], headers[i+1])
		}
		fmt.Fprintf(conn, "\r\n%s", body)
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Fatal("a client that reads nothing is still waited for")
		}
	}
}

// TestSlowBodiesAreCut, and what the client says later is not waited for.
func TestSlowBodiesAreCut(t *testing.T) {
	f := start(t, gateway.Options{Limits: gateway.Limits{BodyTimeout: 20 * time.Millisecond}})
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", f.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", gateway.Path)
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 408 ") {
		t.Errorf("%s, %v", answer, err)
	}
}

// TestDeadlinesEndNoWaiting: neither that for a body nor that for an answer counts while a backend is waited for, whatever the protocol.
func TestDeadlinesEndNoWaiting(t *testing.T) {
	const limit = 30 * time.Millisecond
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		eras(t, func(t *testing.T, era string) {
			o := gateway.Options{Name: "team", Version: "v1", Limits: gateway.Limits{BodyTimeout: limit, WriteTimeout: limit}, Upstreams: exchanges(
				func(ctx context.Context, r *relay.Request, sink relay.Sink) (*relay.Answer, error) {
					patience := time.NewTimer(5 * limit)
					defer patience.Stop()
					for range 2 {
						select {
						case <-patience.C:
						case <-ctx.Done():
							return nil, ctx.Err()
						}
						if !r.Progress {
							break
						}
						if err := sink.Notify(progress(1, "")); err != nil {
							return nil, err
						}
						patience.Reset(5 * limit)
					}
					return answeredIn(r.Era, `"result":{"content":[]}`)
				})}
			g := gateway.New(o)
			g.SetSnapshot(standard())
			s := httptest.NewUnstartedServer(g.Handler())
			s.EnableHTTP2 = protocol == "HTTP/2.0"
			s.StartTLS()
			defer s.Close()
			defer g.Close(context.Background())
			f := &fixture{Gateway: g, Server: s, t: t, client: s.Client()}
			c := f.as(era, `{}`)
			for _, meta := range []string{"", `"progressToken":1`} {
				body, headers := c.request("1", "tools/call", `"name":"docs_search"`, meta)
				response, answer := f.do(http.MethodPost, gateway.Path, body, headers...)
				if response.Proto != protocol || !strings.Contains(answer, `"result":`) {
					t.Errorf("%s, meta {%s}: %s %s", response.Proto, meta, response.Status, answer)
				}
			}
		})
	}
}

// TestDrain: what is in flight when the gateway closes ends well and tells its client to go elsewhere; streams end at once.
func TestDrain(t *testing.T) {
	b := newStepwise()
	f := start(t, gateway.Options{Upstreams: exchanges(b.exchange)})
	c := f.as(legacy, `{}`)
	standing := c.get("")
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
	closed := make(chan error)
	go func() { closed <- f.Gateway.Close(context.Background()) }()
	if got := standing.rest(); len(got) > 0 {
		t.Errorf("the stream heard %q", got)
	}
	eventually(t, "new requests are refused", func() bool {
		response, _ := f.do(http.MethodPost, gateway.Path, initializeBody)
		return response.StatusCode == http.StatusServiceUnavailable && response.Header.Get("Retry-After") != ""
	})
	close(b.steps)
	if got := <-done; got.response.StatusCode != http.StatusOK || !strings.Contains(got.body, `"result"`) {
		t.Errorf("the call in flight: %s %s", got.response.Status, got.body)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// TestStreamsOfAGatewayThatDrains: a client that opens a stream meanwhile, or goes on with its own, is told to come back in a way after which
// it does so. Of the revisions before 2025-11-25 none knows events without a message.
func TestStreamsOfAGatewayThatDrains(t *testing.T) {
	f := start(t, gateway.Options{Upstreams: answer(`{"content":[]}`)})
	young, old := f.as(legacy, `{}`), f.as("2025-06-18", `{}`)
	before := <-young.get("").events
	if before.id == "" || before.data != "" {
		t.Fatalf("the stream begins with %+v", before)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := f.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		opened *streaming
		status int
		events int
	}{
		"a new stream":                       {young.get(""), http.StatusOK, 1},
		"one that goes on":                   {young.get(before.id), http.StatusOK, 1},
		"a new stream before 2025-11-25":     {old.get(""), http.StatusServiceUnavailable, 1},
		"one that goes on before 2025-11-25": {old.get(before.id), http.StatusServiceUnavailable, 1},
	} {
		events := 0
		for e := range tc.opened.events {
			events++
			if tc.status == http.StatusOK && (e.id == "" || e.data != "") {
				t.Errorf("%s: heard %+v", name, e)
			}
		}
		if tc.opened.status != tc.status || events != tc.events || (tc.opened.header.Get("Retry-After") == "") != (tc.status == http.StatusOK) {
			t.Errorf("%s: %d, %d events, %v", name, tc.opened.status, events, tc.opened.header)
		}
	}
}
