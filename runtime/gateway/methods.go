// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/era"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
)

// initialize begins a session (MCP 2025-11-25, lifecycle). Nothing is stored, and no backend hears of it.
func (c *call) initialize() {
	raw := c.m.Raw
	found := rpc.Find(raw, c.m.Params, "protocolVersion", "capabilities")
	asked, _ := rpc.Text(found[0].Of(raw))
	version := era.Negotiate(asked)
	id := c.g.sealer.MintID(c.principal, version, era.ReadCapabilities(raw, found[1]), time.Now())
	c.w.Header()[headerSession] = []string{id}
	c.result([]byte(`{"protocolVersion":"`+version+`"`), c.g.serving.Load().welcome.initialize)
}

// discover says what the gateway is and can do (MCP 2026-07-28, discovery).
func (c *call) discover() { c.result(c.g.serving.Load().welcome.discover) }

// hear takes a notification of a client of the legacy era. What needs no hearing, or is unknown, is let go.
func (p *post) hear(m *rpc.Message) {
	switch m.Method {
	case methodCancelled:
		token := rpc.Token(rpc.Find(m.Raw, m.Params, "requestId")[0].Of(m.Raw))
		if token != "" && (p.client == nil || !p.client.cancel(token)) {
			p.tellReplicas(m)
		}
	case methodRootsChanged:
		ctx, cancel := context.WithTimeout(p.r.Context(), setupTimeout)
		defer cancel()
		var telling sync.WaitGroup
		if p.client != nil {
			for _, s := range p.client.sessions() {
				telling.Go(func() { s.RootsChanged(ctx) })
			}
		}
		p.tellReplicas(m)
		telling.Wait()
	}
}

// answer takes a client's response to what a backend asked, or hands it to the replica that has asked. One that comes too late is let go;
// it is refused if that replica is gone (MCP 2025-11-25, transports, sending messages: what cannot be accepted gets an HTTP error).
func (p *post) answer(m *rpc.Message) *era.Refusal {
	id := m.ID.Of(m.Raw)
	token := rpc.Token(id)
	if token == "" {
		return nil
	}
	if c := p.client; c != nil {
		c.mu.Lock()
		asked, waits := c.asks[token]
		delete(c.asks, token)
		c.mu.Unlock()
		if waits {
			// The backend's edge may use it after this request has ended.
			kept := *m
			kept.Raw = append([]byte(nil), m.Raw...)
			asked.reply(kept)
			return nil
		}
	}
	if text, ok := rpc.Text(id); ok && !p.fromPeer {
		if to, elsewhere := p.g.ownerOf(text); elsewhere {
			return p.passOn(to, m)
		}
	}
	return nil
}

// setLevel is logging/setLevel: which log messages the session wants to hear.
func (c *call) setLevel() {
	level, _ := rpc.Text(rpc.Find(c.m.Raw, c.m.Params, "level")[0].Of(c.m.Raw))
	severity := era.Severity(level)
	if severity < 0 {
		c.fail(invalidParams("params name no known log level"))
		return
	}
	owner, refusal := c.remember()
	if refusal != nil {
		c.fail(refusal)
		return
	}
	var telling sync.WaitGroup
	telling.Go(func() { c.tellReplicas(c.m) })
	owner.setLevel(c.r.Context(), level, severity)
	telling.Wait()
	c.result(emptyResult)
}

// setLevel is for what is heard of now on, and tells the backends.
func (c *client) setLevel(ctx context.Context, level string, severity int) {
	c.mu.Lock()
	c.level, c.severity = level, severity
	c.mu.Unlock()
	c.supersede(ctx, methodSetLevel)
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	c.tellLevel(ctx)
}

// tellLevel tells the backends the log level.
func (c *client) tellLevel(ctx context.Context) {
	c.mu.Lock()
	level := c.level
	c.mu.Unlock()
	var telling sync.WaitGroup
	for _, s := range c.sessions() {
		telling.Go(func() { c.setLevelAt(ctx, s, level) })
	}
	telling.Wait()
}

// subscribe is resources/subscribe.
func (c *call) subscribe() {
	owner, s, ok := c.resourceSession()
	if !ok {
		return
	}
	uri := c.v.Name
	owner.mu.Lock()
	_, known := owner.subscribed[uri]
	full := !known && len(owner.subscribed) >= c.g.limits.Subscriptions
	if !known && !full {
		owner.note(uri, c.target) // before the backend agrees: an update may be there before its answer is
	}
	owner.mu.Unlock()
	if full {
		c.fail(&era.Refusal{Code: mcp.INTERNAL_ERROR, Message: "the session watches as many resources as it may"})
		return
	}
	owner.supersede(c.r.Context(), uri)
	ctx, cancel := context.WithTimeout(c.r.Context(), setupTimeout)
	defer cancel()
	if err := s.Subscribe(ctx, uri); err != nil {
		if !known {
			owner.unsubscribed(uri)
		}
		c.failAside(err)
		return
	}
	c.tellReplicas(c.m)
	c.result(emptyResult)
}

// unsubscribe is resources/unsubscribe.
func (c *call) unsubscribe() {
	owner, s, ok := c.resourceSession()
	if !ok {
		return
	}
	owner.unsubscribed(c.v.Name)
	c.tellReplicas(c.m)
	owner.supersede(c.r.Context(), c.v.Name)
	ctx, cancel := context.WithTimeout(c.r.Context(), setupTimeout)
	defer cancel()
	if err := s.Unsubscribe(ctx, c.v.Name); err != nil {
		c.failAside(err)
		return
	}
	c.result(emptyResult)
}

// note is called with mu. It notes a subscription.
func (c *client) note(uri string, at backend.Key) {
	if c.subscribed == nil {
		c.subscribed = map[string]backend.Key{}
	}
	c.subscribed[uri] = at
}

func (c *client) unsubscribed(uri string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.subscribed, uri)
}

// resourceSession finds the session with the backend that has the resource that the request names. It answers the request if there is none.
func (c *call) resourceSession() (*client, relay.Session, bool) {
	if c.isModern() {
		c.unknownMethod()
		return nil, nil, false
	}
	entry, known := c.edition.snapshot.Resource(c.v.Name)
	if !known {
		c.fail(unknownResource(c.v.Name, false))
		return nil, nil, false
	}
	c.target = entry.Backend
	upstream, served := c.upstream()
	if !served {
		return nil, nil, false
	}
	owner, refusal := c.remember()
	if refusal != nil {
		c.fail(refusal)
		return nil, nil, false
	}
	s, err := owner.session(c.target, upstream)
	if err != nil {
		c.fail(&era.Refusal{Status: http.StatusNotFound, Code: mcp.INVALID_REQUEST, Message: unknownSession})
		return nil, nil, false
	}
	return owner, s, true
}

// failAside answers with what went wrong with something that was asked of a backend on the side.
func (c *call) failAside(err error) {
	if answered, ok := errors.AsType[*backend.RPCError](err); ok {
		r := forClient(&era.Refusal{Code: answered.Code, Message: answered.Message, Data: answered.Data}, c.isModern())
		c.out.refuse(c.id(), r)
		return
	}
	c.failAtBackend(c.fault(err))
}
