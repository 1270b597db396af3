// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/vmcp-dev/vmcp-operator/runtime/era"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
	"github.com/vmcp-dev/vmcp-operator/runtime/session"
)

// PeerHandler serves what other replicas ask of this one. Its caller has made sure that it is they who ask (peer.Group.Handler). What they
// ask is answered here and never asked of a third one. While the gateway drains it goes on: calls under way still want answers.
func (g *Gateway) PeerHandler() http.Handler {
	mux := http.NewServeMux()
	for pattern, serve := range map[string]func(*peering){
		http.MethodPost + " " + Path:         (*peering).hear,
		http.MethodDelete + " " + Path:       (*peering).end,
		http.MethodGet + " " + Path:          (*peering).resume,
		http.MethodGet + " " + settingsPath:  (*peering).tellSettings,
		http.MethodPost + " " + settingsPath: (*peering).yieldStream,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			g.extendDeadline(w)
			p := &peering{g: g, w: w, r: r, id: r.Header.Get(headerSession), now: time.Now()}
			principal, err := base64.RawURLEncoding.DecodeString(r.Header.Get(headerPrincipal))
			if err != nil {
				http.Error(w, "the principal is malformed", http.StatusBadRequest)
				return
			}
			p.principal = string(principal)
			if p.info, err = g.sealer.OpenID(p.principal, p.id, p.now); err != nil {
				http.Error(w, unknownSession, http.StatusNotFound)
				return
			}
			serve(p)
		})
	}
	return mux
}

// peering is one request of another replica about a session.
type peering struct {
	g         *Gateway
	w         http.ResponseWriter
	r         *http.Request
	id        string
	principal string
	info      session.Info
	now       time.Time
}

// find is what is remembered of the session, noted as active; nil if nothing is.
func (p *peering) find() *client { return p.g.clients.find(p.id, p.principal, p.now) }

// hear is for a message of the client that reached another replica. An answer to what nobody asks any more is accepted, as it is where it
// comes from the client itself.
func (p *peering) hear() {
	body := &bytes.Buffer{}
	if !p.g.readBody(p.w, p.r, body) {
		return
	}
	m, err := rpc.Parse(body.Bytes())
	if err != nil {
		http.Error(p.w, "the body is no message", http.StatusBadRequest)
		return
	}
	// What was begun goes on when the other replica does not wait for it any longer.
	r := p.r.WithContext(context.WithoutCancel(p.r.Context()))
	told := &post{g: p.g, w: p.w, r: r, principal: p.principal, began: p.now, inSession: true, id: p.id, info: p.info, fromPeer: true, client: p.find()}
	defer func() {
		if told.client != nil {
			told.client.release()
		}
	}()
	switch {
	case m.Kind == rpc.Request:
		told.adopt(&m)
	case m.Kind != rpc.Notification:
		_ = told.answer(&m) // it refuses nothing that comes from a peer
	case m.Method == methodLogMessage || m.Method == methodElicitationComplete:
		if told.client != nil {
			told.client.say(m.Raw) // a backend has said it at the other replica
		}
	default:
		told.hear(&m)
	}
	p.w.WriteHeader(http.StatusAccepted)
}

// adopt does here what a request has done at another replica, which answers it.
func (p *post) adopt(m *rpc.Message) {
	v, refusal := era.Decide(http.Header{}, m)
	if refusal != nil {
		return
	}
	c, refusal := p.remember()
	if refusal != nil {
		p.g.log.Debug("There is no room for what a session has set at another replica", "method", m.Method)
		return
	}
	switch m.Method {
	case methodSetLevel:
		level, _ := rpc.Text(rpc.Find(m.Raw, m.Params, "level")[0].Of(m.Raw))
		if severity := era.Severity(level); severity >= 0 {
			c.hearLevel(level, severity)
		}
	case methodSubscribe:
		c.follow(v.Name)
	case methodUnsubscribe:
		c.unfollow(v.Name)
	}
}

// end is for the end of the session.
func (p *peering) end() {
	p.g.clients.end(p.id, p.info, p.now)
	p.w.WriteHeader(http.StatusOK)
}

// resume is for a client that goes on with a stream of this replica, and has reached another one. 410 says that there is none.
func (p *peering) resume() {
	c := p.find()
	if c == nil {
		http.Error(p.w, streamForgotten, http.StatusGone)
		return
	}
	defer c.release()
	last := p.r.Header.Get(headerLastID)
	s, after, ok := c.streamOf(last)
	if !ok || !p.g.flights.join() {
		http.Error(p.w, streamForgotten, http.StatusGone)
		return
	}
	defer p.g.flights.end()
	if !p.g.admitStream(p.w) {
		return
	}
	defer p.g.streams.Add(-1)
	closing := p.g.closing
	if !isStanding(last) {
		closing = nil // while the gateway drains the call goes on, and with it its stream
	}
	p.g.follow(p.w, p.r, c, s, after, closing)
}

// tellSettings is for a replica that sees the session for the first time.
func (p *peering) tellSettings() { p.reply(false) }

// yieldStream is for a replica that has the stream of the session from now on.
func (p *peering) yieldStream() { p.reply(true) }

func (p *peering) reply(yields bool) {
	if p.g.tombstones.Buried(p.info) {
		p.send(settings{Ended: true})
		return
	}
	c := p.find()
	if c == nil {
		p.w.WriteHeader(http.StatusNoContent)
		return
	}
	defer c.release()
	if yields {
		c.yield(p.r.Header.Get(headerStands))
	}
	p.send(c.settings())
}

func (p *peering) send(s settings) {
	text, err := json.Marshal(s)
	if err != nil {
		http.Error(p.w, err.Error(), http.StatusInternalServerError)
		return
	}
	p.w.Header()["Content-Type"] = jsonType
	_, _ = p.w.Write(text) // who is gone needs no answer
}

// yield gives the stream of the session to another replica. From now on backends are listened to on its behalf.
func (c *client) yield(to string) {
	stands, ok := c.g.ownerOf(to + idSeparator)
	if !ok {
		return
	}
	c.mu.Lock()
	standing, first := c.standing, c.elsewhere == nil && c.standing == nil
	c.standing, c.elsewhere = nil, &stands
	var quiet []*bond
	if first {
		for _, b := range c.bonds {
			quiet = append(quiet, b)
		}
	}
	c.mu.Unlock()
	if standing != nil {
		standing.end()
		standing.discard()
	}
	var listening sync.WaitGroup
	for _, b := range quiet {
		listening.Go(b.session.Listen)
	}
	listening.Wait()
}
