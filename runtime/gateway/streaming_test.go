// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/runtime/gateway"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
)

// sse is one event of a stream.
type sse struct{ id, data string }

// streaming is an answer that is read as it comes.
type streaming struct {
	t      *testing.T
	status int
	header http.Header
	events chan sse
	cancel context.CancelFunc
}

// stream sends a request and reads the answer as events; an answer that is no stream is one event without an id.
func (f *fixture) stream(method, body string, headers ...string) *streaming {
	f.t.Helper()
	ctx, cancel := context.WithCancel(f.t.Context())
	r, err := http.NewRequestWithContext(ctx, method, f.endpoint(), strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(r) //nolint:bodyclose // the goroutine closes it
	if err != nil {
		cancel()
		f.t.Fatal(err)
	}
	s := &streaming{t: f.t, status: response.StatusCode, header: response.Header, events: make(chan sse, 1000), cancel: cancel}
	f.t.Cleanup(cancel)
	go func() {
		defer close(s.events)
		defer response.Body.Close()
		isStream := strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream")
		lines := bufio.NewScanner(response.Body)
		lines.Buffer(nil, 1<<20)
		var e sse
		for lines.Scan() {
			line := lines.Text()
			switch id, isID := strings.CutPrefix(line, "id: "); {
			case !isStream:
				s.events <- sse{data: line}
			case isID:
				e.id = id
			case strings.HasPrefix(line, "data: "):
				e.data = line[len("data: "):]
			case line == "" && e != (sse{}):
				s.events <- e
				e = sse{}
			}
		}
	}()
	return s
}

// next is the next event that is not the priming one, and false at the end.
func (s *streaming) next() (sse, bool) {
	s.t.Helper()
	for {
		select {
		case e, ok := <-s.events:
			if ok && e.data == "" {
				continue
			}
			return e, ok
		case <-time.After(10 * time.Second):
			s.t.Fatal("nothing came on the stream")
		}
	}
}

// rest are the data of all events to come.
func (s *streaming) rest() (all []string) {
	s.t.Helper()
	for {
		e, ok := s.next()
		if !ok {
			return all
		}
		all = append(all, e.data)
	}
}

// caller is how a client of one era sends requests.
type caller struct {
	f       *fixture
	era     string
	session string
}

// as begins a session, if the era has any.
func (f *fixture) as(era string, capabilities string) *caller {
	f.t.Helper()
	c := &caller{f: f, era: era}
	if era == modern {
		return c
	}
	response, body := f.do(http.MethodPost, gateway.Path, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"`+era+
		`","capabilities":`+capabilities+`,"clientInfo":{"name":"raw","version":"1"}}}`)
	if c.session = response.Header.Get("Mcp-Session-Id"); c.session == "" || !strings.Contains(body, era) {
		f.t.Fatalf("initialize: %s %s", response.Status, body)
	}
	return c
}

// request makes a request and its headers. params are the members of params but for those that the era wants.
func (c *caller) request(id, method, params, meta string) (body string, headers []string) {
	headers = []string{"Mcp-Protocol-Version", c.era}
	if c.era != modern {
		headers = append(headers, "Mcp-Session-Id", c.session)
	} else {
		headers = append(headers, "Mcp-Method", method)
		var named struct{ Name, URI string }
		if json.Unmarshal([]byte("{"+params+"}"), &named) == nil && named.Name+named.URI != "" {
			headers = append(headers, "Mcp-Name", named.Name+named.URI)
		}
		if meta != "" {
			meta += ","
		}
		meta += `"io.modelcontextprotocol/protocolVersion":"` + modern + `","io.modelcontextprotocol/clientCapabilities":{"elicitation":{}}`
	}
	if params != "" {
		params += ","
	}
	return `{"jsonrpc":"2.0","id":` + id + `,"method":"` + method + `","params":{` + params + `"_meta":{` + meta + `}}}`, headers
}

func (c *caller) stream(id, method, params, meta string) *streaming {
	c.f.t.Helper()
	body, headers := c.request(id, method, params, meta)
	return c.f.stream(http.MethodPost, body, headers...)
}

func (c *caller) do(id, method, params, meta string) (answered, string) {
	c.f.t.Helper()
	body, headers := c.request(id, method, params, meta)
	return c.f.do(http.MethodPost, gateway.Path, body, headers...)
}

// get opens the stream of the session, or resumes one.
func (c *caller) get(last string) *streaming {
	c.f.t.Helper()
	headers := []string{"Mcp-Protocol-Version", c.era, "Mcp-Session-Id", c.session}
	if last != "" {
		headers = append(headers, "Last-Event-ID", last)
	}
	return c.f.stream(http.MethodGet, "", headers...)
}

// say sends a message of the legacy era that is no request.
func (c *caller) say(body string) answered {
	c.f.t.Helper()
	response, _ := c.f.do(http.MethodPost, gateway.Path, body, "Mcp-Session-Id", c.session)
	return response
}

// progress is a notification of the edge, with its own token.
func progress(n int, message string) rpc.Message {
	return parsed(fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"edge","progress":%d,"message":%q}}`, n, message))
}

const progressCallers, progressNotifications = 16, 100

// expectOwnProgress makes calls side by side of a tool that tells of its progress; each caller shall get exactly its own, in order.
func expectOwnProgress(t *testing.T, f *fixture, version string, withGET bool) {
	t.Helper()
	c := f.as(version, `{}`)
	var standing *streaming
	if withGET {
		standing = c.get("")
	}
	var calling sync.WaitGroup
	for n := range progressCallers {
		calling.Go(func() {
			s := c.stream(fmt.Sprint(n), "tools/call", fmt.Sprintf(`"name":"docs_search","arguments":{"n":%d}`, n), fmt.Sprintf(`"progressToken":"token %d"`, n))
			got := s.rest()
			if len(got) != progressNotifications+1 {
				t.Errorf("call %d got %d messages", n, len(got))
				return
			}
			for i, text := range got[:progressNotifications] {
				var m struct {
					Method string
					Params struct {
						ProgressToken, Message string
						Progress               int
					}
				}
				if err := json.Unmarshal([]byte(text), &m); err != nil || m.Method != "notifications/progress" || m.Params.Progress != i ||
					m.Params.ProgressToken != fmt.Sprintf("token %d", n) || m.Params.Message != fmt.Sprint(n) {
					t.Errorf("as notification %d call %d heard %s, %v", i, n, text, err)
				}
			}
			if last := parsed(got[progressNotifications]); string(last.ID.Of(last.Raw)) != fmt.Sprint(n) || !strings.Contains(string(last.Body.Of(last.Raw)), fmt.Sprintf(`own %d.`, n)) {
				t.Errorf("call %d ended with %s", n, last.Raw)
			}
		})
	}
	calling.Wait()
	if withGET {
		standing.cancel()
		if got := standing.rest(); len(got) > 0 {
			t.Errorf("the stream of the session heard %q", got)
		}
	}
}

func TestProgressOfParallelCalls(t *testing.T) {
	chatty := func(_ context.Context, r *relay.Request, sink relay.Sink) (*relay.Answer, error) {
		n := string(rpc.Find(r.Message.Raw, rpc.Find(r.Message.Raw, r.Message.Params, "arguments")[0], "n")[0].Of(r.Message.Raw))
		for i := range progressNotifications {
			if err := sink.Notify(progress(i, n)); err != nil {
				return nil, err
			}
		}
		return answeredIn(r.Era, `"result":{"content":[{"type":"text","text":"own `+n+`."}]}`)
	}
	for _, era := range []string{legacy, modern, legacy + " with GET"} {
		t.Run(era, func(t *testing.T) {
			version, withGET := strings.CutSuffix(era, " with GET")
			expectOwnProgress(t, start(t, gateway.Options{Upstreams: exchanges(chatty)}), version, withGET)
		})
	}
}

// TestWhatIsHeardDuringACall: only what concerns the call and what the client wants.
func TestWhatIsHeardDuringACall(t *testing.T) {
	log := func(level string) string {
		return `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"` + level + `","data":1}}`
	}
	said := []string{
		`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}`,
		log("debug"), log("info"), log("error"),
		`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`,
		`{"jsonrpc":"2.0","method":"notifications/elicitation/complete","params":{"elicitationId":"x"}}`,
		`{"jsonrpc":"2.0","method":"notifications/message",` + "\n" + `"params":{"level":"critical","data":"two\nlines"}}`,
	}
	upstream := &fake{exchange: func(_ context.Context, r *relay.Request, sink relay.Sink) (*relay.Answer, error) {
		for _, text := range said {
			if err := sink.Notify(parsed(text)); err != nil {
				return nil, err
			}
		}
		return answeredIn(r.Era, `"result":{}`)
	}}
	critical := `{"jsonrpc":"2.0","method":"notifications/message", "params":{"level":"critical","data":"two\nlines"}}`
	for name, tc := range map[string]struct {
		era, level, meta string
		want             []string
	}{
		"legacy":                       {legacy, "", "", []string{said[2], said[3], said[5], critical}},
		"legacy, with progress":        {legacy, "", `"progressToken":1`, []string{said[0], said[2], said[3], said[5], critical}},
		"legacy, with a level":         {legacy, "error", "", []string{said[3], said[5], critical}},
		"legacy, everything":           {legacy, "debug", "", []string{said[1], said[2], said[3], said[5], critical}},
		"modern":                       {modern, "", "", nil},
		"modern, with progress":        {modern, "", `"progressToken":1`, []string{said[0]}},
		"modern, with a level":         {modern, "", `"io.modelcontextprotocol/logLevel":"error"`, []string{said[3], critical}},
		"modern, with both":            {modern, "", `"progressToken":1,"io.modelcontextprotocol/logLevel":"emergency"`, []string{said[0]}},
		"legacy, of an older revision": {"2025-03-26", "", "", []string{said[2], said[3], said[5], critical}},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, gateway.Options{Upstreams: only{upstream}})
			c := f.as(tc.era, `{}`)
			if tc.level != "" {
				if _, body := c.do("1", "logging/setLevel", `"level":"`+tc.level+`"`, ""); !strings.Contains(body, `"result":{}`) {
					t.Fatal(body)
				}
			}
			got := c.stream("1", "tools/call", `"name":"docs_search"`, tc.meta).rest()
			if len(got) == 0 || !strings.Contains(got[len(got)-1], `"result"`) || !slices.Equal(got[:len(got)-1], tc.want) {
				t.Errorf("heard %q", got)
			}
			if opened := upstream.opened(); tc.level != "" && !slices.Equal(opened[len(opened)-1].told(), []string{"level " + tc.level}) {
				t.Errorf("the backend was told %q", opened[len(opened)-1].told())
			}
		})
	}
}

// TestClientsWithoutStreams get an answer in JSON whatever is said before it.
func TestClientsWithoutStreams(t *testing.T) {
	eras(t, func(t *testing.T, era string) {
		f := start(t, gateway.Options{Upstreams: exchanges(func(_ context.Context, r *relay.Request, sink relay.Sink) (*relay.Answer, error) {
			if err := sink.Notify(progress(1, "")); err != nil {
				return nil, err
			}
			return answeredIn(r.Era, `"result":{"content":[]}`)
		})})
		c := f.as(era, `{}`)
		body, headers := c.request("1", "tools/call", `"name":"docs_search"`, `"progressToken":1`)
		response, answer := f.do(http.MethodPost, gateway.Path, body, append(headers, "Accept", "application/json")...)
		if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "application/json" || !strings.Contains(answer, `"result"`) {
			t.Errorf("%s %s", response.Status, answer)
		}
	})
}

// TestHeartbeatOfCalls: a call that takes long is answered on a stream with comments, so that nobody on the way takes it for dead.
func TestHeartbeatOfCalls(t *testing.T) {
	eras(t, func(t *testing.T, era string) {
		b := newStepwise()
		f := start(t, gateway.Options{Upstreams: exchanges(b.exchange), Limits: gateway.Limits{Heartbeat: 5 * time.Millisecond}})
		c := f.as(era, `{}`)
		for _, accept := range []string{"application/json, text/event-stream", "application/json"} {
			body, headers := c.request("1", "tools/call", `"name":"docs_search"`, "")
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.endpoint(), strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Accept", accept)
			for i := 0; i < len(headers); i += 2 {
				r.Header.Set(headers[i], headers[i+1])
			}
			if accept == "application/json" {
				go func() {
					for range 3 {
						b.steps <- 1
					}
					b.steps <- -1
				}()
			}
			response, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			if accept == "application/json" {
				if text, err := io.ReadAll(response.Body); err != nil || response.Header.Get("Content-Type") != accept || !strings.Contains(string(text), `"result"`) {
					t.Errorf("%v %s, %v", response.Header, text, err)
				}
				response.Body.Close()
				continue
			}
			lines, comments, last := bufio.NewScanner(response.Body), 0, ""
			for lines.Scan() {
				switch line := lines.Text(); {
				case strings.HasPrefix(line, ":"):
					if comments++; comments == 3 {
						b.steps <- -1
					}
				case strings.HasPrefix(line, "data: {"):
					last = line
				}
			}
			response.Body.Close()
			if comments < 3 || !strings.Contains(last, `"id":1,"result"`) {
				t.Errorf("%d comments, then %s", comments, last)
			}
		}
	})
}

// asker is a backend that asks during a call and answers with what it was told.
func asker(method string) exchangeFunc {
	return func(ctx context.Context, r *relay.Request, sink relay.Sink) (*relay.Answer, error) {
		replies := make(chan string, 1)
		err := sink.Ask(parsed(`{"jsonrpc":"2.0","id":"theirs","method":"`+method+`","params":{"message":"?"}}`), func(m rpc.Message) {
			replies <- string(m.Body.Of(m.Raw))
		})
		if err != nil {
			return nil, err
		}
		select {
		case reply := <-replies:
			return answeredIn(r.Era, `"result":{"content":[],"reply":`+reply+`}`)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func TestAsks(t *testing.T) {
	for _, method := range []string{"elicitation/create", "sampling/createMessage", "roots/list"} {
		t.Run(method, func(t *testing.T) {
			f := start(t, gateway.Options{Upstreams: exchanges(asker(method))})
			c, other := f.as(legacy, `{"elicitation":{},"sampling":{},"roots":{}}`), f.as(legacy, `{}`)
			var seen []string
			for _, response := range []string{`"result":{"action":"accept"}`, `"error":{"code":-1,"message":"no"}`} {
				s := c.stream("1", "tools/call", `"name":"docs_search"`, "")
				e, _ := s.next()
				m := parsed(e.data)
				if m.Kind != rpc.Request || m.Method != method || string(m.Params.Of(m.Raw)) != `{"message":"?"}` || strings.Contains(e.data, "theirs") {
					t.Fatalf("the client is asked %s", e.data)
				}
				id := string(m.ID.Of(m.Raw))
				seen = append(seen, id)
				reply := `{"jsonrpc":"2.0","id":` + id + `,` + response + `}`
				for name, status := range map[string]int{
					"somebody else's":  other.say(reply).StatusCode,
					"one to nobody":    c.say(`{"jsonrpc":"2.0","id":"nobody","result":{}}`).StatusCode,
					"the one expected": c.say(reply).StatusCode,
					"a second one":     c.say(reply).StatusCode,
				} {
					if status != http.StatusAccepted {
						t.Errorf("%s: %d", name, status)
					}
				}
				_, want, _ := strings.Cut(response, ":")
				if last, _ := s.next(); !strings.Contains(last.data, `"reply":`+want) {
					t.Errorf("the backend heard %s", last.data)
				}
			}
			if seen[0] == seen[1] {
				t.Errorf("two asks have one id: %s", seen[0])
			}
		})
	}
}

// TestAsksThatCannotReachTheClient fail at the backend at once, not in the end.
func TestAsksThatCannotReachTheClient(t *testing.T) {
	f := start(t, gateway.Options{Upstreams: exchanges(asker("elicitation/create"))})
	for name, c := range map[string]*caller{"not declared": f.as(legacy, `{"sampling":{}}`), "another era": f.as(modern, "")} {
		if _, body := c.do("1", "tools/call", `"name":"docs_search"`, ""); !strings.Contains(body, `"reply":{"code":-32601`) {
			t.Errorf("%s: %s", name, body)
		}
	}
}

// TestWithdrawnAsk: a backend that no longer waits says so with its own id; the client knows another.
func TestWithdrawnAsk(t *testing.T) {
	f := start(t, gateway.Options{Upstreams: exchanges(func(_ context.Context, r *relay.Request, sink relay.Sink) (*relay.Answer, error) {
		err := errors.Join(
			sink.Ask(parsed(`{"jsonrpc":"2.0","id":7,"method":"roots/list"}`), func(rpc.Message) { t.Error("replied") }),
			sink.Notify(parsed(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":8}}`)),
			sink.Notify(parsed(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7,"reason":"late"}}`)),
		)
		if err != nil {
			return nil, err
		}
		return answeredIn(r.Era, `"result":{}`)
	})})
	c := f.as(legacy, `{"roots":{}}`)
	got := c.stream("1", "tools/call", `"name":"docs_search"`, "").rest()
	if len(got) != 3 {
		t.Fatalf("heard %q", got)
	}
	m := parsed(got[0])
	id := string(m.ID.Of(m.Raw))
	if want := `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":` + id + `,"reason":"late"}}`; got[1] != want {
		t.Errorf("heard %s, want %s", got[1], want)
	}
	c.say(`{"jsonrpc":"2.0","id":` + id + `,"result":{}}`)
}
