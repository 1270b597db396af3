// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package relay is what the two edges of the gateway say to each other: a request of a client on its way to a backend, what happens
// meanwhile, and the answer. The front (package gateway) knows clients and names, the edge (package backend) knows how to speak to one
// backend; neither knows the other.
package relay

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
)

// Era is one of the two ways to speak MCP over HTTP.
type Era uint8

const (
	// Legacy is that of the revisions up to 2025-11-25: initialize, sessions, requests in both directions.
	Legacy Era = iota + 1
	// Modern is that of revision 2026-07-28: every request stands for itself.
	Modern
)

// String is the era's name, for logs.
func (e Era) String() string {
	switch e {
	case Legacy:
		return "legacy"
	case Modern:
		return "modern"
	default:
		return "unknown"
	}
}

// Request is one request of a client to one backend. The edge changes the id, the progress token and what the backend's era wants;
// the front has said in Edits what else is to change.
type Request struct {
	// Message is the client's request, as it came, and Meta the place of its params._meta, if any. Its bytes, and those of Edits, are
	// valid until Exchange returns.
	Message rpc.Message
	Meta    rpc.Span
	// Era is the client's.
	Era Era
	// Edits are made to Message: the backend's own name for what is asked, its own requestState. They lie outside Meta and the id.
	Edits []rpc.Edit
	// Name is the backend's name of the tool or prompt, or the URI of the resource; empty for other methods (Mcp-Name).
	Name string
	// Params are the Mcp-Param-* headers for a backend of the modern era, nil if there are none.
	Params http.Header
	// Capabilities are what the client can be asked for in this request, narrowed to what the gateway relays: a ClientCapabilities
	// object. Empty means none.
	Capabilities json.RawMessage
	// LogLevel is the level from which on the client wants log messages; empty means none.
	LogLevel string
	// Progress says that the client wants to hear of the progress.
	Progress bool
	// Repeatable says that it does no harm if the backend gets the request twice.
	Repeatable bool
}

// Sink takes what a backend says while a request is under way, in the order in which it was said. Its methods are called one at
// a time, never after Exchange has returned, and may block: the backend is then not read from.
type Sink interface {
	// Notify takes a notification. Of notifications/progress the token is the edge's own; the front puts the client's in its place.
	// The bytes are valid until Notify returns.
	Notify(m rpc.Message) error
	// Ask takes a request of the backend to the client: elicitation/create, sampling/createMessage or roots/list. It returns at once;
	// reply is called once, from any goroutine, with a Result or Failure whose id is of no account. When Exchange returns before, reply
	// has no effect. The bytes of m are valid until Ask returns. Its id is the backend's, and what a notifications/cancelled of the backend
	// refers to.
	Ask(m rpc.Message, reply func(rpc.Message)) error
}

// Waiter is a Sink that wants to know that the answer takes a while: the backend has ended the connection, and goes on when it is asked
// again (MCP 2025-11-25, transports, polling). Wait is called where Notify is.
type Waiter interface{ Wait() }

// Answer is a backend's response to a Request.
type Answer struct {
	// Message is a Result or a Failure. Its id is the edge's; the front puts the client's in its place.
	Message rpc.Message
	// Era is the backend's.
	Era Era
	// Release gives the message's bytes back. Nil means that there is nothing to give back.
	Release func()
}

// Done gives the message's bytes back, once.
func (a *Answer) Done() {
	if a == nil || a.Release == nil {
		return
	}
	release := a.Release
	a.Release = nil
	release()
}

// Session is what one client of the legacy era has at one backend. It opens nothing before the first Exchange. It is safe for
// concurrent use.
type Session interface {
	// Exchange sends a request and waits for the answer. A JSON-RPC error of the backend is an Answer; an error is a fault on the way.
	// When ctx ends, the backend is told that the request is cancelled.
	Exchange(ctx context.Context, r *Request, sink Sink) (*Answer, error)
	// SetLogLevel is for the sessions that are open and those that will be.
	SetLogLevel(ctx context.Context, level string) error
	// Subscribe and Unsubscribe are for updates of one resource.
	Subscribe(ctx context.Context, uri string) error
	Unsubscribe(ctx context.Context, uri string) error
	// RootsChanged tells the backend that the client's roots changed.
	RootsChanged(ctx context.Context)
	// Listen says that from now on somebody listens, if the session began Quiet.
	Listen()
	// Close ends the backend's session, within a few seconds.
	Close()
}

// SessionOptions say whose a Session is.
type SessionOptions struct {
	// Capabilities are the client's, narrowed to what the gateway relays: a ClientCapabilities object.
	Capabilities json.RawMessage
	// OnNotification takes what the backend says outside of any request, but for changes of lists: notifications/resources/updated,
	// notifications/message. Nil means that nobody listens. The bytes are valid until it returns.
	// It may be called by several goroutines at a time, and while it runs one stream of the backend is not read from.
	OnNotification func(m rpc.Message)
	// Quiet says that nobody listens before Session.Listen is called.
	Quiet bool
}

// Upstream is a backend as the front sees it.
type Upstream interface {
	// Exchange sends the request of a client that has no session.
	Exchange(ctx context.Context, r *Request, sink Sink) (*Answer, error)
	// NewSession makes the session of a client of the legacy era.
	NewSession(o SessionOptions) Session
	// WatchResource calls updated whenever the backend says that a resource changed, and when it may have changed unheard, until ctx
	// ends. It returns once the backend has agreed. updated may be called by several goroutines at a time.
	WatchResource(ctx context.Context, uri string, updated func(m rpc.Message)) error
}
