// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
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

// only answers the requests of one method.
func only(method string, answer func(w http.ResponseWriter, r *http.Request, m request)) func(http.ResponseWriter, *http.Request, request) bool {
	return func(w http.ResponseWriter, r *http.Request, m request) bool {
		if m.Method != method {
			return false
		}
		answer(w, r, m)
		return true
	}
}

func TestModern_Envelope(t *testing.T) {
	s, url := newModern(t, only("tools/call", func(w http.ResponseWriter, _ *http.Request, m request) { whole(w, m, `{"resultType":"complete"}`) }))
	c := backend.NewClient(backend.Target{Key: docs, URL: url, Transport: v1alpha1.TransportStreamableHTTP}, backend.Options{Name: "team", Version: "v1"})
	defer c.Close()
	for name, tc := range map[string]struct {
		era          relay.Era
		meta         string
		capabilities string
		level        string
		want         map[string]string // of _meta, besides what is always there
	}{
		"a modern client": {
			relay.Modern, `{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"sampling":{},"x":1},` +
				`"io.modelcontextprotocol/clientInfo":{"name":"me"},"io.modelcontextprotocol/logLevel":"debug","progressToken":"t","traceparent":"00-a-b-01","com.example/x":[1.50]}`,
			`{"sampling":{}}`, "warning",
			map[string]string{
				"io.modelcontextprotocol/clientCapabilities": `{"sampling":{}}`, "io.modelcontextprotocol/logLevel": `"warning"`,
				"traceparent": `"00-a-b-01"`, "com.example/x": `[1.50]`, "progressToken": "ID",
			},
		},
		"a legacy client": {
			relay.Legacy, `{"progressToken":7,"k":"v"}`, `{"sampling":{}}`, "",
			map[string]string{"io.modelcontextprotocol/clientCapabilities": `{}`, "k": `"v"`, "progressToken": "ID"},
		},
		"nothing": {relay.Legacy, "", "", "", map[string]string{"io.modelcontextprotocol/clientCapabilities": `{}`}},
	} {
		t.Run(name, func(t *testing.T) {
			params := `{"name":"mine_ä","arguments":{"n":12345678901234567890.10}}`
			if tc.meta != "" {
				params = strings.TrimSuffix(params, "}") + `,"_meta":` + tc.meta + `}`
			}
			r := message(t, tc.era, "tools/call", params)
			r.Capabilities, r.LogLevel = json.RawMessage(tc.capabilities), tc.level
			r.Name = "ä"
			r.Edits = []rpc.Edit{{At: rpc.Find(r.Message.Raw, r.Message.Params, "name")[0], Text: []byte(`"ä"`)}}
			r.Params = http.Header{"Mcp-Param-Region": {"north"}}
			answer, err := c.Exchange(deadline(t, 5*time.Second), r, nil)
			if result(t, answer, err); answer.Era != relay.Modern {
				t.Errorf("the answer is of era %s", answer.Era)
			}
			calls := s.all("tools/call")
			got := calls[len(calls)-1]
			want := map[string]string{
				"io.modelcontextprotocol/protocolVersion": `"2026-07-28"`, "io.modelcontextprotocol/clientInfo": `{"name":"team","version":"v1"}`,
			}
			for key, value := range tc.want {
				want[key] = strings.Replace(value, "ID", string(got.ID), 1)
			}
			had := map[string]string{}
			for key, value := range meta(t, got) {
				had[key] = string(value)
			}
			if diff := cmp.Diff(want, had); diff != "" {
				t.Error(diff)
			}
			if !strings.Contains(string(got.Params), `"name":"ä","arguments":{"n":12345678901234567890.10}`) {
				t.Errorf("params are %s", got.Params)
			}
			h := got.Header
			if h.Get("Mcp-Method") != "tools/call" || h.Get("Mcp-Name") != "=?base64?w6Q=?=" || h.Get("Mcp-Param-Region") != "north" ||
				h.Get("Mcp-Protocol-Version") != "2026-07-28" || h.Get("Mcp-Session-Id") != "" {
				t.Errorf("headers are %v", h)
			}
		})
	}
}

func TestModern_NotificationsOfACall(t *testing.T) {
	_, url := newModern(t, only("tools/call", func(w http.ResponseWriter, _ *http.Request, m request) {
		token := meta(t, m)["progressToken"]
		event(w, data(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":1}}`, token))
		event(w, data(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":4711,"progress":1}}`))
		event(w, data(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"low"}}`))
		event(w, data(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error","data":"high"}}`))
		event(w, data(`{"jsonrpc":"2.0","id":1,"method":"elicitation/create","params":{}}`))
		event(w, data(`{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete"}}`, m.ID))
	}))
	c := newClient(t, url, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	r := message(t, relay.Modern, "tools/call", `{"name":"a","_meta":{"progressToken":"t"}}`)
	r.LogLevel = "warning"
	sink := &recorder{}
	answer, err := c.Exchange(deadline(t, 5*time.Second), r, sink)
	result(t, answer, err)
	if len(sink.notes) != 2 || !strings.Contains(sink.notes[0], "progress") || !strings.Contains(sink.notes[1], "high") || len(sink.asked) != 0 {
		t.Errorf("got %q, asked %q", sink.notes, sink.asked)
	}
}

// A closed stream is the cancellation in this era.
func TestModern_Cancellation(t *testing.T) {
	begun, ended := make(chan struct{}), make(chan struct{})
	s, url := newModern(t, only("tools/call", func(w http.ResponseWriter, r *http.Request, _ request) {
		event(w, ": working")
		close(begun)
		<-r.Context().Done()
		close(ended)
	}))
	c := newClient(t, url, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	ctx, cancel := context.WithCancel(deadline(t, 10*time.Second))
	go func() { <-begun; cancel() }()
	if _, err := c.Exchange(ctx, message(t, relay.Modern, "tools/call", `{"name":"a"}`), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	<-ended
	if n := len(s.all("notifications/cancelled")); n != 0 {
		t.Errorf("%d notifications/cancelled", n)
	}
}

func TestModern_HeaderMismatchIsRepairedOnce(t *testing.T) {
	schema := `{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"}}}`
	for name, tc := range map[string]struct {
		schema string
		ok     bool
	}{"by the new schema": {schema, true}, "not at all": {`{"type":"object"}`, false}} {
		t.Run(name, func(t *testing.T) {
			var announced atomic.Int32
			s, url := newModern(t, func(w http.ResponseWriter, _ *http.Request, m request) bool {
				switch m.Method {
				case "tools/call":
					if m.Header.Get("Mcp-Param-Region") != "north" {
						failure(w, m, 400, -32020, `null`)
						return true
					}
					whole(w, m, `{}`)
				case "tools/list":
					whole(w, m, `{"tools":[{"name":"a","inputSchema":`+tc.schema+`}]}`)
				default:
					return false
				}
				return true
			})
			c := newClient(t, url, v1alpha1.TransportStreamableHTTP, backend.Limits{})
			c.OnListChanged(func() { announced.Add(1) })
			answer, err := c.Exchange(deadline(t, 5*time.Second), message(t, relay.Modern, "tools/call", `{"name":"a","arguments":{"region":"north"}}`), nil)
			var e *backend.RPCError
			if tc.ok {
				result(t, answer, err)
			} else if !errors.As(err, &e) || e.Code != backend.CodeHeaderMismatch {
				t.Errorf("got %v", err)
			}
			if n := len(s.all("tools/call")); n != 2 {
				t.Errorf("%d calls", n)
			}
			eventually(t, "the catalog is told", func() bool { return announced.Load() > 0 })
		})
	}
}

// A broken stream loses the request; only one that may be repeated is.
func TestModern_BrokenStream(t *testing.T) {
	for _, repeatable := range []bool{true, false} {
		t.Run(fmt.Sprint(repeatable), func(t *testing.T) {
			var calls atomic.Int32
			s, url := newModern(t, only("resources/read", func(w http.ResponseWriter, _ *http.Request, m request) {
				if calls.Add(1) == 1 {
					event(w, "id: 1", data(""))
					panic(http.ErrAbortHandler)
				}
				whole(w, m, `{"contents":[]}`)
			}))
			c := newClient(t, url, v1alpha1.TransportStreamableHTTP, backend.Limits{})
			r := message(t, relay.Modern, "resources/read", `{"uri":"x://y"}`)
			r.Repeatable = repeatable
			_, err := c.Exchange(deadline(t, 5*time.Second), r, nil)
			if (err == nil) != repeatable {
				t.Errorf("got %v", err)
			}
			if got := backend.Classify(docs, err).Reason; !repeatable && got != v1alpha1.ReasonConnectionFailed {
				t.Errorf("reason %s of %v", got, err)
			}
			all := s.all("resources/read")
			if repeatable && (len(all) != 2 || string(all[0].ID) == string(all[1].ID)) {
				t.Errorf("%d requests", len(all))
			}
		})
	}
}

func TestModern_InvalidHeaderAnnotationsDropATool(t *testing.T) {
	good := map[string]string{
		"plain":  `{"type":"object"}`,
		"one":    `{"type":"object","properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"object","properties":{"c":{"type":"boolean","x-mcp-header":"C"}}}}}`,
		"data":   `{"type":"object","properties":{"a":{"type":"object","default":{"x-mcp-header":"A"}}}}`,
		"schema": `true`,
	}
	bad := map[string]string{
		"number":     `{"type":"object","properties":{"a":{"type":"number","x-mcp-header":"A"}}}`,
		"object":     `{"type":"object","properties":{"a":{"type":"object","x-mcp-header":"A"}}}`,
		"no token":   `{"type":"object","properties":{"a":{"type":"string","x-mcp-header":"a b"}}}`,
		"no text":    `{"type":"object","properties":{"a":{"type":"string","x-mcp-header":7}}}`,
		"twice":      `{"type":"object","properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}}}`,
		"items":      `{"type":"object","properties":{"a":{"type":"array","items":{"type":"string","x-mcp-header":"A"}}}}`,
		"oneOf":      `{"type":"object","oneOf":[{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}]}`,
		"$defs":      `{"type":"object","$defs":{"d":{"type":"string","x-mcp-header":"A"}}}`,
		"$ref":       `{"type":"object","properties":{"a":{"$ref":"#/x","type":"string","x-mcp-header":"A"}}}`,
		"the root":   `{"type":"object","x-mcp-header":"A"}`,
		"additional": `{"type":"object","additionalProperties":{"type":"string","x-mcp-header":"A"}}`,
	}
	var tools []string
	for _, set := range []map[string]string{good, bad} {
		for name, schema := range set {
			tools = append(tools, fmt.Sprintf(`{"name":%q,"inputSchema":%s}`, name, schema))
		}
	}
	_, url := newModern(t, only("tools/list", func(w http.ResponseWriter, _ *http.Request, m request) {
		whole(w, m, `{"tools":[`+strings.Join(tools, ",")+`]}`)
	}))
	c := newClient(t, url, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	inventory, err := c.Inventory(deadline(t, 5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, tool := range inventory.Tools {
		got[tool.ID] = good[tool.ID]
	}
	if diff := cmp.Diff(good, got); diff != "" {
		t.Error(diff)
	}
}

func TestModern_ErrorsOfTheBackend(t *testing.T) {
	for _, tc := range []struct{ status, code int }{{404, -32601}, {400, -32602}, {400, -32021}, {200, -32603}, {400, 17}, {500, -32603}} {
		_, url := newModern(t, only("tools/call", func(w http.ResponseWriter, _ *http.Request, m request) {
			failure(w, m, tc.status, tc.code, `{"n":1.0}`)
		}))
		c := newClient(t, url, v1alpha1.TransportStreamableHTTP, backend.Limits{})
		answer, err := c.Exchange(deadline(t, 5*time.Second), message(t, relay.Modern, "tools/call", `{"name":"a"}`), nil)
		if err != nil || answer.Message.Kind != rpc.Failure || !strings.Contains(string(answer.Message.Raw), fmt.Sprintf(`"code":%d`, tc.code)) ||
			!strings.Contains(string(answer.Message.Raw), `{"n":1.0}`) || !answer.Message.ID.Exists() {
			t.Errorf("%+v: %+v, %v", tc, answer, err)
		}
	}
}
