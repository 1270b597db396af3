// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package gateway is the front of the runtime: one MCP endpoint, for clients of every revision, over the catalog of all backends. The
// era of each request is decided on its own; what clients ask and what backends answer passes as the bytes that they wrote, but for
// names, ids, tokens and what a revision wants of the gateway itself. Backends are known only as relay.Upstream.
package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/catalog"
	"github.com/vmcp-dev/vmcp-operator/runtime/peer"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/session"
)

// Path is where the endpoint is served.
const Path = v1alpha1.EndpointPath

// Upstreams finds the backends of a catalog. It is safe for concurrent use.
type Upstreams interface {
	// Upstream is the backend of a key, and false while it is not served. Of one backend it is the same value, until the backend is
	// replaced by another of that key.
	Upstream(key backend.Key) (relay.Upstream, bool)
	// Missed is told of each request that could not be made because its backend is not served.
	Missed(key backend.Key)
}

// Options configures a Gateway.
type Options struct {
	// Upstreams finds the backends until Serve brings others. Required.
	Upstreams Upstreams
	// UID tells gateways apart that have keys in common: what one has sealed, no other opens.
	UID string
	// ID is what the gateway is called in the trails of requests (backend.Trail). Empty notices no circle.
	ID string
	// Name and Version are what the gateway calls itself (serverInfo).
	Name, Version string
	// Instructions are handed to clients in the handshake.
	Instructions string
	// Principal says who has sent a request; sessions, and the state of requests that need input, are bound to it. Nil means that
	// clients are anonymous.
	Principal func(*http.Request) string
	// AllowedHosts are host names and addresses, besides localhost and loopback addresses, under which clients may address
	// the gateway and from whose web pages they may come. A port is ignored.
	AllowedHosts []string
	// AllowedOrigins are the origins of web pages, such as https://app.example.com, that may use the gateway; then no others may. Empty
	// means those of the hosts above.
	AllowedOrigins []string
	// Logger gets what an operator of the gateway may want to know. Nil discards it.
	Logger *slog.Logger
	// Limits bounds what clients can cost.
	Limits Limits
	// Peers are the other replicas, which are asked what PeerHandler serves. They need the keys that SetKeys gets. Nil means that there are
	// none.
	Peers *peer.Group
}

// Gateway serves one catalog. It is safe for concurrent use.
type Gateway struct {
	id         string
	principal  func(*http.Request) string
	log        *slog.Logger
	limits     Limits
	texts      texts
	sealer     *session.Sealer
	tombstones session.Tombstones
	clients    clients
	listens    listens
	flights    flights
	kept       kept
	peers      *peer.Group
	owner      atomic.Pointer[string] // as of ownerID
	streams    atomic.Int64           // that are open

	hosts   atomic.Pointer[hostSet]
	origins atomic.Pointer[originSet]

	swapping     sync.Mutex // held while the catalog is swapped
	serving      atomic.Pointer[edition]
	announcement *debounce

	retired atomic.Bool
	closing chan struct{} // closed when Drain or Close begins
	closed  sync.Once
}

// New makes a gateway that serves an empty catalog.
func New(o Options) *Gateway {
	g := &Gateway{
		id: o.ID, principal: o.Principal, log: o.Logger, limits: o.Limits.withDefaults(),
		texts: newTexts(o), sealer: session.NewSealer(o.UID), peers: o.Peers, closing: make(chan struct{}),
	}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	if g.principal == nil {
		g.principal = func(*http.Request) string { return "" }
	}
	g.kept.limit = g.limits.KeptBytes
	g.tombstones.Limit = g.limits.Tombstones
	g.clients.init(g)
	g.announcement = newDebounce(announceDelay, g.announce)
	g.SetAllowedHosts(o.AllowedHosts)
	g.SetAllowedOrigins(o.AllowedOrigins)
	g.serving.Store(g.publish(catalog.Build(nil, v1alpha1.Aggregation{}), o.Upstreams, nil))
	g.sealOwner()
	return g
}

// Serve swaps what is served, and by whom, in one step: a request sees the lists and the backends of one catalog. Open sessions and
// streams hear of it, soon after and once for all changes that come together, for each kind of list that changed.
func (g *Gateway) Serve(s *catalog.Snapshot, upstreams Upstreams) {
	g.swapping.Lock()
	defer g.swapping.Unlock()
	g.serving.Store(g.publish(s, upstreams, g.serving.Load()))
	g.announcement.ask()
}

// SetSnapshot swaps what is served by the present backends, as Serve does.
func (g *Gateway) SetSnapshot(s *catalog.Snapshot) { g.Serve(s, g.serving.Load().upstreams) }

// SetKeys replaces the keys with which ids of sessions, cursors and the state of requests are sealed. Until it is called the gateway
// seals with a key of its own, which no other replica knows; what it sealed so it can open all its life. On an error the keys stay as
// they were.
func (g *Gateway) SetKeys(k session.Keys) error {
	g.swapping.Lock()
	defer g.swapping.Unlock()
	if err := g.sealer.SetKeys(k); err != nil {
		return fmt.Errorf("using the session keys: %w", err)
	}
	g.sealOwner()
	last := g.serving.Load()
	g.serving.Store(g.publish(last.snapshot, last.upstreams, last)) // with cursors of the new key
	return nil
}

// SetAllowedHosts replaces Options.AllowedHosts.
func (g *Gateway) SetAllowedHosts(hosts []string) { g.hosts.Store(newHostSet(hosts)) }

// SetAllowedOrigins replaces Options.AllowedOrigins.
func (g *Gateway) SetAllowedOrigins(origins []string) { g.origins.Store(newOriginSet(origins)) }

// Handler serves Path, and nothing else.
func (g *Gateway) Handler() http.Handler { return http.HandlerFunc(g.serveHTTP) }

// announceDelay merges changes that come together into one announcement of each kind.
const announceDelay = 100 * time.Millisecond

// announce tells open sessions and streams which lists have changed since they last heard of it. What they subscribed to goes on, though
// backends were replaced.
func (g *Gateway) announce() {
	serving := g.serving.Load()
	for _, c := range g.clients.all() {
		c.announce(serving)
		c.followResources(serving)
	}
	g.listens.wake()
}

// Retire has each answer from now on close its connection (RFC 9112, section 9.6); all else goes on. A client that uses a connection
// again at the moment at which the server closes it loses its request. One that is told beforehand comes back by another connection, which
// leads elsewhere as soon as the Service knows that this replica leaves.
func (g *Gateway) Retire() { g.retired.Store(true) }

// Drain ends the open streams at once and lets the requests in flight end until ctx does, but no longer than 25 s, then ends those as well.
// Requests that come meanwhile are served; new streams of sessions end as they begin.
func (g *Gateway) Drain(ctx context.Context) error {
	g.endStreams()
	return g.await(ctx)
}

// Close is Drain, but requests that come later get 503; and it closes the sessions with the backends. Close may be called again.
func (g *Gateway) Close(ctx context.Context) error {
	g.endStreams()
	g.flights.close()
	g.announcement.close()
	err := g.await(ctx)
	g.clients.close()
	return err
}

func (g *Gateway) endStreams() {
	g.Retire()
	g.closed.Do(func() { close(g.closing) })
}

func (g *Gateway) isClosing() bool {
	select {
	case <-g.closing:
		return true
	default:
		return false
	}
}

// await waits for the requests in flight.
func (g *Gateway) await(ctx context.Context) error {
	ended := g.flights.calm()
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
	}
	g.flights.cancel()
	parting := time.NewTimer(partingTimeout)
	defer parting.Stop()
	select {
	case <-ended: // each could still say that it was cut
	case <-parting.C:
	}
	return fmt.Errorf("waiting for the requests in flight: %w", ctx.Err())
}
