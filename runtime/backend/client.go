// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/vmcp-dev/vmcp-operator/runtime/auth"
)

// Methods of MCP that the client sends by itself.
const (
	methodInitialize    = string(mcp.MethodInitialize)
	methodPing          = string(mcp.MethodPing)
	methodInitialized   = "notifications/initialized"
	methodCancelled     = "notifications/cancelled"
	methodToolsList     = string(mcp.MethodToolsList)
	methodPromptsList   = string(mcp.MethodPromptsList)
	methodResourcesList = string(mcp.MethodResourcesList)
	methodTemplatesList = string(mcp.MethodResourcesTemplatesList)
)

// Limits bounds what a backend can make the gateway wait for or hold. A zero field has the default.
type Limits struct {
	// Timeout is the longest that one call may take when its context allows more. Default 5 minutes.
	Timeout time.Duration
	// ResponseBytes bounds one answer, and one event of a stream. Default 16 MiB.
	ResponseBytes int64
	// Pages bounds the pages of one list. Default 100.
	Pages int
	// Items bounds the entries of one list. Default 2000.
	Items int
	// ListBytes bounds the encoded entries of one list. Default 16 MiB.
	ListBytes int
}

func (l Limits) withDefaults() Limits {
	return Limits{
		Timeout:       orDefault(l.Timeout, 5*time.Minute),
		ResponseBytes: orDefault(l.ResponseBytes, 16<<20),
		Pages:         orDefault(l.Pages, 100),
		Items:         orDefault(l.Items, 2000),
		ListBytes:     orDefault(l.ListBytes, 16<<20),
	}
}

func orDefault[T comparable](value, fallback T) T {
	var zero T
	if value == zero {
		return fallback
	}
	return value
}

// Options configures a Client. The zero Options are usable.
type Options struct {
	// Transport carries the HTTP requests. Nil means one of the client's own, which honours the proxy variables.
	Transport http.RoundTripper
	// Logger gets what an operator of the gateway may want to know. Nil discards it.
	Logger *slog.Logger
	// Name and Version are what the gateway calls itself towards the backend (clientInfo).
	Name, Version string
	// GatewayID is added to the trail of each request (see Trail). Empty leaves none.
	GatewayID string
	// Limits bounds what the backend can cost.
	Limits Limits
}

// Client speaks to one backend: in this cut with the MCP revisions up to 2025-11-25, which begin with initialize, over
// streamable HTTP or HTTP+SSE. It opens a session on the first use, keeps the stream of notifications open while the session
// lasts, and opens another session when the backend has forgotten the present one. It is safe for concurrent use.
type Client struct {
	target Target
	opts   Options
	limits Limits
	log    *slog.Logger

	transport http.RoundTripper
	closeIdle func()
	auth      *auth.Transport // nil if the backend is called without credentials

	nextID  atomic.Int64
	version atomic.Pointer[string]
	changes announcer

	// opening is held while a session is opened. It is a channel so that waiting for it ends with the caller's context.
	opening chan struct{}

	mu        sync.Mutex // guards the fields below
	session   *session
	wasOpened bool
	closed    bool

	cleanup sync.WaitGroup
}

// NewClient makes a client of a backend. Nothing is opened before its first use.
func NewClient(t Target, opts Options) *Client {
	c := &Client{
		target:    t,
		opts:      opts,
		limits:    opts.Limits.withDefaults(),
		log:       opts.Logger,
		transport: opts.Transport,
		closeIdle: func() {},
		opening:   make(chan struct{}, 1),
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.log = c.log.With("backend", t.Key.String())
	if c.transport == nil {
		own := newTransport()
		c.transport, c.closeIdle = own, own.CloseIdleConnections
	}
	if t.Auth != (auth.Strategy{}) {
		c.auth = auth.NewTransport(c.transport, t.Auth, t.URL)
		c.auth.Use(t.Credential)
		c.transport = c.auth
	}
	return c
}

// UseCredential makes another credential that of all requests from now on. The session goes on; if the backend refuses it with
// the new credential, another is opened.
func (c *Client) UseCredential(credential auth.Credential) {
	if c.auth != nil {
		c.auth.Use(credential)
	}
}

// credential is the present credential, zero if the backend is called without any.
func (c *Client) credential() auth.Credential {
	if c.auth == nil {
		return auth.Credential{}
	}
	return c.auth.Credential()
}

// Classify is the package's Classify for an error of this client.
func (c *Client) Classify(err error) Fault {
	f := Classify(c.target.Key, err)
	f.Message = c.credential().Redact(f.Message)
	return f
}

func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		TLSHandshakeTimeout:   5 * time.Second,
		ExpectContinueTimeout: time.Second,
		MaxIdleConnsPerHost:   32,
		IdleConnTimeout:       90 * time.Second,
	}
}

// OnListChanged sets what is called when the backend announces that one of its lists changed, or may have changed it unheard
// because the session or its stream was interrupted. Bursts are merged; calls never overlap. Set it before the first use.
func (c *Client) OnListChanged(f func()) { c.changes.set(f) }

// ProtocolVersion is the MCP revision of the last session, "" before the first one.
func (c *Client) ProtocolVersion() string {
	if v := c.version.Load(); v != nil {
		return *v
	}
	return ""
}

// Probe asks the backend for a sign of life: it opens a session if there is none, else it sends a ping. A backend that does
// not know ping is alive. The caller gives the deadline.
func (c *Client) Probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.limits.Timeout)
	defer cancel()
	s, fresh, err := c.acquire(ctx)
	if err != nil {
		return err
	}
	if fresh {
		return nil
	}
	_, err = s.request(ctx, c.nextID.Add(1), methodPing, nil)
	if errors.Is(err, errSessionLost) {
		c.drop(s)
		_, _, err = c.acquire(ctx)
		return err
	}
	var rpc *RPCError
	if errors.As(err, &rpc) && rpc.Code == CodeMethodNotFound {
		return nil
	}
	return err
}

// Call sends one request and returns the backend's result as it came. A JSON-RPC error comes back as *RPCError. If the
// backend has forgotten the session, and so did not process the request, another session is opened and the request is sent
// once more. When ctx ends first, the backend is told to stop.
func (c *Client) Call(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, c.limits.Timeout)
	defer cancel()
	result, err := c.callOnce(ctx, method, params)
	if errors.Is(err, errSessionLost) {
		result, err = c.callOnce(ctx, method, params)
	}
	return result, err
}

func (c *Client) callOnce(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, error) {
	s, _, err := c.acquire(ctx)
	if err != nil {
		return nil, err
	}
	id := c.nextID.Add(1)
	result, err := s.request(ctx, id, method, params)
	switch {
	case errors.Is(err, errSessionLost):
		c.drop(s)
	case err != nil && ctx.Err() != nil:
		// Up to 2025-11-25 a closed connection is no cancellation: the backend has to be told.
		c.inBackground(func() { s.cancelled(id) })
	}
	return result, err
}

// Close ends the session and waits for that at most a few seconds. Calls in flight fail. Close may be called again, but not
// from the function that OnListChanged was given.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	s := c.session
	c.session = nil
	c.mu.Unlock()
	c.changes.close()
	if s != nil {
		s.close()
	}
	c.cleanup.Wait()
	c.closeIdle()
}

// acquire returns the session, and whether it was opened for this call.
func (c *Client) acquire(ctx context.Context) (s *session, fresh bool, err error) {
	if c.target.Refused != (Refusal{}) {
		return nil, false, &refusedError{c.target.Refused}
	}
	if s, err := c.current(); s != nil || err != nil {
		return s, false, err
	}
	select {
	case c.opening <- struct{}{}:
		defer func() { <-c.opening }()
	case <-ctx.Done():
		return nil, false, fmt.Errorf("waiting for a session with the backend: %w", ctx.Err())
	}
	if s, err := c.current(); s != nil || err != nil {
		return s, false, err
	}
	s, err = openSession(ctx, c)
	if err != nil {
		return nil, false, fmt.Errorf("opening a session: %w", err)
	}
	c.version.Store(&s.protocolVersion)

	c.mu.Lock()
	closed, gap := c.closed, c.wasOpened
	if !closed {
		c.session, c.wasOpened = s, true
	}
	c.mu.Unlock()
	if closed {
		s.close()
		return nil, false, errClosed
	}
	if gap {
		c.changes.announce()
	}
	return s, true, nil
}

// current returns the session if there is a living one.
func (c *Client) current() (*session, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed
	}
	if c.session != nil && c.session.lost() {
		c.discardLocked(c.session)
	}
	return c.session, nil
}

// drop forgets a session that the backend no longer knows.
func (c *Client) drop(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session == s {
		c.discardLocked(s)
	}
}

func (c *Client) discardLocked(s *session) {
	c.session = nil
	if !c.closed {
		c.cleanup.Go(s.close)
	}
}

// inBackground runs f unless the client is closed; Close waits for it.
func (c *Client) inBackground(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.cleanup.Go(f)
	}
}
