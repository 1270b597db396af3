// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/gateway"
	"github.com/vmcp-dev/vmcp-operator/runtime/session"
)

// numbered are tools with these numbers.
func numbered(numbers ...int) backend.Inventory {
	var tools []string
	for _, n := range numbers {
		tools = append(tools, fmt.Sprintf(`{"name":"t%d","inputSchema":{"type":"object"}}`, n))
	}
	return backend.Inventory{Tools: items("name", tools...)}
}

func upTo(n int) (numbers []int) {
	for i := range n {
		numbers = append(numbers, i)
	}
	return numbers
}

// listPage is one page of tools.
type listPage struct {
	Names  []string
	Cursor *string
	Code   int
}

func (f *fixture) tools(c *caller, cursor *string) listPage {
	f.t.Helper()
	params := ""
	if cursor != nil {
		params = `"cursor":` + string(encode(*cursor))
	}
	_, body := c.do("1", "tools/list", params, "")
	var m struct {
		Result struct {
			Tools      []struct{ Name string }
			NextCursor *string
		}
		Error struct{ Code int }
	}
	if err := json.Unmarshal([]byte(body), &m); err != nil {
		f.t.Fatalf("%s: %v", body, err)
	}
	p := listPage{Cursor: m.Result.NextCursor, Code: m.Error.Code}
	for _, tool := range m.Result.Tools {
		p.Names = append(p.Names, strings.TrimPrefix(tool.Name, "docs_"))
	}
	return p
}

func TestPages(t *testing.T) {
	eras(t, func(t *testing.T, era string) {
		for _, count := range []int{0, 1, 9, 10, 11, 20, 25} {
			f := start(t, gateway.Options{Limits: gateway.Limits{PageSize: 10}})
			f.SetSnapshot(snapshot(numbered(upTo(count)...)))
			c := f.as(era, `{}`)
			var names []string
			pages := 0
			for cursor := (*string)(nil); ; pages++ {
				p := f.tools(c, cursor)
				names = append(names, p.Names...)
				if len(p.Names) > 10 || p.Code != 0 || pages > 5 {
					t.Fatalf("%d tools: page %d is %+v", count, pages, p)
				}
				if cursor = p.Cursor; cursor == nil {
					break
				}
			}
			if len(names) != count || pages != max(count-1, 0)/10 || !slices.IsSortedFunc(names, func(a, b string) int { return len(a) - len(b) }) {
				t.Errorf("%d tools came as %q on %d pages", count, names, pages+1)
			}
		}
	})
}

func TestAllOnOnePage(t *testing.T) {
	f := start(t, gateway.Options{Limits: gateway.Limits{PageSize: -1}})
	f.SetSnapshot(snapshot(numbered(upTo(1500)...)))
	c := f.as(legacy, `{}`)
	if p := f.tools(c, nil); len(p.Names) != 1500 || p.Cursor != nil {
		t.Errorf("%d names, cursor %v", len(p.Names), p.Cursor)
	}
	f = start(t, gateway.Options{})
	f.SetSnapshot(snapshot(numbered(upTo(1500)...)))
	if p := f.tools(f.as(legacy, `{}`), nil); len(p.Names) != 1000 || p.Cursor == nil {
		t.Errorf("by default %d names, cursor %v", len(p.Names), p.Cursor)
	}
}

// TestCursors survive a change of the catalog that leaves the entry at which they stand, and are one gateway's own.
func TestCursors(t *testing.T) {
	options := gateway.Options{UID: "one", Limits: gateway.Limits{PageSize: 3}}
	f := start(t, options)
	key := session.Keys{Current: bytes.Repeat([]byte{1}, session.KeySize)}
	if err := f.SetKeys(key); err != nil {
		t.Fatal(err)
	}
	f.SetSnapshot(snapshot(numbered(upTo(9)...)))
	c := f.as(legacy, `{}`)
	cursor := f.tools(c, nil).Cursor // stands at t2
	expect := func(want ...string) {
		t.Helper()
		if p := f.tools(c, cursor); !slices.Equal(p.Names, want) {
			t.Errorf("got %+v, want %q", p, want)
		}
	}
	expect("t3", "t4", "t5")
	f.SetSnapshot(snapshot(numbered(2, 5, 7, 8, 6)))
	expect("t5", "t7", "t8")
	f.SetSnapshot(snapshot(numbered(1, 2)))
	expect()
	f.SetSnapshot(snapshot(numbered(1, 3)))
	if p := f.tools(c, cursor); p.Code != -32602 {
		t.Errorf("at an entry that is gone: %+v", p)
	}
	f.SetSnapshot(snapshot(numbered(upTo(9)...)))
	other := start(t, gateway.Options{UID: "two", Limits: options.Limits})
	if err := other.SetKeys(key); err != nil {
		t.Fatal(err)
	}
	other.SetSnapshot(snapshot(numbered(upTo(9)...)))
	if p := other.tools(other.as(legacy, `{}`), cursor); p.Code != -32602 {
		t.Errorf("at another gateway: %+v", p)
	}
	if _, body := c.do("1", "prompts/list", `"cursor":"`+*cursor+`"`, ""); !strings.Contains(body, "-32602") {
		t.Errorf("for another list: %s", body)
	}
	for _, bad := range []string{`"x"`, `7`, `{}`, `"` + (*cursor)[1:] + `"`} {
		if _, body := c.do("1", "tools/list", `"cursor":`+bad, ""); !strings.Contains(body, "-32602") {
			t.Errorf("%s: %s", bad, body)
		}
	}
	for _, first := range []string{`""`, `null`} {
		if _, body := c.do("1", "tools/list", `"cursor":`+first, ""); !strings.Contains(body, "docs_t0") {
			t.Errorf("%s is not the beginning: %s", first, body)
		}
	}
	rotated := session.Keys{Previous: key.Current, Current: bytes.Repeat([]byte{2}, session.KeySize)}
	if err := f.SetKeys(rotated); err != nil {
		t.Fatal(err)
	}
	expect("t3", "t4", "t5")
	if err := f.SetKeys(session.Keys{Current: rotated.Current}); err != nil {
		t.Fatal(err)
	}
	c = f.as(legacy, `{}`)
	if p := f.tools(c, cursor); p.Code != -32602 {
		t.Errorf("with a key that is gone: %+v", p)
	}
	cursor = f.tools(c, nil).Cursor
	expect("t3", "t4", "t5")
}

// TestCompression: the id of each answer comes before what was compressed once.
func TestCompression(t *testing.T) {
	eras(t, func(t *testing.T, era string) {
		f := start(t, gateway.Options{})
		f.SetSnapshot(snapshot(numbered(upTo(400)...)))
		c := f.as(era, `{}`)
		fetch := func(id, encoding string) (http.Header, string) {
			body, headers := c.request(id, "tools/list", "", "")
			response, answer := f.do(http.MethodPost, gateway.Path, body, append(headers, "Accept-Encoding", encoding)...)
			if response.StatusCode != http.StatusOK {
				t.Fatalf("%s %s", response.Status, answer)
			}
			return response.Header, answer
		}
		for _, id := range []string{`1`, `"` + strings.Repeat("long", 10000) + `"`, `-123456789012345678901234567890`} {
			plainHeader, plain := fetch(id, "identity")
			header, packed := fetch(id, "br, gzip;q=0.5")
			if plainHeader.Get("Content-Encoding") != "" || header.Get("Content-Encoding") != "gzip" || header.Get("Vary") != "Accept-Encoding" || plainHeader.Get("Vary") != "Accept-Encoding" {
				t.Fatalf("%v, %v", plainHeader, header)
			}
			reader, err := gzip.NewReader(strings.NewReader(packed))
			if err != nil {
				t.Fatal(err)
			}
			reader.Multistream(false) // some clients read one member
			unpacked, err := io.ReadAll(reader)
			if err != nil || string(unpacked) != plain {
				t.Errorf("id %.20s: %v, %d bytes of %d", id, err, len(unpacked), len(plain))
			}
			if len(id) < 100 && len(packed) > len(plain)/5 {
				t.Errorf("%d bytes became %d", len(plain), len(packed))
			}
		}
		for _, none := range []string{"", "gzip;q=0", "gzip; q=0.0", "br", "identity", "x-gzip"} {
			if header, _ := fetch("1", none); header.Get("Content-Encoding") != "" {
				t.Errorf("%q is compressed", none)
			}
		}
		if header, _ := fetch(`"`+strings.Repeat("x", 70000)+`"`, "gzip"); header.Get("Content-Encoding") != "" {
			t.Error("an id that does not fit was compressed")
		}
	})
}

// TestLegacyClientsGetNoSchemasOfOtherShape: up to revision 2025-11-25 the root of an outputSchema is an object.
func TestLegacyClientsGetNoSchemasOfOtherShape(t *testing.T) {
	const array, object = `{"name":"a","inputSchema":{"type":"object"},"outputSchema":{"type":"array"},"x":1}`, `{"name":"o","inputSchema":{"type":"object"},"outputSchema":{"type":"object"}}`
	f := start(t, gateway.Options{})
	f.SetSnapshot(snapshot(backend.Inventory{Tools: items("name", array, object)}))
	for era, want := range map[string]int{legacy: 1, modern: 2} {
		_, body := f.as(era, `{}`).do("1", "tools/list", "", "")
		if got := strings.Count(body, "outputSchema"); got != want || !strings.Contains(body, `"x":1`) {
			t.Errorf("%s: %s", era, body)
		}
	}
}

func FuzzCursor(f *testing.F) {
	g := gateway.New(gateway.Options{UID: "fuzz", Name: "fuzz", Limits: gateway.Limits{PageSize: 2}})
	g.SetSnapshot(snapshot(numbered(upTo(5)...)))
	handler := g.Handler()
	list := func(cursor string) (int, string) {
		body := `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":` + string(encode(cursor)) + `,"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`
		return serveRaw(handler, http.MethodPost, body, "Mcp-Protocol-Version", modern, "Mcp-Method", "tools/list")
	}
	_, first := list("")
	_, rest, _ := strings.Cut(first, `"nextCursor":"`)
	cursor, _, _ := strings.Cut(rest, `"`)
	for _, seed := range []string{cursor, "", "AAAA", cursor[1:], cursor + "=", cursor + "\n", strings.ToUpper(cursor)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		status, body := list(text)
		ok := text == cursor || text == ""
		if ok != (status == http.StatusOK) || !ok && !strings.Contains(body, `"code":-32602`) {
			t.Fatalf("%q gives %d %s", text, status, body)
		}
	})
}
