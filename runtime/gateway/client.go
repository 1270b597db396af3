// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/era"
	"github.com/vmcp-dev/vmcp-operator/runtime/peer"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
	"github.com/vmcp-dev/vmcp-operator/runtime/session"
)

// client is what this replica has to remember of a session of the legacy era. It is there from the first request on that needs it until
// the session ends, or nothing happened for long.
type client struct {
	g         *Gateway
	id        string
	principal string
	info      session.Info
	epoch     string // begins ids, so that those of another process are not taken for ours
	owner     string // comes before that in ids that may reach another replica, as of Gateway.ownerID
	learning  sync.Once
	life      context.Context // until the session ends here
	end       context.CancelFunc

	mu         sync.Mutex // guards the fields below
	lastSeen   time.Time
	active     int // requests and streams under way
	closed     bool
	severity   int // of log messages that the client wants, as of era.Severity
	level      string
	bonds      map[backend.Key]*bond
	calls      map[string]*call       // by the token of the request's id
	asks       map[string]*ask        // by the token of the id that the client was given
	subscribed map[string]backend.Key // by URI
	errands    map[string]*errand     // by URI, or methodSetLevel
	standing   *stream                // the stream that GET opens
	elsewhere  *peer.Replica          // where it is, if it is at another replica
	resumable  []*stream              // those of calls, the oldest first
	minted     uint64
	announced  [changes]uint64 // revisions of which the client has been told
}

// bond is the session that a client has at a backend.
type bond struct {
	upstream relay.Upstream
	session  relay.Session
}

// ask is a request of a backend that waits for the client's response.
type ask struct {
	theirs string // the token of the backend's id
	id     []byte // the id that the client was given
	reply  func(rpc.Message)
}

// defaultSeverity is from which on a client hears log messages that has not said what it wants to hear.
var defaultSeverity = era.Severity("info")

func newClient(g *Gateway, id, principal string, info session.Info, now time.Time) *client {
	c := &client{
		g: g, id: id, principal: principal, info: info, epoch: strings.ToLower(rand.Text()[:10]), owner: g.ownerID(),
		lastSeen: now, severity: defaultSeverity,
	}
	c.life, c.end = context.WithCancel(context.Background())
	serving := g.serving.Load()
	c.announced = serving.revisions
	for kind, changed := range serving.changed {
		if !changed.Before(info.Issued) {
			c.announced[kind]-- // it changed in the session's time
		}
	}
	return c
}

// acquire notes a request or stream. It returns false if the session was closed meanwhile.
func (c *client) acquire(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.active++
	c.lastSeen = now
	return true
}

func (c *client) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.active--
	c.lastSeen = time.Now()
}

func (c *client) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// isActive says whether a request or stream is under way.
func (c *client) isActive() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.active > 0
}

func (c *client) idleSince(before time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.active == 0 && c.lastSeen.Before(before)
}

// hasSettings says whether the client has set something that is valid until the session ends.
func (c *client) hasSettings() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.level != "" || len(c.subscribed) > 0
}

// close ends what the session has open, and waits for the backends to be told. It may be called again.
func (c *client) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.end()
	c.rest()
}

// rest ends what the session has open, for now.
func (c *client) rest() {
	c.mu.Lock()
	if !c.closed && c.active > 0 { // it was used meanwhile
		c.mu.Unlock()
		return
	}
	bonds, standing, resumable := c.bonds, c.standing, c.resumable
	c.bonds, c.resumable, c.asks = nil, nil, nil
	if !c.closed {
		c.standing = nil
	}
	for _, call := range c.calls {
		call.flight.cancel()
	}
	c.mu.Unlock()
	for _, s := range append(resumable, standing) {
		if s != nil {
			s.end()
			s.discard()
		}
	}
	closeAll(bonds)
}

func closeAll(bonds map[backend.Key]*bond) {
	var closing sync.WaitGroup
	for _, b := range bonds {
		closing.Go(b.session.Close)
	}
	closing.Wait()
}

// errEnded says that the session ended while a request of it was under way.
var errEnded = errors.New("the session has ended")

// session is the client's session at a backend. It is made on the first use.
func (c *client) session(key backend.Key, upstream relay.Upstream) (relay.Session, error) {
	return c.sessionBut("", key, upstream)
}

// sessionBut is session for who subscribes to a resource next: that is no subscription of the session before.
func (c *client) sessionBut(uri string, key backend.Key, upstream relay.Upstream) (relay.Session, error) {
	c.mu.Lock()
	b, there := c.bonds[key]
	if there && b.upstream == upstream {
		c.mu.Unlock()
		return b.session, nil
	}
	c.mu.Unlock()
	if !c.learn() { // what the backend has to be told
		return nil, errEnded
	}
	c.mu.Lock()
	if b, there = c.bonds[key]; there && b.upstream == upstream { // somebody else was faster
		c.mu.Unlock()
		return b.session, nil
	}
	if c.closed {
		c.mu.Unlock()
		return nil, errEnded
	}
	fresh := &bond{upstream: upstream, session: upstream.NewSession(relay.SessionOptions{
		Capabilities: c.info.Capabilities.JSON(), OnNotification: c.heard, Quiet: c.standing == nil && c.elsewhere == nil,
	})}
	if c.bonds == nil {
		c.bonds = map[backend.Key]*bond{}
	}
	c.bonds[key] = fresh
	level := c.level
	var lost []string // subscriptions of the session before
	for other, at := range c.subscribed {
		if at == key && other != uri {
			lost = append(lost, other)
		}
	}
	c.mu.Unlock()
	if there { // the backend was replaced
		c.g.background(b.session.Close)
	}
	if level != "" {
		ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
		defer cancel()
		c.setLevelAt(ctx, fresh.session, level)
	}
	c.resubscribe(fresh.session, lost)
	return fresh.session, nil
}

// resubscribe has a session with a backend go on where another one's subscriptions ended. What happened meanwhile nobody knows.
func (c *client) resubscribe(s relay.Session, uris []string) {
	if len(uris) == 0 {
		return
	}
	c.g.background(func() {
		ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
		defer cancel()
		for _, uri := range uris {
			if err := s.Subscribe(ctx, uri); err != nil {
				c.g.log.Debug("Subscribing to a resource again failed", "uri", uri, "error", err)
				continue
			}
			c.heard(updatedUnheard(uri))
		}
	})
}

// followResources goes on with subscriptions whose backend was replaced, or whose resource is another one's now.
func (c *client) followResources(serving *edition) {
	c.mu.Lock()
	subscribed := maps.Clone(c.subscribed)
	c.mu.Unlock()
	for uri, at := range subscribed {
		upstream, served := serving.upstreamOf(uri)
		if !served {
			continue
		}
		entry, _ := serving.snapshot.Resource(uri)
		c.mu.Lock()
		_, wanted := c.subscribed[uri]
		if wanted {
			c.subscribed[uri] = entry.Backend
		}
		b := c.bonds[entry.Backend]
		c.mu.Unlock()
		switch {
		case !wanted:
		case b == nil || b.upstream != upstream:
			c.g.background(func() { _, _ = c.session(entry.Backend, upstream) }) // it fails when the session has ended
		case at != entry.Backend:
			c.resubscribe(b.session, []string{uri})
		}
	}
}

// sessions are the client's sessions at backends that are open.
func (c *client) sessions() []relay.Session {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []relay.Session
	for _, b := range c.bonds {
		all = append(all, b.session)
	}
	return all
}

// setLevelAt tells a backend which log messages the client wants. What it sends too much is not passed on, so that a failure costs messages
// at most.
func (c *client) setLevelAt(ctx context.Context, s relay.Session, level string) {
	if err := s.SetLogLevel(ctx, level); err != nil {
		c.g.log.Debug("Setting the log level at a backend failed", "error", err)
	}
}

// heard takes what a backend says outside of requests.
func (c *client) heard(m rpc.Message) {
	switch m.Method {
	case methodResourceUpdated:
		if c.hasSubscribed(updatedURI(m)) {
			c.say(m.Raw)
		}
	case methodLogMessage:
		if c.wants(m) {
			c.sayAnywhere(m.Raw)
		}
	case methodElicitationComplete:
		c.sayAnywhere(m.Raw)
	}
}

// hasSubscribed says whether a resource, or one that it is a part of (MCP 2025-11-25, resources, subscriptions), is subscribed to.
func (c *client) hasSubscribed(uri string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.subscribed[uri]; ok {
		return true
	}
	for whole := range c.subscribed {
		if strings.HasPrefix(uri, whole) {
			return true
		}
	}
	return false
}

// updatedURI is the resource that a notification says has changed.
func updatedURI(m rpc.Message) string {
	uri, _ := rpc.Text(rpc.Find(m.Raw, m.Params, "uri")[0].Of(m.Raw))
	return uri
}

// wants says whether the client wants to hear a log message.
func (c *client) wants(m rpc.Message) bool {
	level, _ := rpc.Text(rpc.Find(m.Raw, m.Params, "level")[0].Of(m.Raw))
	c.mu.Lock()
	defer c.mu.Unlock()
	return era.Severity(level) >= c.severity
}

// say puts a message on the stream that GET opens, and returns where that is if it is at another replica. Where there has been none, nobody
// listens.
func (c *client) say(raw []byte) (elsewhere *peer.Replica) {
	c.mu.Lock()
	s, elsewhere := c.standing, c.elsewhere
	c.mu.Unlock()
	if s == nil {
		return elsewhere
	}
	s.push(nil, false, raw)
	return nil
}

// sayAnywhere is say for what only this replica has heard: the client's session with the backend is its own.
func (c *client) sayAnywhere(raw []byte) {
	to := c.say(raw)
	if to == nil {
		return
	}
	_, _ = c.g.peers.Send(context.Background(), *to, &peer.Message{ // within a second; when that replica is gone, so is the stream
		Method: http.MethodPost, Path: Path, Header: c.g.peerHeader(c.id, c.principal), Body: raw,
	})
}

// announce tells the client which lists have changed since it last heard of it, if it has a stream to hear of it.
func (c *client) announce(serving *edition) {
	c.mu.Lock()
	s := c.standing
	var news []string
	if s != nil {
		for kind, revision := range serving.revisions {
			if c.announced[kind] < revision {
				c.announced[kind] = revision
				news = append(news, changeMethods[kind])
			}
		}
	}
	c.mu.Unlock()
	for _, method := range news {
		s.push(nil, false, []byte(`{"jsonrpc":"2.0","method":"`+method+`"}`))
	}
}

// stand is the stream that GET opens. From the first time on backends are listened to.
func (c *client) stand() *stream {
	c.mu.Lock()
	s, quiet := c.standing, map[backend.Key]*bond(nil)
	if s == nil {
		s, quiet = &stream{name: c.streamName(nil, c.epoch+"-0"), kept: &c.g.kept}, maps.Clone(c.bonds)
		c.standing = s
	}
	c.mu.Unlock()
	for _, b := range quiet {
		b.session.Listen()
	}
	return s
}

// newStream makes the stream of a POST. Only so many are kept: the oldest that has ended makes room, and where none has the new one is
// nil, a stream that cannot be resumed.
func (c *client) newStream(r *reader, request []byte) *stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.forgetStale(now)
	if len(c.resumable) >= c.g.limits.SessionStreams {
		oldest := slices.IndexFunc(c.resumable, (*stream).isOver)
		if oldest < 0 {
			return nil
		}
		c.resumable[oldest].discard()
		c.resumable = slices.Delete(c.resumable, oldest, oldest+1)
	}
	if c.closed {
		return nil
	}
	c.minted++
	s := &stream{name: c.streamName(request, c.epoch+"-"+strconv.FormatUint(c.minted, 10)), kept: &c.g.kept, reader: r}
	c.resumable = append(c.resumable, s)
	return s
}

// forgetStale is called with mu.
func (c *client) forgetStale(now time.Time) {
	c.resumable = slices.DeleteFunc(c.resumable, func(s *stream) bool {
		stale := s.stale(now)
		if stale {
			s.discard()
		}
		return stale
	})
}

// streamOf finds the stream that the id of an event names.
func (c *client) streamOf(eventID string) (s *stream, after uint64, ok bool) {
	cut := strings.LastIndexByte(eventID, '-')
	if cut < 0 {
		return nil, 0, false
	}
	after, err := strconv.ParseUint(eventID[cut+1:], 10, 64)
	if err != nil {
		return nil, 0, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.standing != nil && c.standing.name == eventID[:cut] {
		return c.standing, after, true
	}
	for _, s := range c.resumable {
		if s.name == eventID[:cut] {
			return s, after, true
		}
	}
	return nil, 0, false
}

// isStanding says whether the id of an event names a stream that GET opened, of this process or of another.
func isStanding(eventID string) bool {
	cut := strings.LastIndexByte(eventID, '-')
	return cut >= 0 && strings.HasSuffix(eventID[:cut], "-0")
}
