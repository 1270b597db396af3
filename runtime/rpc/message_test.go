// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package rpc_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
)

func TestParse(t *testing.T) {
	for name, c := range map[string]struct {
		text               string
		kind               rpc.Kind
		method, id, params string
		body               string
	}{
		"request":                {`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":"x"}}`, rpc.Request, "tools/list", `1`, `{"cursor":"x"}`, ""},
		"request without params": {`{"jsonrpc":"2.0","id":"a","method":"ping"}`, rpc.Request, "ping", `"a"`, "", ""},
		"null for no params":     {`{"jsonrpc":"2.0","id":"a","method":"ping","params":null}`, rpc.Request, "ping", `"a"`, "", ""},
		"notification":           {`{"jsonrpc":"2.0","method":"notifications/initialized"}`, rpc.Notification, "notifications/initialized", "", "", ""},
		"result":                 {`{"jsonrpc":"2.0","id":-7,"result":{"a":[1,2]}}`, rpc.Result, "", `-7`, "", `{"a":[1,2]}`},
		"result that is null":    {`{"jsonrpc":"2.0","id":7,"result":null}`, rpc.Result, "", `7`, "", `null`},
		"error":                  {`{"jsonrpc":"2.0","id":7,"error":{"code":-1,"message":"m"}}`, rpc.Failure, "", `7`, "", `{"code":-1,"message":"m"}`},
		"error without an id":    {`{"jsonrpc":"2.0","error":{"code":-1,"message":"m"}}`, rpc.Failure, "", "", "", `{"code":-1,"message":"m"}`},
		"error with id null":     {`{"jsonrpc":"2.0","id":null,"error":{"code":-1,"message":"m"}}`, rpc.Failure, "", `null`, "", `{"code":-1,"message":"m"}`},
		"any order, blanks":      {" {\n\"params\" : { } ,\t\"method\":\"m\",\r\"id\" : 2 , \"jsonrpc\":\"2.0\"} \n", rpc.Request, "m", `2`, `{ }`, ""},
		"unknown members":        {`{"jsonrpc":"2.0","x":{"id":3,"method":"y"},"id":2,"method":"m"}`, rpc.Request, "m", `2`, "", ""},
		"escaped names":          {`{"jsonrpc":"2.0","\u0069d":2,"meth\u006fd":"tools\/call"}`, rpc.Request, "tools/call", `2`, "", ""},
		"big integer":            {`{"jsonrpc":"2.0","id":123456789012345678901,"method":"m"}`, rpc.Request, "m", `123456789012345678901`, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			raw := []byte(c.text)
			m, err := rpc.Parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			got := []string{m.Method, string(m.ID.Of(raw)), string(m.Params.Of(raw)), string(m.Body.Of(raw))}
			want := []string{c.method, c.id, c.params, c.body}
			if m.Kind != c.kind || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("got %v %q, want %v %q", m.Kind, got, c.kind, want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	syntax := new(rpc.SyntaxError)
	for text, isSyntax := range map[string]bool{
		``: true, `x`: true, `{`: true, `{"jsonrpc":"2.0",}`: true, `{"a":1}{"b":2}`: true, `{"a":01}`: true, `{"a":1.}`: true, `{"a":"` + "\n" + `"}`: true,
		`{"a":"\x"}`: true, `{"a":"\u12g4"}`: true, `{"a" 1}`: true, `{a:1}`: true, `{"a":tru}`: true, `{"a":[1 2]}`: true, `{"a":-}`: true, `{"a":1e}`: true, `[1`: true,
		strings.Repeat(`{"a":`, 200) + `1` + strings.Repeat(`}`, 200):       true,
		`{"a":` + strings.Repeat(`[`, 200) + strings.Repeat(`]`, 200) + `}`: true,
		`1`: false, `"x"`: false, `{}`: false,
		`{"jsonrpc":"1.0","id":1,"method":"m"}`:                                         false,
		`{"jsonrpc":"2.0","id":1}`:                                                      false,
		`{"jsonrpc":"2.0","id":null,"method":"m"}`:                                      false,
		`{"jsonrpc":"2.0","id":1.5,"method":"m"}`:                                       false,
		`{"jsonrpc":"2.0","id":1e3,"method":"m"}`:                                       false,
		`{"jsonrpc":"2.0","id":{},"method":"m"}`:                                        false,
		`{"jsonrpc":"2.0","id":1,"method":""}`:                                          false,
		`{"jsonrpc":"2.0","id":1,"method":7}`:                                           false,
		`{"jsonrpc":"2.0","id":1,"method":"m","params":[1]}`:                            false,
		`{"jsonrpc":"2.0","id":1,"method":"m","params":"x"}`:                            false,
		`{"jsonrpc":"2.0","id":1,"method":"m","result":{}}`:                             false,
		`{"jsonrpc":"2.0","id":1,"result":{},"error":{}}`:                               false,
		`{"jsonrpc":"2.0","id":1,"error":"x"}`:                                          false,
		`{"jsonrpc":"2.0","result":{}}`:                                                 false,
		`{"jsonrpc":"2.0","id":null,"result":{}}`:                                       false,
		`{"jsonrpc":"2.0","id":1,"id":2,"method":"m"}`:                                  false,
		`{"jsonrpc":"2.0","id":1,"method":"m","meth\u006fd":"n"}`:                       false,
		`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{},"params":{"a":"b"}}`: false,
	} {
		_, err := rpc.Parse([]byte(text))
		if err == nil {
			t.Errorf("%.60s: accepted", text)
			continue
		}
		if got := errors.As(err, &syntax); got != isSyntax {
			t.Errorf("%.60s: syntax error is %t, want %t: %v", text, got, isSyntax, err)
		}
	}
	if _, err := rpc.Parse([]byte(` [{"jsonrpc":"2.0","id":1,"method":"m"}]`)); !errors.Is(err, rpc.ErrBatch) {
		t.Errorf("a batch: %v", err)
	}
}

func TestToken(t *testing.T) {
	for _, equal := range [][]string{{`1`, `1`}, {`"a"`, `"\u0061"`}, {`0`, `-0`}} {
		if a, b := rpc.Token([]byte(equal[0])), rpc.Token([]byte(equal[1])); a != b || a == "" {
			t.Errorf("%s is %q, %s is %q", equal[0], a, equal[1], b)
		}
	}
	if a, b := rpc.Token([]byte(`1`)), rpc.Token([]byte(`"1"`)); a == b {
		t.Errorf("1 and %q have one key, %q", "1", a)
	}
	for _, none := range []string{``, `null`, `1.0`, `{}`, `true`} {
		if k := rpc.Token([]byte(none)); k != "" {
			t.Errorf("%s is %q", none, k)
		}
	}
}

func TestElements(t *testing.T) {
	for text, want := range map[string][]string{
		` [ {"a":[1,2]} , 7,"x" ] `: {`{"a":[1,2]}`, `7`, `"x"`},
		`[]`:                        nil,
		`[ ]`:                       nil,
		`{"a":1}`:                   nil,
		``:                          nil,
	} {
		raw := []byte(text)
		var got []string
		rpc.Elements(raw, rpc.Span{End: len(raw)}, func(at rpc.Span) bool {
			got = append(got, string(at.Of(raw)))
			return true
		})
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s has %q, want %q", text, got, want)
		}
	}
	var first []string
	raw := []byte(`[1,2,3]`)
	rpc.Elements(raw, rpc.Span{End: len(raw)}, func(at rpc.Span) bool {
		first = append(first, string(at.Of(raw)))
		return false
	})
	if fmt.Sprint(first) != "[1]" {
		t.Errorf("the iteration went on after its end: %q", first)
	}
}

func TestSplice(t *testing.T) {
	raw := []byte(`{"id":1,"params":{"name":"a_search","_meta":{}}}`)
	top := rpc.Span{End: len(raw)}
	found := rpc.Find(raw, top, "id", "params")
	inner := rpc.Find(raw, found[1], "name", "_meta", "requestState")
	got := rpc.Splice(nil, raw,
		rpc.Edit{At: inner[0], Text: []byte(`"search"`)},
		rpc.SetMember(raw, inner[1], rpc.Span{}, "progressToken", []byte(`7`)),
		rpc.SetMember(raw, found[1], inner[2], "requestState", []byte(`"s"`)),
		rpc.Edit{At: found[0], Text: []byte(`42`)},
	)
	if want := `{"id":42,"params":{"requestState":"s","name":"search","_meta":{"progressToken":7}}}`; string(got) != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

// TestMembersOfCheckedText: strings that have been checked are only skipped, to their very end.
func TestMembersOfCheckedText(t *testing.T) {
	for _, value := range []string{
		`""`, `"a"`, `"\""`, `"\\"`, `"\\\""`, `"\\\\"`, `"a\"b\"c"`, `"\u0022\\"`, `{"k\"":"v\\","x":["\"",{"y":"}"}]}`, `["]","\\",[]]`, `"{\"a\":\"b\"}"`,
	} {
		raw := []byte(`{"jsonrpc":"2.0","method":"m","params":{"a":` + value + `,"b":` + value + `}}`)
		m, err := rpc.Parse(raw)
		if err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		found := rpc.Find(raw, m.Params, "a", "b")
		if a, b := string(found[0].Of(raw)), string(found[1].Of(raw)); a != value || b != value {
			t.Errorf("%s is found as %s and %s", value, a, b)
		}
		var elements []string
		list := []byte(`[` + value + `, ` + value + `]`)
		rpc.Elements(list, rpc.Span{End: len(list)}, func(at rpc.Span) bool {
			elements = append(elements, string(at.Of(list)))
			return true
		})
		if len(elements) != 2 || elements[0] != value || elements[1] != value {
			t.Errorf("%s has the elements %q", list, elements)
		}
	}
}

// TestParseEveryByteOfText compares with encoding/json, which looks at one byte after the other: each byte at each place of strings
// that are longer than four words, among bytes of different kinds.
func TestParseEveryByteOfText(t *testing.T) {
	for _, filling := range []byte{'x', ' ', '!', '#', '[', ']', 0x7f, 0x80, 0xff} {
		for c := range 256 {
			for at := range 50 {
				text := bytes.Repeat([]byte{filling}, 50)
				text[at] = byte(c)
				raw := fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"m","params":{"a":"%s"}}`, text)
				if _, err := rpc.Parse(raw); json.Valid(raw) != (err == nil) {
					t.Fatalf("%q: Parse says %v", raw, err)
				}
			}
		}
	}
}

// FuzzParse compares with encoding/json: both take the same texts, and see the same in them.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"é\n\ud83d\ude00","arguments":{"x":[1,-2.5e+10,true,null]}}}`,
		`{"jsonrpc":"2.0","id":"x","error":{"code":-32602,"message":"m"}}`, `[]`, `{"jsonrpc":"2.0","id":1,"id":2,"method":"m"}`, `{"a":"12345678\"90"}`, ` {} `,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := rpc.Parse(raw)
		syntax := new(rpc.SyntaxError)
		isSyntax := errors.As(err, &syntax)
		if valid := json.Valid(raw); valid == isSyntax && !strings.Contains(fmt.Sprint(err), "nested") {
			t.Fatalf("encoding/json says valid=%t, Parse says %v", valid, err)
		}
		if err != nil {
			return
		}
		var want map[string]json.RawMessage
		if err := json.Unmarshal(raw, &want); err != nil {
			t.Fatal(err)
		}
		for name, at := range map[string]rpc.Span{"id": m.ID, "params": m.Params} {
			if at.Exists() && !bytes.Equal(at.Of(raw), want[name]) {
				t.Fatalf("%s is %s, want %s", name, at.Of(raw), want[name])
			}
		}
		again := rpc.Splice(nil, raw, rpc.SetMember(raw, rpc.Span{Start: bytes.IndexByte(raw, '{'), End: len(raw)}, rpc.Span{}, "fuzz", []byte(`{"x":1}`)))
		if _, err := rpc.Parse(again); err != nil {
			t.Fatalf("%s after an edit: %v", again, err)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for _, size := range []int{32, 64 << 10} {
		raw := fmt.Appendf(nil, `{"jsonrpc":"2.0","id":12345,"result":{"content":[{"type":"text","text":%q}],"isError":false}}`, strings.Repeat("x", size))
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := rpc.Parse(raw); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprint(size, "/json.Valid"), func(b *testing.B) {
			b.SetBytes(int64(len(raw)))
			for b.Loop() {
				_ = json.Valid(raw)
			}
		})
	}
}
