// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package era_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/vmcp-dev/vmcp-operator/runtime/era"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
)

const (
	version = "io.modelcontextprotocol/protocolVersion"
	caps    = "io.modelcontextprotocol/clientCapabilities"
	level   = "io.modelcontextprotocol/logLevel"
)

func request(method, params string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":%s}`, method, params)
}

func meta(version2 string, more ...string) string {
	return `"_meta":{` + strings.Join(append([]string{fmt.Sprintf(`%q:%q`, version, version2), fmt.Sprintf(`%q:{}`, caps)}, more...), ",") + `}`
}

func headers(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

func modern(method string, more ...string) http.Header {
	return headers(append([]string{"MCP-Protocol-Version", "2026-07-28", "Mcp-Method", method}, more...)...)
}

func parse(t *testing.T, text string) *rpc.Message {
	t.Helper()
	m, err := rpc.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return &m
}

// TestDecide has a row for each case of the decision, in the order of the checks.
func TestDecide(t *testing.T) {
	list := request("tools/list", `{`+meta("2026-07-28")+`}`)
	call := func(more string) string {
		return request("tools/call", `{`+meta("2026-07-28")+`,"name":"t"`+more+`}`)
	}
	for _, c := range []struct {
		name    string
		headers http.Header
		body    string
		era     relay.Era
		status  int
		code    int
	}{
		{"legacy, no header", nil, request("tools/list", `{}`), relay.Legacy, 0, 0},
		{"legacy, its header", headers("Mcp-Protocol-Version", "2025-06-18"), request("tools/list", `{}`), relay.Legacy, 0, 0},
		{"legacy, without params", nil, `{"jsonrpc":"2.0","id":1,"method":"ping"}`, relay.Legacy, 0, 0},
		{"legacy, a revision that is not served", headers("Mcp-Protocol-Version", "2024-11-05"), request("ping", `{}`), relay.Legacy, 400, -32600},
		{"legacy, an unknown revision", headers("Mcp-Protocol-Version", "1900-01-01"), request("ping", `{}`), relay.Legacy, 400, -32600},
		{"legacy, two headers", headers("Mcp-Protocol-Version", "2025-06-18", "Mcp-Protocol-Version", "2025-11-25"), request("ping", `{}`), relay.Legacy, 400, -32600},
		{"legacy, two names", nil, request("tools/call", `{"name":"a","name":"b"}`), relay.Legacy, 200, -32602},
		{"legacy, two names, one escaped", nil, request("tools/call", `{"name":"a","n\u0061me":"b"}`), relay.Legacy, 200, -32602},
		{"initialize", nil, request("initialize", `{"protocolVersion":"2025-11-25"}`), relay.Legacy, 0, 0},
		{"initialize for the modern revision", nil, request("initialize", `{"protocolVersion":"2026-07-28"}`), relay.Legacy, 0, 0},
		{"initialize with an old header", headers("Mcp-Protocol-Version", "2024-11-05"), request("initialize", `{}`), relay.Legacy, 0, 0},
		{"initialize of the modern era", modern("initialize"), request("initialize", `{`+meta("2026-07-28")+`}`), relay.Modern, 404, -32601},
		{"a served legacy revision in _meta is none of the modern era", nil, request("tools/list", `{`+meta("2025-11-25")+`}`), relay.Legacy, 0, 0},

		{"modern", modern("tools/list"), list, relay.Modern, 0, 0},
		{"modern, session and event ids are ignored", modern("tools/list", "Mcp-Session-Id", "x", "Last-Event-Id", "y"), list, relay.Modern, 0, 0},
		{"modern, no version in _meta", modern("tools/list"), request("tools/list", `{"_meta":{}}`), relay.Modern, 400, -32602},
		{"modern, no _meta", modern("tools/list"), request("tools/list", `{}`), relay.Modern, 400, -32602},
		{"modern, no params", modern("tools/list"), `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, relay.Modern, 400, -32602},
		{"modern, a version that is no string", modern("tools/list"), request("tools/list", `{"_meta":{"`+version+`":7}}`), relay.Modern, 400, -32602},
		{"modern, two _meta", modern("tools/list"), request("tools/list", `{`+meta("2026-07-28")+`,`+meta("2026-07-28")+`}`), relay.Modern, 400, -32602},
		{"modern, no version before the header", headers("Mcp-Protocol-Version", "2027-01-01"), request("tools/list", `{}`), relay.Modern, 400, -32602},
		{"modern, no header", headers("Mcp-Method", "tools/list"), list, relay.Modern, 400, -32020},
		{"modern, another header", headers("Mcp-Protocol-Version", "2025-11-25", "Mcp-Method", "tools/list"), list, relay.Modern, 400, -32020},
		{"modern, two headers", modern("tools/list", "Mcp-Protocol-Version", "2026-07-28"), list, relay.Modern, 400, -32020},
		{"modern, other header before the version", headers("Mcp-Protocol-Version", "2026-07-28"), request("tools/list", `{`+meta("1900-01-01")+`}`), relay.Modern, 400, -32020},
		{"modern, future", headers("Mcp-Protocol-Version", "v999.0.0"), request("tools/list", `{`+meta("v999.0.0")+`}`), relay.Modern, 400, -32022},
		{"modern, past", headers("Mcp-Protocol-Version", "1900-01-01"), request("tools/list", `{`+meta("1900-01-01")+`}`), relay.Modern, 400, -32022},
		{"modern, version before capabilities", headers("Mcp-Protocol-Version", "2099-01-01"), request("tools/list", `{"_meta":{"`+version+`":"2099-01-01"}}`), relay.Modern, 400, -32022},
		{"modern, no capabilities", modern("tools/list"), request("tools/list", `{"_meta":{"`+version+`":"2026-07-28"}}`), relay.Modern, 400, -32602},
		{"modern, capabilities that are none", modern("tools/list"), request("tools/list", `{"_meta":{"`+version+`":"2026-07-28","`+caps+`":[]}}`), relay.Modern, 400, -32602},
		{"modern, capabilities before the method's header", headers("Mcp-Protocol-Version", "2026-07-28"), request("tools/list", `{"_meta":{"`+version+`":"2026-07-28"}}`), relay.Modern, 400, -32602},
		{"modern, log level", modern("tools/list"), request("tools/list", `{`+meta("2026-07-28", `"`+level+`":"info"`)+`}`), relay.Modern, 0, 0},
		{"modern, unknown log level", modern("tools/list"), request("tools/list", `{`+meta("2026-07-28", `"`+level+`":"loud"`)+`}`), relay.Modern, 400, -32602},
		{"modern, no Mcp-Method", headers("Mcp-Protocol-Version", "2026-07-28"), list, relay.Modern, 400, -32020},
		{"modern, another Mcp-Method", modern("tools/call"), list, relay.Modern, 400, -32020},
		{"modern, Mcp-Method in another case", modern("Tools/List"), list, relay.Modern, 400, -32020},
		{"modern, Mcp-Method before the method", modern("a/b"), request("c/d", `{`+meta("2026-07-28")+`}`), relay.Modern, 400, -32020},
		{"modern, unknown method", modern("c/d"), request("c/d", `{`+meta("2026-07-28")+`}`), relay.Modern, 404, -32601},
		{"modern, ping", modern("ping"), request("ping", `{`+meta("2026-07-28")+`}`), relay.Modern, 404, -32601},
		{"modern, logging/setLevel", modern("logging/setLevel"), request("logging/setLevel", `{`+meta("2026-07-28")+`,"level":"info"}`), relay.Modern, 404, -32601},
		{"modern, resources/subscribe", modern("resources/subscribe"), request("resources/subscribe", `{`+meta("2026-07-28")+`,"uri":"x:y"}`), relay.Modern, 404, -32601},
		{"modern, call", modern("tools/call", "Mcp-Name", "t"), call(""), relay.Modern, 0, 0},
		{"modern, call, name in base64", modern("tools/call", "Mcp-Name", "=?base64?dA==?="), call(""), relay.Modern, 0, 0},
		{"modern, call, no Mcp-Name", modern("tools/call"), call(""), relay.Modern, 400, -32020},
		{"modern, call, another Mcp-Name", modern("tools/call", "Mcp-Name", "T"), call(""), relay.Modern, 400, -32020},
		{"modern, call, two Mcp-Name", modern("tools/call", "Mcp-Name", "t", "Mcp-Name", "u"), call(""), relay.Modern, 400, -32020},
		{"modern, call, malformed base64", modern("tools/call", "Mcp-Name", "=?base64?$?="), call(""), relay.Modern, 400, -32020},
		{"modern, call without a name", modern("tools/call", "Mcp-Name", "t"), request("tools/call", `{`+meta("2026-07-28")+`}`), relay.Modern, 400, -32020},
		{"modern, read", modern("resources/read", "Mcp-Name", "x:y"), request("resources/read", `{`+meta("2026-07-28")+`,"uri":"x:y","name":"z"}`), relay.Modern, 0, 0},
		{"modern, read, the name's header", modern("resources/read", "Mcp-Name", "z"), request("resources/read", `{`+meta("2026-07-28")+`,"uri":"x:y","name":"z"}`), relay.Modern, 400, -32020},
		{"modern, notification", headers("Mcp-Protocol-Version", "2026-07-28"), `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{}}`, relay.Modern, 0, 0},
		{"modern, response", headers("Mcp-Protocol-Version", "2026-07-28"), `{"jsonrpc":"2.0","id":1,"result":{}}`, relay.Modern, 400, -32600},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, r := era.Decide(c.headers, parse(t, c.body))
			if v.Era != c.era {
				t.Errorf("era %v, want %v", v.Era, c.era)
			}
			status, code := 0, 0
			if r != nil {
				status, code = r.Status, r.Code
			}
			if status != c.status || code != c.code {
				t.Errorf("got %d %d (%v), want %d %d", status, code, r, c.status, c.code)
			}
		})
	}
}

func TestUnsupportedVersionSaysWhatIsSupported(t *testing.T) {
	for _, requested := range []string{"v999.0.0", "1900-01-01", `2026-07-29"<`} {
		quoted, err := json.Marshal(requested)
		if err != nil {
			t.Fatal(err)
		}
		body := request("tools/list", `{"_meta":{"`+version+`":`+string(quoted)+`,"`+caps+`":{}}}`)
		_, r := era.Decide(headers("Mcp-Protocol-Version", requested), parse(t, body))
		if r == nil {
			t.Fatal("accepted")
		}
		var data struct {
			Supported []string
			Requested string
		}
		if err := json.Unmarshal(r.Data, &data); err != nil {
			t.Fatal(err)
		}
		if data.Requested != requested || !slices.Equal(data.Supported, era.Supported()) {
			t.Errorf("data is %s", r.Data)
		}
	}
}

func TestVerdict(t *testing.T) {
	m := parse(t, request("tools/call", `{"name":"t\u0041","_meta":{"progressToken":"p","`+version+`":"2026-07-28","`+caps+
		`":{"elicitation":{},"sampling":{"tools":{}}},"`+level+`":"warning"},"requestState":"s","task":{}}`))
	v, r := era.Decide(modern("tools/call", "Mcp-Name", "tA"), m)
	if r != nil {
		t.Fatal(r)
	}
	if v.Name != "tA" || string(v.NameAt.Of(m.Raw)) != `"t\u0041"` || string(v.Progress.Of(m.Raw)) != `"p"` || v.LogLevel != "warning" ||
		v.Capabilities != era.ElicitForm|era.Sampling|era.SamplingTools || string(v.RequestState.Of(m.Raw)) != `"s"` || v.Version != "2026-07-28" {
		t.Errorf("got %+v", v)
	}
	if meta := string(v.Meta.Of(m.Raw)); !strings.HasPrefix(meta, `{"progressToken"`) || !strings.HasSuffix(meta, `"warning"}`) {
		t.Errorf("_meta is %s", meta)
	}
	v, r = era.Decide(nil, parse(t, request("tools/call", `{"name":"t","_meta":{"progressToken":1.5},"task":{}}`)))
	if r != nil || !v.Foreign || v.Progress.Exists() {
		t.Errorf("got %+v, %v", v, r)
	}
}

func TestNegotiate(t *testing.T) {
	for asked, want := range map[string]string{
		"2025-03-26": "2025-03-26", "2025-06-18": "2025-06-18", "2025-11-25": "2025-11-25",
		"2026-07-28": "2025-11-25", "2024-11-05": "2025-11-25", "": "2025-11-25", "v9": "2025-11-25",
	} {
		if got := era.Negotiate(asked); got != want {
			t.Errorf("%q gives %s, want %s", asked, got, want)
		}
	}
}

func TestCapabilities(t *testing.T) {
	for text, want := range map[string]string{
		`{}`:                                     `{}`,
		`{"elicitation":{}}`:                     `{"elicitation":{}}`,
		`{"elicitation":{"form":{}}}`:            `{"elicitation":{}}`,
		`{"elicitation":{"url":{}}}`:             `{"elicitation":{"url":{}}}`,
		`{"elicitation":{"url":{},"form":{}}}`:   `{"elicitation":{"form":{},"url":{}}}`,
		`{"elicitation":true,"sampling":null}`:   `{}`,
		`{"sampling":{},"roots":{}}`:             `{"sampling":{},"roots":{}}`,
		`{"roots":{"listChanged":true}}`:         `{"roots":{"listChanged":true}}`,
		`{"roots":{"listChanged":false}}`:        `{"roots":{}}`,
		`{"sampling":{"tools":{},"context":{}}}`: `{"sampling":{"tools":{},"context":{}}}`,
		`{"extensions":{"io.modelcontextprotocol/tasks":{}},"tasks":{}}`: `{}`,
	} {
		c := era.ReadCapabilities([]byte(text), rpc.Span{End: len(text)})
		if got := string(c.JSON()); got != want {
			t.Errorf("%s is relayed as %s, want %s", text, got, want)
		}
		again := c.JSON()
		if back := era.ReadCapabilities(again, rpc.Span{End: len(again)}); back != c {
			t.Errorf("%s reads as %b, not %b", again, back, c)
		}
	}
}

func TestCapabilitiesFor(t *testing.T) {
	all := []string{"elicitation/create", "sampling/createMessage", "roots/list", "ping"}
	for c, want := range map[era.Capabilities][]string{
		0: nil, era.ElicitURL: {"elicitation/create"}, era.ElicitForm: {"elicitation/create"},
		era.Sampling: {"sampling/createMessage"}, era.Roots | era.Sampling: {"sampling/createMessage", "roots/list"},
	} {
		var got []string
		for _, method := range all {
			if c.For(method) {
				got = append(got, method)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%b can be asked by %q, want %q", c, got, want)
		}
	}
}

func TestParamHeaders(t *testing.T) {
	schema := json.RawMessage(`{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"},"n":{"type":"integer","x-mcp-header":"N"},"free":{"type":"string"}}}`)
	p := era.NewParamHeaders(schema)
	for _, c := range []struct {
		name    string
		headers http.Header
		params  string
		ok      bool
	}{
		{"both", headers("Mcp-Param-Region", "eu", "mcp-param-n", "42"), `{"arguments":{"region":"eu","n":42}}`, true},
		{"numerically equal", headers("Mcp-Param-N", "42.0"), `{"arguments":{"n":42}}`, true},
		{"encoded", headers("Mcp-Param-Region", "=?base64?w6k=?="), `{"arguments":{"region":"é"}}`, true},
		{"absent", nil, `{"arguments":{"free":"x"}}`, true},
		{"null", nil, `{"arguments":{"region":null}}`, true},
		{"unknown header", headers("Mcp-Param-Other", "x"), `{"arguments":{}}`, true},
		{"missing", nil, `{"arguments":{"region":"eu"}}`, false},
		{"other value", headers("Mcp-Param-Region", "us"), `{"arguments":{"region":"eu"}}`, false},
		{"header for nothing", headers("Mcp-Param-Region", "us"), `{"arguments":{}}`, false},
		{"malformed", headers("Mcp-Param-Region", "=?base64?$?="), `{"arguments":{"region":"eu"}}`, false},
		{"twice", headers("Mcp-Param-Region", "eu", "Mcp-Param-Region", "us"), `{"arguments":{"region":"eu"}}`, false},
	} {
		r := p.Check(c.headers, []byte(c.params))
		if (r == nil) != c.ok || r != nil && (r.Code != -32020 || r.Status != 400) {
			t.Errorf("%s: %v", c.name, r)
		}
	}
	got := p.Generate([]byte(`{"arguments":{"region":"é","n":7,"free":"x"}}`))
	if len(got) != 2 || got.Get("Mcp-Param-Region") != "=?base64?w6k=?=" || got.Get("Mcp-Param-N") != "7" {
		t.Errorf("generated %v", got)
	}
	if p.Generate([]byte(`{}`)) != nil {
		t.Error("headers out of nothing")
	}
	for _, none := range []string{``, `{}`, `[]`, `{"properties":{"a":{"type":"string"}}}`, `{"properties":{"a":{"type":"number","x-mcp-header":"A"}}}`,
		`{"properties":{"a":{"type":"string","x-mcp-header":"not a token"}}}`} {
		p := era.NewParamHeaders(json.RawMessage(none))
		if p != nil || p.Check(headers("Mcp-Param-A", "x"), []byte(`{}`)) != nil || p.Generate([]byte(`{"arguments":{"a":1}}`)) != nil {
			t.Errorf("%s has headers", none)
		}
	}
}

// FuzzDecide looks for what the decision must not do: crash, point outside of the message, or accept a modern request whose header
// says something else than its body.
func FuzzDecide(f *testing.F) {
	f.Add("2026-07-28", "tools/list", "", request("tools/list", `{`+meta("2026-07-28")+`}`))
	f.Add("2026-07-28", "tools/call", "t", request("tools/call", `{"name":"t",`+meta("2026-07-28", `"progressToken":7`)+`}`))
	f.Add("v999.0.0", "", "", request("tools/list", `{`+meta("v999.0.0")+`}`))
	f.Add("1900-01-01", "", "", request("tools/list", `{`+meta("1900-01-01")+`}`))
	f.Add("2025-06-18", "", "", request("resources/read", `{"uri":"x:y","uri":"z:y"}`))
	f.Add("", "", "", `{"jsonrpc":"2.0","method":"notifications/initialized","params":{"_meta":7}}`)
	f.Fuzz(func(t *testing.T, header, method, name, body string) {
		m, err := rpc.Parse([]byte(body))
		if err != nil {
			return
		}
		h := http.Header{}
		for key, value := range map[string]string{"Mcp-Protocol-Version": header, "Mcp-Method": method, "Mcp-Name": name} {
			if value != "" {
				h.Set(key, value)
			}
		}
		v, r := era.Decide(h, &m)
		for _, at := range []rpc.Span{v.Meta, v.NameAt, v.Progress, v.RequestState} {
			if at.Exists() && !json.Valid(at.Of(m.Raw)) {
				t.Fatalf("a place holds %q", at.Of(m.Raw))
			}
		}
		if r != nil {
			if r.Status < 200 || r.Status > 499 || r.Code >= 0 || r.Message == "" || r.Data != nil && !json.Valid(r.Data) {
				t.Fatalf("refused with %+v", r)
			}
			return
		}
		if v.Era == relay.Modern && m.Kind == rpc.Request && (header != "2026-07-28" || method != m.Method || v.Version != header) {
			t.Fatalf("accepted %q %q for %s", header, method, body)
		}
		if v.Era == relay.Legacy && header >= "2026" {
			t.Fatalf("%q is legacy", header)
		}
	})
}
