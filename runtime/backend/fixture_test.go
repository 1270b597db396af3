// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.uber.org/goleak"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var docs = backend.Key{Kind: v1alpha1.KindMCPBackend, Name: "docs"}

// newClient makes a client of an address that is closed, with its connections, when the test ends.
func newClient(t *testing.T, url string, transport v1alpha1.Transport, limits backend.Limits) *backend.Client {
	t.Helper()
	c := backend.NewClient(backend.Target{Key: docs, URL: url, Transport: transport}, backend.Options{Limits: limits})
	t.Cleanup(c.Close)
	return c
}

func deadline(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits for a condition that something else brings about.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("it did not happen that %s", what)
		}
	}
}

// request is a message that a scripted server got.
type request struct {
	Method string          `json:"method"`
	ID     json.RawMessage `json:"id"`
	Params json.RawMessage `json:"params"`
	Header http.Header     `json:"-"`
	whole  string
}

// scripted is an MCP server with sessions that does as a test says.
type scripted struct {
	*httptest.Server
	// answers are the answers by method: a whole result in JSON. Methods without one get -32601.
	answers map[string]func(request) string
	// before may answer in the server's place. Once the server has been talked to it is set under mu.
	before func(http.ResponseWriter, *http.Request, request) bool
	// capabilities and version are those of the initialize result.
	capabilities, version string

	mu       sync.Mutex
	sessions map[string]bool
	minted   int
	got      []request
	deleted  []string
	changes  chan string // methods of notifications to send on the stream; nil: there is no stream
}

func newScripted(t *testing.T) *scripted {
	t.Helper()
	s := &scripted{
		answers: map[string]func(request) string{"ping": func(request) string { return `{}` }},
		version: "2025-11-25", capabilities: `{"tools":{}}`, sessions: map[string]bool{},
	}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *scripted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var message request
	if r.Method == http.MethodPost {
		body, err := io.ReadAll(r.Body)
		if err != nil || json.Unmarshal(body, &message) != nil {
			http.Error(w, "no JSON", http.StatusBadRequest)
			return
		}
		message.Header, message.whole = r.Header.Clone(), string(body)
		s.mu.Lock()
		s.got = append(s.got, message)
		s.mu.Unlock()
	}
	s.mu.Lock()
	before := s.before
	s.mu.Unlock()
	if before != nil && before(w, r, message) {
		return
	}
	session := r.Header.Get("Mcp-Session-Id")
	s.mu.Lock()
	known := s.sessions[session]
	s.mu.Unlock()
	switch {
	case message.Method == "initialize":
		s.initialize(w, message)
	case !known:
		http.Error(w, "session not found", http.StatusNotFound)
	case r.Method == http.MethodDelete:
		s.mu.Lock()
		s.deleted = append(s.deleted, session)
		delete(s.sessions, session)
		s.mu.Unlock()
	case r.Method == http.MethodGet:
		s.stream(w, r)
	case len(message.ID) == 0:
		w.WriteHeader(http.StatusAccepted)
	default:
		w.Header().Set("Content-Type", "application/json")
		if answer, ok := s.answers[message.Method]; ok {
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, message.ID, answer(message))
			return
		}
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"unknown method"}}`, message.ID)
	}
}

func (s *scripted) initialize(w http.ResponseWriter, message request) {
	s.mu.Lock()
	s.minted++
	id := fmt.Sprintf("session-%d", s.minted)
	s.sessions[id] = true
	s.mu.Unlock()
	w.Header().Set("Mcp-Session-Id", id)
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":%q,"capabilities":%s,"serverInfo":{"name":"s","version":"1"}}}`,
		message.ID, s.version, s.capabilities)
}

func (s *scripted) stream(w http.ResponseWriter, r *http.Request) {
	if s.changes == nil {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	flusher := http.NewResponseController(w)
	_ = flusher.Flush()
	for {
		select {
		case method := <-s.changes:
			if method == "" {
				return // the stream ends
			}
			fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"method\":%q}\n\n", method)
			_ = flusher.Flush()
		case <-r.Context().Done():
			return
		}
	}
}

// forget ends all sessions without telling anybody, as a restart does.
func (s *scripted) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.sessions)
}

// count says how many messages of a method came.
func (s *scripted) count(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, r := range s.got {
		if r.Method == method {
			n++
		}
	}
	return n
}

// last is the last message of a method.
func (s *scripted) last(method string) request {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range slices.Backward(s.got) {
		if r.Method == method {
			return r
		}
	}
	return request{}
}

// sdkServer is a server of another implementation with three tools, a prompt, a resource and a template.
func sdkServer() *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "independent", Version: "1"}, &mcp.ServerOptions{PageSize: 2})
	for _, name := range []string{"alpha", "beta", "gamma"} {
		s.AddTool(&mcp.Tool{Name: name, InputSchema: json.RawMessage(`{"type":"object","allOf":[{"required":["x"]}]}`)},
			func(_ context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: r.Params.Name + string(r.Params.Arguments)}}}, nil
			})
	}
	s.AddPrompt(&mcp.Prompt{Name: "greet"}, func(context.Context, *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		return &mcp.GetPromptResult{}, nil
	})
	read := func(_ context.Context, r *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: r.Params.URI, Text: "text"}}}, nil
	}
	s.AddResource(&mcp.Resource{Name: "readme", URI: "file:///readme"}, read)
	s.AddResourceTemplate(&mcp.ResourceTemplate{Name: "rows", URITemplate: "db://{table}"}, read)
	return s
}

// serve runs a handler on loopback until the test ends.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.URL
}
