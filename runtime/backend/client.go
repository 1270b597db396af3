// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"golang.org/x/sync/errgroup"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/auth"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
)

// Methods of MCP that the edge sends by itself or looks at.
const (
	methodInitialize    = string(mcp.MethodInitialize)
	methodDiscover      = "server/discover"
	methodPing          = string(mcp.MethodPing)
	methodToolsCall     = string(mcp.MethodToolsCall)
	methodToolsList     = string(mcp.MethodToolsList)
	methodPromptsList   = string(mcp.MethodPromptsList)
	methodResourcesList = string(mcp.MethodResourcesList)
	methodTemplatesList = string(mcp.MethodResourcesTemplatesList)
	methodSetLevel      = string(mcp.MethodSetLogLevel)
	methodSubscribe     = "resources/subscribe"
	methodUnsubscribe   = "resources/unsubscribe"
	methodListen        = "subscriptions/listen"
	methodInitialized   = "notifications/initialized"
	methodCancelled     = "notifications/cancelled"
	methodProgress      = "notifications/progress"
	methodMessage       = "notifications/message"
	methodUpdated       = "notifications/resources/updated"
	methodRootsChanged  = "notifications/roots/list_changed"
	methodAcknowledged  = "notifications/subscriptions/acknowledged"
)

const (
	// farewellTimeout is how long the end of the sessions may take; nobody should wait for it.
	farewellTimeout = 2 * time.Second
	// maxFarewells bounds how many sessions are ended at a time when the client is closed.
	maxFarewells = 64
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

// Client speaks to one backend, over streamable HTTP in whichever era it speaks, or over HTTP+SSE. It finds the era out by itself and
// remembers it. Sessions of the legacy era are opened on first use and replaced when the backend has forgotten them. It implements
// relay.Upstream and is safe for concurrent use.
type Client struct {
	target Target
	limits Limits
	log    *slog.Logger
	url    *url.URL
	info   []byte // clientInfo, encoded
	agent  string
	id     string // the gateway's, for trails

	transport http.RoundTripper
	pool      *pool           // nil if the transport is somebody else's
	auth      *auth.Transport // nil if the backend is called without credentials

	nextID  atomic.Int64
	verdict atomic.Pointer[verdict]
	version atomic.Pointer[string] // of the last legacy session
	changes announcer

	// answers are the gateway's own to what the backend asks, outbox what clients say beside requests: the former do not hold up the latter.
	answers, outbox outbox

	// service is the session of clients that have none, and of the gateway itself.
	service   *session
	watches   watches
	listening *listening
	listens   atomic.Int64 // streams of subscriptions/listen that were opened
	// hasRead is set once the lists have been read: what changed before the stream opened has then to be announced.
	hasRead atomic.Bool

	// probing and subscribing are held while the era is probed, and while subscriptions change. They are channels so that waiting for
	// them ends with the caller's context.
	probing, subscribing chan struct{}

	// life ends when the client is closed.
	life context.Context //nolint:containedctx // that of all that the client has running
	end  context.CancelFunc
	// farewell ends a moment later: it is that of the requests that end sessions.
	farewell    context.Context //nolint:containedctx // as life
	endFarewell context.CancelFunc

	mu       sync.Mutex // guards the fields below
	sessions map[*session]struct{}
	closed   bool

	cleanup sync.WaitGroup
}

var _ relay.Upstream = (*Client)(nil)

// NewClient makes a client of a backend. Nothing is opened before its first use.
func NewClient(t Target, opts Options) *Client {
	c := &Client{
		target:      t,
		limits:      opts.Limits.withDefaults(),
		log:         opts.Logger,
		transport:   opts.Transport,
		probing:     make(chan struct{}, 1),
		subscribing: make(chan struct{}, 1),
		sessions:    map[*session]struct{}{},
	}
	c.life, c.end = context.WithCancel(context.Background())
	c.farewell, c.endFarewell = context.WithCancel(context.Background())
	name, version := orDefault(opts.Name, "vmcp"), orDefault(opts.Version, "unknown")
	c.info = fmt.Appendf(nil, `{"name":%s,"version":%s}`, encodeString(name), encodeString(version))
	c.agent, c.id = "vmcp/"+version, opts.GatewayID
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.log = c.log.With("backend", t.Key.String())
	if c.transport == nil {
		c.pool = newPool(idleFor(t.URL))
		c.transport = c.pool
	}
	if t.Auth != (auth.Strategy{}) {
		c.auth = auth.NewTransport(c.transport, t.Auth, t.URL)
		c.auth.Use(t.Credential)
		c.transport = c.auth
	}
	var err error
	if c.url, err = url.Parse(t.URL); err != nil && t.Refused == (Refusal{}) {
		c.target.Refused = Refusal{Reason: v1alpha1.ReasonInvalidSpec, Message: "the backend's URL is malformed"}
	}
	c.service = c.newSession(relay.SessionOptions{})
	c.service.shared = true
	c.listening = newListening(c)
	return c
}

// UseCredential makes another credential that of all requests from now on. Sessions go on; if the backend refuses one with the new
// credential, another is opened.
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

// OnListChanged sets what is called when the backend announces that one of its lists changed, or may have changed it unheard
// because the session or its stream was interrupted. Bursts are merged; calls never overlap. Set it before the first use.
func (c *Client) OnListChanged(f func()) { c.changes.set(f) }

// ProtocolVersion is the MCP revision in use, "" before it is known.
func (c *Client) ProtocolVersion() string {
	if v := c.verdict.Load(); v != nil && v.version != "" {
		return v.version
	}
	if v := c.version.Load(); v != nil {
		return *v
	}
	return ""
}

// Probe asks the backend for a sign of life: server/discover in the modern era; in the legacy era it opens the service session if there is
// none, else it sends a ping. A backend that does not know ping is alive. The caller gives the deadline.
func (c *Client) Probe(ctx context.Context) error {
	if c.target.Refused != (Refusal{}) {
		return &refusedError{c.target.Refused}
	}
	ctx, cancel := context.WithTimeout(ctx, c.limits.Timeout)
	defer cancel()
	v := c.verdict.Load()
	asked := v == nil || v.era == relay.Modern
	if asked {
		now, err := c.reconsider(ctx, v)
		if err != nil {
			return err
		}
		if now.era == relay.Modern {
			c.listening.start()
			return now.refusal
		}
		v = now
	}
	err := c.probeLegacy(ctx)
	// However young the verdict is, for a backend that answered with something else for a while was taken for one of this era, and that
	// was confirmed by each probe.
	if !asked && c.changedEra(ctx, v, err) {
		return nil // discovered just now
	}
	return err
}

func (c *Client) probeLegacy(ctx context.Context) error {
	l, fresh, err := c.service.acquire(ctx)
	if fresh || err != nil {
		return err
	}
	_, err = l.request(ctx, methodPing, nil)
	if errors.Is(err, errSessionLost) {
		c.service.drop(l)
		_, _, err = c.service.acquire(ctx)
		return err
	}
	var rpc *RPCError
	if errors.As(err, &rpc) && rpc.Code == CodeMethodNotFound {
		return nil
	}
	return err
}

// Call sends one request of a client without a session and returns the backend's result as it came. A JSON-RPC error comes back as
// *RPCError.
func (c *Client) Call(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, error) {
	r, err := ownRequest(method, params)
	if err != nil {
		return nil, fmt.Errorf("encoding %s: %w", method, err)
	}
	return resultOf(c.Exchange(ctx, r, nil))
}

// Close ends all sessions and waits for that at most a few seconds. Calls in flight fail. Close may be called again, but not
// from the function that OnListChanged was given.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	sessions := c.sessions
	c.sessions = nil
	c.mu.Unlock()
	c.end()
	defer c.endFarewell()
	defer time.AfterFunc(farewellTimeout, c.endFarewell).Stop()
	c.changes.close()
	var closing errgroup.Group
	closing.SetLimit(maxFarewells)
	for s := range sessions {
		closing.Go(func() error { s.Close(); return nil })
	}
	_ = closing.Wait() // there are no errors
	c.service.Close()
	c.cleanup.Wait()
	c.pool.close()
}

// keep has Close end a session, unless it is too late for that.
func (c *Client) keep(s *session) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.sessions[s] = struct{}{}
	return true
}

func (c *Client) forget(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.sessions, s)
}

// inBackground runs f unless the client is closed, and says whether it does; Close waits for it.
func (c *Client) inBackground(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.cleanup.Go(f)
	return true
}
