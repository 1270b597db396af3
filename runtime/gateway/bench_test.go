// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/vmcp-dev/vmcp-operator/runtime/gateway"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
)

// nowhere is a response writer that costs nothing.
type nowhere struct{ header http.Header }

func (w *nowhere) Header() http.Header         { return w.header }
func (w *nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (w *nowhere) WriteHeader(int)             {}

// BenchmarkCall is what the front alone costs for one tools/call, with a backend that answers at once.
func BenchmarkCall(b *testing.B) {
	for _, size := range []int{32, 64 << 10} {
		for _, era := range []string{legacy, modern} {
			name := "32B/" + era
			if size > 32 {
				name = "64KiB/" + era
			}
			b.Run(name, func(b *testing.B) { benchmarkCall(b, era, size) })
		}
	}
}

func benchmarkCall(b *testing.B, era string, size int) {
	from := relay.Legacy
	result := `{"content":[{"type":"text","text":"` + strings.Repeat("x", size) + `"}]}`
	if era == modern {
		from = relay.Modern
		result = `{"resultType":"complete","content":[{"type":"text","text":"` + strings.Repeat("x", size) + `"}],"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"b","version":"1"}}}`
	}
	answer, err := answeredIn(from, `"result":`+result)
	if err != nil {
		b.Fatal(err)
	}
	g := gateway.New(gateway.Options{Name: "team", Version: "v1", Upstreams: exchanges(
		func(context.Context, *relay.Request, relay.Sink) (*relay.Answer, error) { return answer, nil })})
	defer g.Close(context.Background())
	g.SetSnapshot(standard())
	h := g.Handler()
	body := `{"jsonrpc":"2.0","id":17,"method":"tools/call","params":{"name":"docs_search","arguments":{"text":"` + strings.Repeat("x", 32) + `"}`
	r := httptest.NewRequest(http.MethodPost, "http://localhost"+gateway.Path, nil)
	r.Header = http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}, "Mcp-Protocol-Version": {era}}
	if era == modern {
		body += `,"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}`
		r.Header["Mcp-Method"], r.Header["Mcp-Name"] = []string{"tools/call"}, []string{"docs_search"}
	} else {
		w := httptest.NewRecorder()
		begin := httptest.NewRequest(http.MethodPost, "http://localhost"+gateway.Path, strings.NewReader(initializeBody))
		begin.Header = r.Header
		h.ServeHTTP(w, begin)
		r.Header["Mcp-Session-Id"] = w.Header()["Mcp-Session-Id"]
	}
	text := []byte(body + "}}")
	reader := bytes.NewReader(text)
	r.ContentLength = int64(len(text))
	w := &nowhere{http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		reader.Reset(text)
		r.Body = io.NopCloser(reader)
		clear(w.header)
		h.ServeHTTP(w, r)
	}
}
