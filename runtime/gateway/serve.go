// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"net/http"
	"time"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/era"
	"github.com/vmcp-dev/vmcp-operator/runtime/session"
)

const (
	headerSession  = mcp.HeaderSessionID
	headerProtocol = mcp.HeaderProtocolVersion
	headerLastID   = mcp.HeaderLastEventID
)

// serveHTTP decides what concerns HTTP and not MCP, and hands on the rest.
func (g *Gateway) serveHTTP(w http.ResponseWriter, r *http.Request) {
	g.extendDeadline(w)
	g.parting(w.Header())
	if why := g.refuseForeign(r); why != "" {
		http.Error(w, why, http.StatusForbidden)
		return
	}
	if r.URL.Path != Path {
		http.NotFound(w, r)
		return
	}
	trail := backend.TrailOf(r.Header)
	if len(trail) > 0 {
		if trail.LeadsBack(g.id) {
			refuseCircle(w)
			return
		}
		r = r.WithContext(backend.WithTrail(r.Context(), trail))
	}
	if !g.flights.begin() {
		g.parting(w.Header())
		refuseForNow(w, "1", shuttingDown)
		return
	}
	defer g.flights.end()
	switch r.Method {
	case http.MethodPost:
		g.servePost(w, r, trail)
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
	w.Header()["Content-Type"] = jsonType
	w.WriteHeader(http.StatusLoopDetected)
	_, _ = w.Write(bytes.Join([][]byte{answerHead, []byte("null"), errorHead, errorText(&era.Refusal{ // a gateway that is gone needs no answer
		Code: mcp.INTERNAL_ERROR,
		Message: "the request came back to a gateway that it had passed through already: gateways name each other as backends; " +
			"remove the backend that closes the circle",
	}), answerTail}, nil))
}

// refuseForNow answers what may be tried again in some seconds.
func refuseForNow(w http.ResponseWriter, seconds, why string) {
	w.Header().Set("Retry-After", seconds)
	http.Error(w, why, http.StatusServiceUnavailable)
}

// serveSession serves the stream of notifications and the end of a session, both of which only the legacy era has.
func (g *Gateway) serveSession(w http.ResponseWriter, r *http.Request) {
	switch version := r.Header.Get(headerProtocol); {
	case mcp.IsModernProtocol(version):
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "this revision of MCP has no "+r.Method, http.StatusMethodNotAllowed)
		return
	case version != "" && !era.IsLegacy(version):
		http.Error(w, "the "+headerProtocol+" header names no revision of MCP that is served", http.StatusBadRequest)
		return
	}
	id, principal, now := r.Header.Get(headerSession), g.principal(r), time.Now()
	if id == "" {
		http.Error(w, "the request has no "+headerSession+" header", http.StatusBadRequest)
		return
	}
	info, ok := g.openSession(id, principal, now)
	if !ok || r.Method == http.MethodDelete && !g.clients.end(id, info, now) {
		http.Error(w, unknownSession, http.StatusNotFound)
		return
	}
	if r.Method == http.MethodDelete {
		g.tellEnd(r, id, principal)
		w.WriteHeader(http.StatusOK)
		return
	}
	if !g.admitStream(w) {
		return
	}
	defer g.streams.Add(-1)
	if g.isClosing() && r.Header.Get(headerProtocol) < era.V20251125 {
		refuseForNow(w, "1", shuttingDown)
		return
	} // a client that knows events without a message is told where to go on, and the stream ends: after a status it would not come back
	if last := r.Header.Get(headerLastID); last != "" && g.resumeElsewhere(w, r, id, principal, last) {
		return
	}
	c, full := g.clients.remember(id, principal, info, now)
	switch {
	case full:
		refuseForNow(w, "60", tooManySessions)
	case c == nil:
		http.Error(w, unknownSession, http.StatusNotFound)
	default:
		defer c.release()
		g.serveStream(w, r, c)
	}
}

// What clients are told.
const (
	unknownSession  = "the session is unknown or has ended"
	shuttingDown    = "the gateway is shutting down"
	tooManySessions = "the gateway has as many sessions as it takes"
	tooManyStreams  = "the gateway has as many open streams as it takes"
	endedMeanwhile  = "the session has ended; whether the request was carried out is not known"
	cutOff          = "the gateway shuts down and did not wait any longer; whether the request was carried out is not known"
	tooManyCalls    = "the gateway has as many calls in flight as it takes"
	streamForgotten = "the events of this stream are no longer kept"
	ownerGone       = "the replica of the gateway that carried the request is gone, or keeps its answer no more; whether it was carried out is not known"
	askerGone       = "the replica of the gateway that has asked for this answer is gone"
)

// openSession reads the id of a session that has not ended.
func (g *Gateway) openSession(id, principal string, now time.Time) (session.Info, bool) {
	info, err := g.sealer.OpenID(principal, id, now)
	return info, err == nil && !g.tombstones.Buried(info)
}

// admitStream counts a stream in, or says that there are too many.
func (g *Gateway) admitStream(w http.ResponseWriter) bool {
	if g.streams.Add(1) > int64(g.limits.Streams) {
		g.streams.Add(-1)
		refuseForNow(w, "60", tooManyStreams)
		return false
	}
	return true
}

// serveStream is GET: the stream of a session, or what a client missed of a stream whose connection it lost.
func (g *Gateway) serveStream(w http.ResponseWriter, r *http.Request, c *client) {
	last := r.Header.Get(headerLastID)
	s, after, ok := c.streamOf(last)
	if !ok {
		if last != "" && !isStanding(last) {
			if g.failLost(w, r, last) {
				return
			}
			http.Error(w, streamForgotten, http.StatusBadRequest)
			return
		}
		s = c.stand()
		after = s.position() // what was said to nobody is old
		if !c.takeStream() {
			http.Error(w, unknownSession, http.StatusNotFound)
			return
		}
		serving := g.serving.Load()
		c.announce(serving)
		c.followResources(serving)
	}
	g.follow(w, r, c, s, after, g.closing)
}

// follow sends the events of a stream as they come, from behind one on, until the stream, the client or the gateway ends. Another
// connection that takes over the stream ends this one: a client knows that a connection is dead long before the gateway does.
func (g *Gateway) follow(w http.ResponseWriter, r *http.Request, c *client, s *stream, after uint64, closing <-chan struct{}) {
	me := newReader()
	s.take(me, after)
	defer s.leave(me)
	out := newEventWriter(g, w, r)
	if out.start() != nil {
		return
	}
	if c.info.Version >= era.V20251125 && (r.Header.Get(headerLastID) == "" || g.isClosing()) {
		if out.write(s.primingAt(after)) != nil {
			return
		}
	}
	quiet := time.NewTimer(g.limits.Heartbeat)
	defer quiet.Stop()
	age := time.NewTimer(time.Until(c.info.Expires()))
	defer age.Stop()
	for {
		frame, over := s.next(me)
		switch {
		case frame != nil:
			if out.write(frame) != nil {
				return
			}
			quiet.Reset(g.limits.Heartbeat)
			continue
		case over:
			return
		}
		select {
		case <-me.wake:
		case <-quiet.C:
			if out.write(comment) != nil {
				return
			}
			quiet.Reset(g.limits.Heartbeat)
		case <-age.C:
			return
		case <-me.gone:
			return
		case <-r.Context().Done():
			return
		case <-closing:
			return
		}
	}
}
