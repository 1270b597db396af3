// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/vmcp-dev/vmcp-operator/runtime/era"
	"github.com/vmcp-dev/vmcp-operator/runtime/peer"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
	"github.com/vmcp-dev/vmcp-operator/runtime/session"
)

// What a client sends of the legacy era may reach any replica, while its calls and streams are at others. What carries an id that a
// replica has minted, the answer to a question and the event after which a stream goes on, goes to that replica, which the id names; what
// carries no more than the session goes to all. See peering.go for the other end.

// settingsPath is where replicas tell each other what the settings of a session are.
const settingsPath = "/session"

const (
	// headerPrincipal is whose session it is, as base64 for URLs: the replica that the client reached has found out.
	headerPrincipal = "Vmcp-Principal"
	// headerStands is the replica at which the session has its stream now, as in ids.
	headerStands = "Vmcp-Stands"
)

// An id that a replica mints is OWNER "." LOCAL, where OWNER is the sealed replica. In those of streams that answer a request the request's
// own id is in between: OWNER "." REQUEST "." LOCAL. A gateway without other replicas mints LOCAL alone.
const idSeparator = "."

// ownerID is how ids begin that this replica mints. It is sealed once and not for each id: it says nothing else, and what it stands for
// is found by session.
func (g *Gateway) ownerID() string {
	if g.peers == nil {
		return ""
	}
	return *g.owner.Load()
}

// sealOwner is called when the keys have changed.
func (g *Gateway) sealOwner() {
	if g.peers == nil {
		return
	}
	content, _ := g.peers.Self().AppendBinary(nil) // addresses have one
	id := g.sealer.Seal(session.PurposeReplica, "", content) + idSeparator
	g.owner.Store(&id)
}

// ownerOf is the other replica that has minted an id.
func (g *Gateway) ownerOf(id string) (to peer.Replica, ok bool) {
	if g.peers == nil {
		return to, false
	}
	owner, _, cut := strings.Cut(id, idSeparator)
	if !cut || owner+idSeparator == *g.owner.Load() {
		return to, false
	}
	content, err := g.sealer.Open(session.PurposeReplica, "", owner)
	if err != nil || to.UnmarshalBinary(content) != nil || to == g.peers.Self() {
		return to, false
	}
	return to, true
}

// maxRequestInID bounds the id of a request that the ids of its stream's events carry.
const maxRequestInID = 64

// streamName is how ids of events begin. request is the id of the request that the stream answers.
func (c *client) streamName(request []byte, local string) string {
	if c.owner == "" {
		return local
	}
	if len(request) > maxRequestInID {
		request = nil
	}
	return c.owner + base64.RawURLEncoding.EncodeToString(request) + idSeparator + local
}

// requestOf is the id of the request that the stream of an event answers, nil if the event does not say.
func requestOf(eventID string) []byte {
	parts := strings.Split(eventID, idSeparator)
	if len(parts) != 3 {
		return nil
	}
	id, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || !json.Valid(id) || rpc.Token(id) == "" { // it comes from a client
		return nil
	}
	return id
}

// resumeElsewhere answers a GET that goes on with a stream of another replica, and says whether it did. When that replica is gone, or has
// forgotten the stream, nobody knows the answer to the request: the client hears just that on the stream and goes on with its session,
// while a status would make it give up either the session or, waiting, the request. It did not if the stream is the session's own, of
// which any replica can open another, or does not say which request it answers.
func (g *Gateway) resumeElsewhere(w http.ResponseWriter, r *http.Request, id, principal, last string) bool {
	to, elsewhere := g.ownerOf(last)
	if !elsewhere {
		return false
	}
	h := g.peerHeader(id, principal)
	h.Set(headerProtocol, r.Header.Get(headerProtocol))
	h.Set(headerLastID, last)
	err := g.peers.Forward(&patientWriter{w, g, r}, r, to, h, g.closing)
	switch {
	case err == nil:
		return true
	case errors.Is(err, peer.ErrEnded):
		g.sendBack(w, r, last)
		return true
	default:
		return g.failLost(w, r, last)
	}
}

// sendBack answers a GET that goes on with a stream of another replica, of which nothing is known as this one shuts down: the client shall
// ask again. To one that knows events without a message the stream just ends, as if it had begun, behind the same event; a status would make
// it give up, as above.
func (g *Gateway) sendBack(w http.ResponseWriter, r *http.Request, last string) {
	if r.Header.Get(headerProtocol) < era.V20251125 {
		refuseForNow(w, "1", shuttingDown)
		return
	}
	out := newEventWriter(g, w, r)
	if out.start() == nil {
		_ = out.write(priming([]byte(last))) // who is gone hears nothing
	}
}

// failLost answers a GET that goes on with a stream that is lost by failing the request that the stream answers, if the event says which.
func (g *Gateway) failLost(w http.ResponseWriter, r *http.Request, last string) bool {
	request := requestOf(last)
	if request == nil {
		return false
	}
	out := newEventWriter(g, w, r)
	if out.start() == nil {
		_ = out.write(appendEvent(nil, "", 0, answerHead, request, errorHead, errorText(&era.Refusal{ // who is gone hears nothing
			Code: mcp.INTERNAL_ERROR, Message: ownerGone,
		}), answerTail))
	}
	return true
}

// patientWriter gives the client time for each part of an answer that is handed on.
type patientWriter struct {
	http.ResponseWriter
	g *Gateway
	r *http.Request
}

func (p *patientWriter) Write(b []byte) (int, error) {
	p.g.extendDeadline(p.ResponseWriter)
	return p.ResponseWriter.Write(b)
}

// FlushError is what http.ResponseController calls.
func (p *patientWriter) FlushError() error {
	p.g.extendDeadline(p.ResponseWriter)
	if err := http.NewResponseController(p.ResponseWriter).Flush(); err != nil {
		return err
	}
	liftDeadline(p.ResponseWriter, p.r)
	return nil
}

func (p *patientWriter) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// peerHeader is the header of a request to other replicas.
func (g *Gateway) peerHeader(id, principal string) http.Header {
	return http.Header{
		headerSession:   {id},
		headerPrincipal: {base64.RawURLEncoding.EncodeToString([]byte(principal))},
		"Content-Type":  jsonType,
	}
}

// passOn gives an answer of the client to the replica that has asked.
func (p *post) passOn(to peer.Replica, m *rpc.Message) *era.Refusal {
	ctx, cancel := context.WithTimeout(p.r.Context(), setupTimeout)
	defer cancel()
	status, err := p.g.peers.Send(ctx, to, &peer.Message{Method: http.MethodPost, Path: Path, Header: p.g.peerHeader(p.id, p.principal), Body: m.Raw})
	if err != nil || status != http.StatusAccepted {
		return &era.Refusal{Status: http.StatusBadRequest, Code: mcp.INVALID_REQUEST, Message: askerGone}
	}
	return nil
}

// tellReplicas repeats to the other replicas what the client has said.
func (p *post) tellReplicas(m *rpc.Message) {
	if p.g.peers == nil || p.fromPeer {
		return
	}
	p.g.peers.Tell(p.r.Context(), &peer.Message{Method: http.MethodPost, Path: Path, Header: p.g.peerHeader(p.id, p.principal), Body: m.Raw})
}

// tellEnd tells the other replicas that a session has ended.
func (g *Gateway) tellEnd(r *http.Request, id, principal string) {
	if g.peers != nil {
		g.peers.Tell(r.Context(), &peer.Message{Method: http.MethodDelete, Path: Path, Header: g.peerHeader(id, principal)})
	}
}

// settings are what a session has set at some replica, and so is valid at all.
type settings struct {
	// Ended says that the client has ended the session.
	Ended bool `json:"ended,omitempty"`
	// Level is as of logging/setLevel.
	Level string `json:"level,omitempty"`
	// Subscribed are URIs of resources.
	Subscribed []string `json:"subscribed,omitempty"`
	// Stands is the replica with the session's stream, as in ids.
	Stands string `json:"stands,omitempty"`
}

// learn asks the other replicas, once, what the session has set there, before anything here depends on it. It returns false if it has
// ended.
func (c *client) learn() bool {
	if c.g.peers == nil {
		return true
	}
	c.learning.Do(func() {
		c.adopt(&peer.Message{Method: http.MethodGet, Path: settingsPath, Header: c.g.peerHeader(c.id, c.principal)})
	})
	return !c.isClosed()
}

// takeStream tells the other replicas that the stream of the session is here from now on: it is one stream wherever it was before (MCP
// 2025-11-25, transports, multiple connections). It returns false if the session has ended.
func (c *client) takeStream() bool {
	if c.g.peers == nil {
		return true
	}
	h := c.g.peerHeader(c.id, c.principal)
	h.Set(headerStands, strings.TrimSuffix(c.owner, idSeparator))
	c.mu.Lock()
	c.elsewhere = nil
	c.mu.Unlock()
	c.learning.Do(func() {}) // what comes now is all that there is to learn
	c.adopt(&peer.Message{Method: http.MethodPost, Path: settingsPath, Header: h})
	return !c.isClosed()
}

// adopt takes over what other replicas answer about the settings. What was set here stays.
func (c *client) adopt(m *peer.Message) {
	for _, text := range c.g.peers.Ask(context.Background(), m) {
		var theirs settings
		if json.Unmarshal(text, &theirs) != nil {
			continue // another version of the program
		}
		if theirs.Ended {
			c.g.clients.end(c.id, c.info, time.Now())
			c.mu.Lock()
			c.closed = true // at once; the rest of its end is under way
			c.mu.Unlock()
			return
		}
		c.merge(&theirs)
	}
}

func (c *client) merge(theirs *settings) {
	serving := c.g.serving.Load()
	stands, isElsewhere := c.g.ownerOf(theirs.Stands + idSeparator)
	c.mu.Lock()
	defer c.mu.Unlock()
	if severity := era.Severity(theirs.Level); c.level == "" && severity >= 0 {
		c.level, c.severity = theirs.Level, severity
	}
	for _, uri := range theirs.Subscribed {
		if _, known := c.subscribed[uri]; known || len(c.subscribed) >= c.g.limits.Subscriptions {
			continue
		}
		entry, _ := serving.snapshot.Resource(uri)
		c.note(uri, entry.Backend)
	}
	if isElsewhere && c.standing == nil {
		c.elsewhere = &stands
	}
}

// settings are what is known here.
func (c *client) settings() settings {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := settings{Level: c.level}
	for uri := range c.subscribed {
		s.Subscribed = append(s.Subscribed, uri)
	}
	if c.standing != nil {
		s.Stands = strings.TrimSuffix(c.owner, idSeparator)
	}
	return s
}
