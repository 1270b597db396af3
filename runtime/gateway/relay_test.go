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
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/gateway"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
)

// richTool has everything in it that a typed round trip through a library loses.
const richTool = `{"name":"search","title":"Search","description":"<b>&amp;","inputSchema":{"$schema":"https://json-schema.org/draft/2020-12/schema",` +
	`"$id":"urn:x","$defs":{"d":{"$ref":"#/$defs/d"}},"x-vendor":{"k":[null]},"unevaluatedProperties":{"$ref":"#/$defs/d"},"type":"object","properties":{"a":{"type":"string","x-mcp-header":"not a token"}},"allOf":[{"required":["a"]}],` +
	`"if":{"properties":{"a":{"const":1}}},"then":{"minProperties":2},"else":false,"additionalProperties":false,"default":{"big":12345678901234567890}},` +
	`"outputSchema":{"type":"object","oneOf":[{},{}]},"annotations":{"readOnlyHint":true,"com.example/own":1},"icons":[{"src":"data:,","sizes":["any"]}],` +
	`"_meta":{"com.example/k":{"v":[1,2]}},"unheardOf":{"future":true}}`

func TestListsAreTheBackendsBytes(t *testing.T) {
	prompt := `{"name":"greet","arguments":[{"name":"who","required":true,"later":1}],"icons":[],"x":null}`
	resource := `{"uri":"file:///readme","name":"readme","size":12345678901234567890,"annotations":{"audience":["user"],"own":1},"x":1}`
	template := `{"uriTemplate":"db://{table}","name":"rows","_meta":{"a":1},"x":1}`
	pretty := "{\n  \"name\": \"pretty\",\r\n  \"inputSchema\": {\"type\": \"object\"}\n}"
	eras(t, func(t *testing.T, era string) {
		f := start(t, gateway.Options{})
		f.SetSnapshot(snapshot(backend.Inventory{
			Tools: items("name", richTool, pretty), Prompts: items("name", prompt),
			Resources: items("uri", resource), Templates: items("uriTemplate", template),
		}))
		for method, want := range map[string]struct{ field, entries string }{
			"tools/list": {"tools", "[" + strings.Replace(richTool, `"name":"search"`, `"name":"docs_search"`, 1) +
				`,{"name":"docs_pretty","inputSchema":{"type":"object"}}]`},
			"prompts/list":             {"prompts", "[" + strings.Replace(prompt, "greet", "docs_greet", 1) + "]"},
			"resources/list":           {"resources", "[" + resource + "]"},
			"resources/templates/list": {"resourceTemplates", "[" + template + "]"},
		} {
			m := f.ask(era, method, `{}`)
			if m.Error != nil || string(m.ID) != `"req-1"` {
				t.Fatalf("%s: %+v", method, m)
			}
			fields := map[string]json.RawMessage{}
			if err := json.Unmarshal(m.Result, &fields); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want.entries, string(fields[want.field])); diff != "" {
				t.Errorf("%s: %s", method, diff)
			}
			if _, ok := fields["nextCursor"]; ok {
				t.Errorf("%s: a cursor in %s", method, m.Result)
			}
			if got := string(fields["resultType"]); era == modern && got != `"complete"` || era == legacy && got != "" {
				t.Errorf("%s: resultType %s", method, got)
			}
		}
		if m := f.ask(era, "tools/list", `{"cursor":"never given"}`); m.Error == nil || m.Error.Code != backend.CodeInvalidParams {
			t.Errorf("an unknown cursor: %+v", m)
		}
	})
}

func TestResultsAreTheBackendsBytes(t *testing.T) {
	results := map[string]string{
		"tools/call": `{"content":[{"type":"text","text":"<&>","annotations":{"x":1}},{"type":"hologram","data":[1e400]},` +
			`{"type":"resource_link","uri":"x://y","name":"y","own":1}],"structuredContent":{"n":12345678901234567890},"isError":true,` +
			`"_meta":{"com.example/k":1},"unheardOf":[null]}`,
		"prompts/get":    `{"description":"d","messages":[{"role":"user","content":{"type":"hologram","x":1}}],"own":{"x":1}}`,
		"resources/read": `{"contents":[{"uri":"file:///readme","blob":"AA==","own":1},{"uri":"x://other","text":"t"}],"own":1}`,
	}
	eras(t, func(t *testing.T, era string) {
		f := start(t, gateway.Options{Upstreams: exchanges(
			func(_ context.Context, r *relay.Request, _ relay.Sink) (*relay.Answer, error) {
				return answeredIn(r.Era, `"result":`+results[r.Message.Method])
			})})
		for method, params := range map[string]string{
			"tools/call": `{"name":"docs_search"}`, "prompts/get": `{"name":"docs_greet"}`, "resources/read": `{"uri":"file:///readme"}`,
		} {
			m := f.ask(era, method, params)
			if m.Error != nil {
				t.Fatalf("%s: %+v", method, m.Error)
			}
			if era == legacy {
				if diff := cmp.Diff(results[method], string(m.Result)); diff != "" {
					t.Errorf("%s: %s", method, diff)
				}
				continue
			}
			// This revision adds fields of the gateway's; those of the backend stay.
			var want, got map[string]json.RawMessage
			if err := errors.Join(json.Unmarshal([]byte(results[method]), &want), json.Unmarshal(m.Result, &got)); err != nil {
				t.Fatal(err)
			}
			for field, value := range want {
				if field != "_meta" && string(got[field]) != string(value) {
					t.Errorf("%s: %s is %s, want %s", method, field, got[field], value)
				}
			}
			var meta map[string]json.RawMessage
			if err := json.Unmarshal(got["_meta"], &meta); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(meta["io.modelcontextprotocol/serverInfo"]), `"team"`) || string(got["resultType"]) != `"complete"` {
				t.Errorf("%s: %s", method, m.Result)
			}
			if method == "tools/call" && string(meta["com.example/k"]) != "1" {
				t.Errorf("the backend's _meta is %s", got["_meta"])
			}
			if method == "resources/read" && (string(got["ttlMs"]) != "0" || string(got["cacheScope"]) != `"private"`) {
				t.Errorf("cache hints: %s", m.Result)
			}
		}
	})
}

// asked is what the front says of a request.
type asked struct {
	Body         string
	Name         string
	Era          relay.Era
	Capabilities string
	LogLevel     string
	Progress     bool
	Repeatable   bool
	Params       http.Header
}

func TestWhatTheBackendIsAsked(t *testing.T) {
	const envelope = `"_meta":{"progressToken":7,"traceparent":"00-1","io.modelcontextprotocol/protocolVersion":"2026-07-28",` +
		`"io.modelcontextprotocol/clientCapabilities":{"sampling":{},"x":1},"io.modelcontextprotocol/logLevel":"info"}`
	const own = `"_meta":{"progressToken":7}`
	header := `{"name":"headed","inputSchema":{"type":"object","properties":{"r":{"type":"string","x-mcp-header":"Region"}}},"annotations":{"readOnlyHint":true}}`
	catalog := snapshot(backend.Inventory{
		Tools:     items("name", `{"name":"search","inputSchema":{"type":"object"}}`, header),
		Prompts:   items("name", `{"name":"greet"}`),
		Resources: items("uri", `{"uri":"file:///readme","name":"readme"}`),
		Templates: items("uriTemplate", `{"uriTemplate":"db://{table}","name":"rows"}`),
	})
	for name, tc := range map[string]struct {
		era, method, params string
		headers             []string
		want                asked
	}{
		"legacy, without what is not offered": {
			legacy, "tools/call", `{"task":{"ttl":1},"name":"docs_search","arguments":{"n":12345678901234567890,"name":"docs_search"},` + own + `,"requestState":"s","inputResponses":{}}`, nil,
			asked{Body: `{"name":"search","arguments":{"n":12345678901234567890,"name":"docs_search"},` + own + `}`, Name: "search", Progress: true},
		},
		"legacy, for a modern backend": {
			legacy, "tools/call", `{"name":"docs_headed","arguments":{"r":"é"}}`, nil,
			asked{Body: `{"name":"headed","arguments":{"r":"é"}}`, Name: "headed", Repeatable: true, Params: http.Header{"Mcp-Param-Region": {"=?base64?w6k=?="}}},
		},
		"legacy prompt": {legacy, "prompts/get", `{"name":"docs_greet"}`, nil, asked{Body: `{"name":"greet"}`, Name: "greet", Repeatable: true}},
		"legacy resource": {
			legacy, "resources/read", `{"uri":"file:///readme"}`, nil,
			asked{Body: `{"uri":"file:///readme"}`, Name: "file:///readme", Repeatable: true},
		},
		"legacy, a template covers it": {
			legacy, "resources/read", `{"uri":"db://users"}`, nil, asked{Body: `{"uri":"db://users"}`, Name: "db://users", Repeatable: true},
		},
		"legacy, completion for a prompt": {
			legacy, "completion/complete", `{"ref":{"type":"ref/prompt","name":"docs_greet"},"argument":{"name":"name","value":"x"}}`, nil,
			asked{Body: `{"ref":{"type":"ref/prompt","name":"greet"},"argument":{"name":"name","value":"x"}}`, Repeatable: true},
		},
		"legacy, completion for a template": {
			legacy, "completion/complete", `{"ref":{"type":"ref/resource","uri":"db://{table}"},"argument":{"name":"table","value":"x"}}`, nil,
			asked{Body: `{"ref":{"type":"ref/resource","uri":"db://{table}"},"argument":{"name":"table","value":"x"}}`, Repeatable: true},
		},
		"modern": {
			modern, "tools/call", `{"name":"docs_search","arguments":{},` + envelope + `}`, []string{"Mcp-Name", "docs_search"},
			asked{
				Body: `{"name":"search","arguments":{},` + envelope + `}`, Name: "search", Capabilities: `{"sampling":{}}`, LogLevel: "info", Progress: true,
			},
		},
		"modern, with the headers of arguments": {
			modern, "tools/call", `{"name":"docs_headed","arguments":{"r":"eu"},` + envelope + `}`, []string{"Mcp-Name", "docs_headed", "Mcp-Param-Region", "eu"},
			asked{
				Body: `{"name":"headed","arguments":{"r":"eu"},` + envelope + `}`, Name: "headed", Capabilities: `{"sampling":{}}`, LogLevel: "info",
				Progress: true, Repeatable: true, Params: http.Header{"Mcp-Param-Region": {"eu"}},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got []asked
			f := start(t, gateway.Options{Upstreams: exchanges(func(_ context.Context, r *relay.Request, _ relay.Sink) (*relay.Answer, error) {
				m := parsed(outgoing(r))
				got = append(got, asked{
					string(m.Params.Of(m.Raw)), r.Name, r.Era, string(r.Capabilities), r.LogLevel, r.Progress, r.Repeatable, r.Params,
				})
				return answeredIn(r.Era, `"result":{}`)
			})})
			f.SetSnapshot(catalog)
			headers := append([]string{"Mcp-Protocol-Version", tc.era, "Mcp-Method", tc.method}, tc.headers...)
			tc.want.Era = relay.Modern
			if tc.era == legacy {
				tc.want.Era = relay.Legacy
				headers = append(headers, "Mcp-Session-Id", f.initialize())
			}
			response, body := f.do(http.MethodPost, gateway.Path, `{"jsonrpc":"2.0","id":"req-1","method":"`+tc.method+`","params":`+tc.params+`}`, headers...)
			if response.StatusCode != http.StatusOK || !strings.Contains(body, `"id":"req-1"`) || !strings.Contains(body, `"result":`) {
				t.Fatalf("%s %s", response.Status, body)
			}
			if diff := cmp.Diff([]asked{tc.want}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestErrorsOfABackend(t *testing.T) {
	for name, tc := range map[string]struct {
		err          backend.RPCError
		legacy       int
		modern       int
		modernStatus int
		message      string
	}{
		"own code":            {backend.RPCError{Code: 17, Message: "m", Data: json.RawMessage(`{"n":1}`)}, 17, 17, 200, "m"},
		"invalid params":      {backend.RPCError{Code: -32602, Message: "m", Data: json.RawMessage(`{"n":1}`)}, -32602, -32602, 400, "m"},
		"unknown method":      {backend.RPCError{Code: -32601, Message: "m"}, -32601, -32601, 404, "m"},
		"resource not found":  {backend.RPCError{Code: -32002, Message: "m"}, -32002, -32602, 400, "m"},
		"by URL, legacy only": {backend.RPCError{Code: -32042, Message: "m"}, -32042, -32603, 200, ""},
		"capability":          {backend.RPCError{Code: -32021, Message: "m", Data: json.RawMessage(`{"requiredCapabilities":{}}`)}, -32021, -32021, 400, "m"},
		"between the two":     {backend.RPCError{Code: -32022, Message: "m"}, -32603, -32603, 200, "the backend did not understand the gateway"},
		"internal, with data": {backend.RPCError{Code: -32603, Message: "m", Data: json.RawMessage(`[1]`)}, -32603, -32603, 200, "m"},
	} {
		t.Run(name, func(t *testing.T) {
			eras(t, func(t *testing.T, era string) {
				details := map[string]any{"code": tc.err.Code, "message": tc.err.Message}
				if tc.err.Data != nil {
					details["data"] = tc.err.Data
				}
				f := start(t, gateway.Options{Upstreams: exchanges(respond(`"error":` + string(encode(details))))})
				for method, params := range map[string]string{
					"tools/call": `{"name":"docs_search"}`, "prompts/get": `{"name":"docs_greet"}`, "resources/read": `{"uri":"file:///readme"}`,
				} {
					m := f.ask(era, method, params)
					code, status := tc.legacy, http.StatusOK
					if era == modern {
						code, status = tc.modern, tc.modernStatus
					}
					if m.Error == nil || m.Error.Code != code || tc.message != "" && m.Error.Message != tc.message || m.status != status || string(m.ID) != `"req-1"` {
						t.Fatalf("%s: status %d, %+v", method, m.status, m.Error)
					}
					if code != -32603 || tc.message == "m" {
						if diff := cmp.Diff(string(tc.err.Data), string(m.Error.Data)); diff != "" {
							t.Error(diff)
						}
					}
				}
			})
		})
	}
}

func TestUnreachableBackend(t *testing.T) {
	eras(t, func(t *testing.T, era string) {
		f := start(t, gateway.Options{Upstreams: failure(fmt.Errorf("Post %q: %w", "http://10.1.2.3/mcp", syscall.ECONNREFUSED))})
		m := f.ask(era, "tools/call", `{"name":"docs_search"}`)
		var result struct {
			Content []struct{ Type, Text string }
			IsError bool
			Meta    map[string]any `json:"_meta"`
		}
		if err := json.Unmarshal(m.Result, &result); err != nil || m.Error != nil {
			t.Fatalf("%+v, %v", m, err)
		}
		if !result.IsError || len(result.Content) != 1 || result.Content[0].Text != `backend "docs" is not running` ||
			result.Meta["vmcp.dev/backend"] != "docs" || result.Meta["vmcp.dev/reason"] != "ConnectionRefused" {
			t.Errorf("tools/call gives %s", m.Result)
		}
		for method, params := range map[string]string{"prompts/get": `{"name":"docs_greet"}`, "resources/read": `{"uri":"db://x"}`} {
			m := f.ask(era, method, params)
			if m.Error == nil || m.Error.Code != backend.CodeInternalError || m.Error.Message != `backend "docs" is not running` ||
				string(m.Error.Data) != `{"gateway":{"backend":"docs","reason":"ConnectionRefused"}}` {
				t.Errorf("%s gives %+v", method, m.Error)
			}
		}
	})
}

func TestMalformedResult(t *testing.T) {
	for _, result := range []string{`null`, `[]`, `7`} {
		f := start(t, gateway.Options{Upstreams: answer(result)})
		if m := f.ask(legacy, "tools/call", `{"name":"docs_search"}`); !strings.Contains(string(m.Result), `"isError":true`) {
			t.Errorf("the result %q gives %s", result, m.Result)
		}
	}
}

func TestUnknownNames(t *testing.T) {
	eras(t, func(t *testing.T, era string) {
		f := start(t, gateway.Options{Upstreams: failure(errors.New("must not be called"))})
		resource := -32002
		if era == modern {
			resource = -32602
		}
		for name, tc := range map[string]struct {
			method, params string
			code           int
			message, data  string
		}{
			"tool":            {"tools/call", `{"name":"search"}`, -32602, `unknown tool "search"`, ``},
			"mcp-go's tool":   {"tools/call", `{"name":"vmcp"}`, -32602, `unknown tool "vmcp"`, ``},
			"prompt":          {"prompts/get", `{"name":"nobody"}`, -32602, `unknown prompt "nobody"`, ``},
			"resource":        {"resources/read", `{"uri":"no://where"}`, resource, "resource not found", `{"uri":"no://where"}`},
			"mcp-go's":        {"resources/read", `{"uri":"vmcp:any"}`, resource, "resource not found", `{"uri":"vmcp:any"}`},
			"empty tool name": {"tools/call", `{"name":""}`, -32602, `unknown tool ""`, ``},
		} {
			if era == modern && name == "empty tool name" {
				continue // its header would be empty, which is another error
			}
			m := f.ask(era, tc.method, tc.params)
			if m.Error == nil || m.Error.Code != tc.code || tc.message != "" && m.Error.Message != tc.message || string(m.Error.Data) != tc.data {
				t.Errorf("%s: %+v", name, m.Error)
			}
		}
	})
}
