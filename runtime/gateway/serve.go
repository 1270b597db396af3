// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
)

const (
	headerSession  = "Mcp-Session-Id"
	headerProtocol = mcp.HeaderProtocolVersion
)

// serveHTTP decides what concerns HTTP and not MCP, and hands on the rest.
func (g *Gateway) serveHTTP(w http.ResponseWriter, r *http.Request) {
	if why := g.hosts.Load().refuseForeign(r); why != "" {
		http.Error(w, why, http.StatusForbidden)
		return
	}
	if r.URL.Path != Path {
		http.NotFound(w, r)
		return
	}
	trail := backend.TrailOf(r.Header)
	if trail.LeadsBack(g.id) {
		refuseCircle(w)
		return
	}
	r = r.WithContext(backend.WithTrail(r.Context(), trail))
	if !g.begin() {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "the gateway is shutting down", http.StatusServiceUnavailable)
		return
	}
	defer g.inFlight.Done()
	switch r.Method {
	case http.MethodPost:
		g.servePost(w, r)
	case http.MethodGet, http.MethodDelete:
		g.serveSession(w, r)
	default:
		w.Header().Set("Allow", "GET, POST, DELETE")
		http.Error(w, "MCP has no "+r.Method, http.StatusMethodNotAllowed)
	}
}

// refuseCircle answers a request that would go on for ever. Whoever gets the answer is a gateway: it takes the error for the
// backend's, and hands it back to the client.
func refuseCircle(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusLoopDetected)
	_, _ = w.Write(encodeAny(map[string]any{ // a gateway that is gone needs no answer
		"jsonrpc": mcp.JSONRPC_VERSION, "id": nil, "error": map[string]any{
			"code": backend.CodeInternalError,
			"message": "the request came back to a gateway that it had passed through already: gateways name each other as backends; " +
				"remove the backend that closes the circle",
		},
	}))
}

// serveSession serves the stream of notifications and the end of a session, both of which only revisions up to 2025-11-25
// have. mcp-go refuses them to later revisions, and would open a stream for anybody else.
func (g *Gateway) serveSession(w http.ResponseWriter, r *http.Request) {
	if mcp.IsModernProtocol(r.Header.Get(headerProtocol)) {
		g.http.ServeHTTP(w, r)
		return
	}
	id := r.Header.Get(headerSession)
	if !g.inSession(w, id) {
		return
	}
	if r.Method == http.MethodDelete {
		g.http.ServeHTTP(w, r)
		return
	}
	ended, closed, ok := g.sessions.stream(id)
	if !ok {
		return // ended a moment ago, which looks the same as ending now
	}
	defer closed()
	ctx, stop := bounded(r.Context(), g.streams, ended)
	defer stop()
	w.Header().Set("X-Accel-Buffering", "no")
	g.http.ServeHTTP(w, r.WithContext(ctx))
}

// inSession checks that a request belongs to a living session, and answers it otherwise (MCP 2025-11-25, session management).
func (g *Gateway) inSession(w http.ResponseWriter, id string) bool {
	switch {
	case id == "":
		http.Error(w, "the request has no "+headerSession+" header", http.StatusBadRequest)
		return false
	case !g.sessions.touch(id):
		http.Error(w, "the session is unknown or has ended", http.StatusNotFound)
		return false
	}
	return true
}

// admitSession makes room for another session, or says that there is none.
func (g *Gateway) admitSession(w http.ResponseWriter, r *http.Request) bool {
	for _, id := range g.sessions.expired() {
		g.http.Handle(nobody{}, &server.HTTPRequest{
			Method: http.MethodDelete, Header: http.Header{headerSession: {id}}, Context: r.Context(),
		})
	}
	if g.sessions.full() {
		w.Header().Set("Retry-After", "60")
		http.Error(w, "the gateway has as many sessions as it takes", http.StatusServiceUnavailable)
		return false
	}
	return true
}

// servePost reads one message, lets mcp-go check and dispatch it, and puts the bytes of the catalog or of the backend into
// the answer.
func (g *Gateway) servePost(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, g.limits.BodyBytes))
	if err != nil {
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			http.Error(w, "the request body is too large", http.StatusRequestEntityTooLarge)
			return
		}
		http.Error(w, "the request body could not be read", http.StatusBadRequest)
		return
	}
	x := newExchange(r.Header, body, g.serving.Load())
	switch id := r.Header.Get(headerSession); {
	case x.modern, x.method == "": // no session; or no request, which mcp-go judges
	case x.method == string(mcp.MethodInitialize):
		if !g.admitSession(w, r) {
			return
		}
	case !g.inSession(w, id):
		return
	default:
		r = r.Clone(r.Context())
		r.Header.Set(headerSession, id+callsSuffix)
	}
	until := g.calls
	if x.method == string(mcp.MethodSubscriptionsListen) {
		until = g.streams
	}
	ctx, stop := bounded(context.WithValue(r.Context(), exchangeKey{}, x), until)
	defer stop()
	r = r.WithContext(ctx)
	r.Body = io.NopCloser(bytes.NewReader(body))
	reply := &replyWriter{ResponseWriter: w, exchange: x}
	defer reply.finish()
	g.http.ServeHTTP(reply, r)
}

// bounded is a context that ends with the first of several.
func bounded(ctx context.Context, others ...context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	for _, other := range others {
		stop := context.AfterFunc(other, cancel)
		context.AfterFunc(ctx, func() { stop() })
	}
	return ctx, cancel
}

// nobody is a client that hears nothing.
type nobody struct{}

func (nobody) Header() http.Header         { return http.Header{} }
func (nobody) Write(p []byte) (int, error) { return len(p), nil }
func (nobody) WriteHeader(int)             {}
func (nobody) Flush()                      {}
func (nobody) CanStream() bool             { return false }

// newExchange reads what the gateway has to know of a message. A message that it cannot read is left to mcp-go to refuse.
func newExchange(header http.Header, body []byte, serving *edition) *exchange {
	x := &exchange{serving: serving, modern: mcp.IsModernProtocol(header.Get(headerProtocol))}
	var message struct {
		Method string          `json:"method"`
		Params json.RawMessage `json:"params"`
	}
	if json.Unmarshal(body, &message) != nil {
		return x
	}
	x.method, x.params = message.Method, message.Params
	var params struct {
		Cursor string                     `json:"cursor"`
		Meta   map[string]json.RawMessage `json:"_meta"`
	}
	if json.Unmarshal(message.Params, &params) != nil {
		return x
	}
	x.cursor = params.Cursor
	var version string
	if json.Unmarshal(params.Meta[mcp.MetaKeyProtocolVersion], &version) == nil {
		x.modern = x.modern || mcp.IsModernProtocol(version)
	}
	return x
}
