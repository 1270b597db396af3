// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package gateway is the front of the runtime: one MCP endpoint, for clients of every revision, over the catalog of all
// backends. In this cut mcp-go keeps the sessions, tells the revisions apart and validates the envelopes; what clients read
// and what backends answer passes as the bytes that the backend wrote.
package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/catalog"
)

// Path is where the endpoint is served.
const Path = v1alpha1.EndpointPath

// Caller brings a request to a backend and its raw result back. A JSON-RPC error of the backend comes as *backend.RPCError,
// everything else is an error on the way.
type Caller interface {
	Call(ctx context.Context, key backend.Key, method string, params json.RawMessage) (json.RawMessage, error)
}

// Limits bounds what clients can cost. A zero field has the default.
type Limits struct {
	// BodyBytes bounds the body of a request. Default 4 MiB.
	BodyBytes int64
	// Sessions bounds the sessions of clients up to revision 2025-11-25. Default 10000.
	Sessions int
	// SessionIdle is how long such a session may be without a request or an open stream. Default 30 minutes.
	SessionIdle time.Duration
	// Heartbeat is the interval of pings on open streams. Default 25 seconds.
	Heartbeat time.Duration
}

func (l Limits) withDefaults() Limits {
	if l.BodyBytes == 0 {
		l.BodyBytes = 4 << 20
	}
	if l.Sessions == 0 {
		l.Sessions = 10000
	}
	if l.SessionIdle == 0 {
		l.SessionIdle = 30 * time.Minute
	}
	if l.Heartbeat == 0 {
		l.Heartbeat = 25 * time.Second
	}
	return l
}

// Options configures a Gateway.
type Options struct {
	// Caller brings requests to the backends. Required.
	Caller Caller
	// ID is what the gateway is called in the trails of requests (backend.Trail). Empty notices no circle.
	ID string
	// Name and Version are what the gateway calls itself (serverInfo).
	Name, Version string
	// Instructions are handed to clients in the handshake.
	Instructions string
	// AllowedHosts are host names and addresses, besides localhost and loopback addresses, under which clients may address
	// the gateway and from whose web pages they may come. A port is ignored.
	AllowedHosts []string
	// Logger gets what an operator of the gateway may want to know. Nil discards it.
	Logger *slog.Logger
	// Limits bounds what clients can cost.
	Limits Limits
}

// Gateway serves one catalog. It is safe for concurrent use.
type Gateway struct {
	caller   Caller
	id       string
	log      *slog.Logger
	limits   Limits
	sessions *sessions
	mcp      *server.MCPServer
	http     *server.StreamableHTTPServer

	hosts atomic.Pointer[hostSet]

	swapping sync.Mutex // held while the catalog is swapped and announced
	serving  atomic.Pointer[edition]

	// streams ends the open streams, calls the requests in flight.
	streams, calls         context.Context //nolint:containedctx // they are the gateway's life, not a request's
	endStreams, endCalls   context.CancelFunc
	lifecycle              sync.RWMutex // guards closed against requests that begin
	closed                 bool
	inFlight               sync.WaitGroup
	closeTransport         sync.Once
	closeTransportFailures error
}

// edition is a snapshot with its lists encoded.
type edition struct {
	snapshot *catalog.Snapshot
	lists    map[string]json.RawMessage // by method
}

// listFields are the methods of the lists, and the field of the result that holds the entries.
var listFields = map[string]string{
	string(mcp.MethodToolsList):              "tools",
	string(mcp.MethodPromptsList):            "prompts",
	string(mcp.MethodResourcesList):          "resources",
	string(mcp.MethodResourcesTemplatesList): "resourceTemplates",
}

// New makes a gateway that serves an empty catalog.
func New(o Options) *Gateway {
	g := &Gateway{caller: o.Caller, id: o.ID, log: o.Logger, limits: o.Limits.withDefaults()}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	g.streams, g.endStreams = context.WithCancel(context.Background())
	g.calls, g.endCalls = context.WithCancel(context.Background())
	g.sessions = newSessions(g.limits.Sessions, g.limits.SessionIdle)
	g.SetAllowedHosts(o.AllowedHosts)
	g.serving.Store(publish(catalog.Build(nil, v1alpha1.ConflictResolution{})))
	g.mcp = g.newServer(o)
	g.http = server.NewStreamableHTTPServer(g.mcp,
		server.WithEndpointPath(Path),
		server.WithSessionIdManager(g.sessions),
		server.WithHeartbeatInterval(g.limits.Heartbeat),
		server.WithDisableLocalhostProtection(true), // guard is stricter
		server.WithStreamableHTTPLogger(slog.New(debugHandler{g.log.Handler()})),
	)
	return g
}

// SetSnapshot swaps what is served. Open sessions and streams hear of it once for each kind of list that changed.
func (g *Gateway) SetSnapshot(s *catalog.Snapshot) {
	g.swapping.Lock()
	defer g.swapping.Unlock()
	next := publish(s)
	last := g.serving.Swap(next)
	changed := func(methods ...mcp.MCPMethod) bool {
		for _, m := range methods {
			if !bytes.Equal(last.lists[string(m)], next.lists[string(m)]) {
				return true
			}
		}
		return false
	}
	if changed(mcp.MethodToolsList) {
		g.mcp.SendNotificationToAllClients(mcp.MethodNotificationToolsListChanged, nil)
	}
	if changed(mcp.MethodPromptsList) {
		g.mcp.SendNotificationToAllClients(mcp.MethodNotificationPromptsListChanged, nil)
	}
	if changed(mcp.MethodResourcesList, mcp.MethodResourcesTemplatesList) {
		g.mcp.SendNotificationToAllClients(mcp.MethodNotificationResourcesListChanged, nil)
	}
}

// SetAllowedHosts replaces Options.AllowedHosts.
func (g *Gateway) SetAllowedHosts(hosts []string) { g.hosts.Store(newHostSet(hosts)) }

// Handler serves Path, and nothing else.
func (g *Gateway) Handler() http.Handler { return http.HandlerFunc(g.serveHTTP) }

// Close ends the open streams at once, waits for the requests in flight until ctx ends, then ends those as well. Requests
// that come later get 503. Close may be called again.
func (g *Gateway) Close(ctx context.Context) error {
	g.lifecycle.Lock()
	g.closed = true
	g.lifecycle.Unlock()
	g.endStreams()

	drained := make(chan struct{})
	go func() {
		g.inFlight.Wait()
		close(drained)
	}()
	var err error
	select {
	case <-drained:
	case <-ctx.Done():
		err = fmt.Errorf("waiting for the requests in flight: %w", ctx.Err())
	}
	g.endCalls()
	g.closeTransport.Do(func() {
		g.closeTransportFailures = g.http.Shutdown(context.WithoutCancel(ctx)) // ends sessions in memory; it waits for nothing
	})
	return errors.Join(err, g.closeTransportFailures)
}

// begin counts a request in, unless the gateway is closed.
func (g *Gateway) begin() bool {
	g.lifecycle.RLock()
	defer g.lifecycle.RUnlock()
	if g.closed {
		return false
	}
	g.inFlight.Add(1)
	return true
}

func publish(s *catalog.Snapshot) *edition {
	return &edition{snapshot: s, lists: map[string]json.RawMessage{
		string(mcp.MethodToolsList):              encode(s.Tools),
		string(mcp.MethodPromptsList):            encode(s.Prompts),
		string(mcp.MethodResourcesList):          encode(s.Resources),
		string(mcp.MethodResourcesTemplatesList): encode(s.Templates),
	}}
}

// encode joins the entries into one JSON array.
func encode(entries []catalog.Entry) json.RawMessage {
	var b bytes.Buffer
	b.WriteByte('[')
	for i, e := range entries {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := json.Compact(&b, e.Raw); err != nil {
			// The catalog admits JSON objects only.
			panic(fmt.Sprintf("catalog entry %q is no JSON: %v", e.Name, err))
		}
	}
	b.WriteByte(']')
	return b.Bytes()
}
