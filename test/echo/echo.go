// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package echo is an MCP server that does as little as a server can: its tools answer with the text that they are given. It is
// what stands behind a gateway or proxy that is measured, so that what is measured is the way to it. One handler is any number of
// servers: /NAME/mcp is a server whose tools are NAME-echo, NAME-tool-01 and so on.
package echo

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/tidwall/gjson"
)

// StreamSuffix is the end of the names of servers that answer calls of tools with an event stream rather than JSON.
const StreamSuffix = "-sse"

// hangPath is where a server is told to hang: POST hangPath + NAME, and DELETE to undo it.
const hangPath = "/hang/"

// maxBody bounds the body of a request.
const maxBody = 8 << 20

// Tool is the name of a server's tool that is meant to be called.
func Tool(server string) string { return server + "-echo" }

// Server is the handler of all servers. Requests to one that hangs are not answered before it is told to go on.
type Server struct {
	// Modern is whether the servers speak revision 2026-07-28 and nothing else, or else 2025-11-25 and what came before.
	Modern bool
	// Tools is the number of tools of each server. 0 means 1.
	Tools int

	lists   sync.Map // name to the encoded list of tools
	mu      sync.Mutex
	hanging map[string]chan struct{} // closed when the server goes on
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if name, ok := strings.CutPrefix(r.URL.Path, hangPath); ok {
		s.setHanging(name, r.Method == http.MethodPost)
		return
	}
	name, ok := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, "/"), "/mcp")
	if !ok {
		http.NotFound(w, r)
		return
	}
	if going := s.hangs(name); going != nil {
		select {
		case <-going:
		case <-r.Context().Done():
			return
		}
	}
	switch {
	case r.Method == http.MethodPost:
		s.post(w, r, name)
	case r.Method == http.MethodDelete && !s.Modern:
	default:
		w.Header().Set("Allow", http.MethodPost)
		w.WriteHeader(http.StatusMethodNotAllowed)
	}
}

func (s *Server) post(w http.ResponseWriter, r *http.Request, name string) {
	body := buffers.Get().(*buffer) //nolint:forcetypeassert // the pool holds nothing else
	defer buffers.Put(body)
	if err := body.read(r); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	m := gjson.ParseBytes(body.bytes)
	id := m.Get("id").Raw
	if id == "" {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	switch method := m.Get("method").Str; {
	case method == string(mcp.MethodToolsCall):
		s.call(w, name, id, m.Get("params.arguments.text").Raw)
	case method == string(mcp.MethodToolsList):
		s.reply(w, id, `"tools":`+s.list(name)+s.cacheable())
	case method == string(mcp.MethodInitialize) && !s.Modern:
		w.Header().Set("Mcp-Session-Id", rand.Text())
		s.reply(w, id, `"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"`+name+`","version":"1"}`)
	case method == string(mcp.MethodPing) && !s.Modern:
		s.reply(w, id, "")
	case method == string(mcp.MethodServerDiscover) && s.Modern:
		s.reply(w, id, `"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"serverInfo":{"name":"`+name+`","version":"1"}`+s.cacheable())
	default:
		w.Header().Set("Content-Type", "application/json")
		if s.Modern {
			w.WriteHeader(http.StatusNotFound)
		}
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"method not found"}}`, id)
	}
}

// cacheable are the members that lists have in the newest revision.
func (s *Server) cacheable() string {
	if s.Modern {
		return `,"ttlMs":3600000,"cacheScope":"public"`
	}
	return ""
}

// complete is the member that every result has in the newest revision.
func (s *Server) complete(more bool) string {
	switch {
	case !s.Modern:
		return ""
	case more:
		return `"resultType":"complete",`
	default:
		return `"resultType":"complete"`
	}
}

func (s *Server) reply(w http.ResponseWriter, id, members string) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{%s%s}}`, id, s.complete(members != ""), members)
}

// call answers with the text, as the JSON string that it came as.
func (s *Server) call(w http.ResponseWriter, name, id, text string) {
	if text == "" {
		text = `""`
	}
	body := buffers.Get().(*buffer) //nolint:forcetypeassert // the pool holds nothing else
	defer buffers.Put(body)
	out := body.bytes[:0]
	stream := strings.HasSuffix(name, StreamSuffix)
	if stream {
		out = append(out, "event: message\ndata: "...)
	}
	out = append(out, `{"jsonrpc":"2.0","id":`...)
	out = append(out, id...)
	out = append(out, `,"result":{`...)
	out = append(out, s.complete(true)...)
	out = append(out, `"content":[{"type":"text","text":`...)
	out = append(out, text...)
	out = append(out, `}]}}`...)
	if stream {
		out = append(out, "\n\n"...)
		w.Header()["Content-Type"] = contentTypeStream
	} else {
		w.Header()["Content-Type"] = contentTypeJSON
	}
	body.bytes = out
	_, _ = w.Write(out) // a client that is gone needs no answer
	if stream {
		_ = http.NewResponseController(w).Flush() // as a server does that has more to say
	}
}

var contentTypeJSON, contentTypeStream = []string{"application/json"}, []string{"text/event-stream"}

// list is a server's list of tools, an array.
func (s *Server) list(name string) string {
	if known, ok := s.lists.Load(name); ok {
		return known.(string) //nolint:forcetypeassert // the map holds nothing else
	}
	var b strings.Builder
	for i := range max(s.Tools, 1) {
		tool, separator := Tool(name), "["
		if i > 0 {
			tool, separator = fmt.Sprintf("%s-tool-%02d", name, i), ","
		}
		fmt.Fprintf(&b, `%s{"name":%q,"description":"Says again what it is told.","inputSchema":{"type":"object","properties":`+
			`{"text":{"type":"string","description":"What to say"},"times":{"type":"integer","minimum":1,"maximum":10}},"required":["text"]}}`,
			separator, tool)
	}
	b.WriteByte(']')
	s.lists.Store(name, b.String())
	return b.String()
}

func (s *Server) hangs(name string) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hanging[name]
}

func (s *Server) setHanging(name string, hang bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if going, hangs := s.hanging[name]; hangs && !hang {
		close(going)
		delete(s.hanging, name)
	} else if !hangs && hang {
		if s.hanging == nil {
			s.hanging = map[string]chan struct{}{}
		}
		s.hanging[name] = make(chan struct{})
	}
}

// buffer holds a body. Handlers share them.
type buffer struct{ bytes []byte }

var buffers = sync.Pool{New: func() any { return &buffer{bytes: make([]byte, 0, 4<<10)} }}

// read reads the body of a request.
func (b *buffer) read(r *http.Request) error {
	b.bytes = b.bytes[:0]
	if n := r.ContentLength; n > int64(cap(b.bytes)) && n <= maxBody {
		b.bytes = make([]byte, 0, n+1)
	}
	for {
		if len(b.bytes) == cap(b.bytes) {
			b.bytes = append(b.bytes, 0)[:len(b.bytes)]
		}
		n, err := r.Body.Read(b.bytes[len(b.bytes):cap(b.bytes)])
		b.bytes = b.bytes[:len(b.bytes)+n]
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case len(b.bytes) > maxBody:
			return fmt.Errorf("a body of more than %d bytes", maxBody)
		}
	}
}
