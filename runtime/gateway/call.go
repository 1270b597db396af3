// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync/atomic"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/catalog"
	"github.com/vmcp-dev/vmcp-operator/runtime/era"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
)

// Methods of MCP that the gateway serves besides those of the lists.
const (
	methodInitialize          = string(mcp.MethodInitialize)
	methodPing                = string(mcp.MethodPing)
	methodDiscover            = string(mcp.MethodServerDiscover)
	methodSetLevel            = string(mcp.MethodSetLogLevel)
	methodSubscribe           = "resources/subscribe"
	methodUnsubscribe         = "resources/unsubscribe"
	methodListen              = string(mcp.MethodSubscriptionsListen)
	methodCallTool            = string(mcp.MethodToolsCall)
	methodGetPrompt           = string(mcp.MethodPromptsGet)
	methodReadResource        = string(mcp.MethodResourcesRead)
	methodComplete            = string(mcp.MethodCompletionComplete)
	methodCancelled           = string(mcp.MethodNotificationCancelled)
	methodProgress            = string(mcp.MethodNotificationProgress)
	methodLogMessage          = string(mcp.MethodNotificationMessage)
	methodRootsChanged        = string(mcp.MethodNotificationRootsListChanged)
	methodResourceUpdated     = string(mcp.MethodNotificationResourceUpdated)
	methodElicitationComplete = string(mcp.MethodNotificationElicitationComplete)
)

// call is one request of a client.
type call struct {
	*post
	m       *rpc.Message
	v       *era.Verdict
	out     *reply
	edition *edition

	// The fields below are those of a request that goes to a backend. The call is the relay.Sink of its exchange.
	target    backend.Key
	request   relay.Request
	edits     [2]rpc.Edit
	owner     *client // in the legacy era
	flight    flight
	cancelled atomic.Bool // by the client
	asked     []string    // tokens of the asks that wait for the client
}

// id is the id of the request, as the client wrote it.
func (c *call) id() []byte { return c.m.ID.Of(c.m.Raw) }

func (c *call) isModern() bool { return c.v.Era == relay.Modern }

// serve answers the request.
func (c *call) serve() {
	if kind, ok := listOf(c.m.Method); ok {
		c.serveList(kind)
		return
	}
	switch c.m.Method {
	case methodCallTool, methodGetPrompt, methodReadResource, methodComplete:
		if refusal := c.route(); refusal != nil {
			c.fail(refusal)
			return
		}
		c.relay()
	case methodDiscover:
		c.serveModern((*call).discover)
	case methodListen:
		c.serveModern((*call).listen)
	case methodInitialize:
		c.initialize()
	case methodPing:
		c.result(emptyResult)
	case methodSetLevel:
		c.setLevel()
	case methodSubscribe:
		c.subscribe()
	case methodUnsubscribe:
		c.unsubscribe()
	default:
		c.unknownMethod()
	}
}

func (c *call) serveModern(serve func(*call)) {
	if !c.isModern() {
		c.unknownMethod()
		return
	}
	serve(c)
}

func (c *call) unknownMethod() {
	c.fail(&era.Refusal{Status: http.StatusNotFound, Code: mcp.METHOD_NOT_FOUND, Message: "unknown method " + strconv.Quote(c.m.Method)})
}

// result answers with a result of the gateway's own.
func (c *call) result(pieces ...[]byte) {
	all := append([][]byte{answerHead, c.id(), resultHead}, pieces...)
	c.out.respond(http.StatusOK, append(all, answerTail)...)
}

// fail answers with an error of the gateway's own. Of the legacy era JSON-RPC errors have the status 200.
func (c *call) fail(r *era.Refusal) {
	if !c.isModern() && r.Status != http.StatusServiceUnavailable && !(r.Status == http.StatusNotFound && r.Code == mcp.INVALID_REQUEST) {
		ok := *r
		ok.Status = http.StatusOK
		r = &ok
	}
	c.out.refuse(c.id(), r)
}

// route finds out which backend the request goes to, and what has to be changed in it.
func (c *call) route() *era.Refusal {
	if c.v.Foreign {
		c.strip()
	}
	r := &c.request
	r.Message, r.Meta, r.Era, r.Edits = *c.m, c.v.Meta, c.v.Era, c.edits[:0]
	r.Progress = c.v.Progress.Exists()
	if c.isModern() {
		r.Capabilities, r.LogLevel = c.v.Capabilities.JSON(), c.v.LogLevel
	}
	r.Repeatable = true
	if c.m.Method == methodComplete {
		return c.routeCompletion()
	}
	if !c.v.NameAt.Exists() {
		return invalidParams("params do not say what is asked for")
	}
	switch c.m.Method {
	case methodCallTool:
		entry, ok := c.edition.snapshot.Tool(c.v.Name)
		if !ok {
			return invalidParams("unknown tool " + strconv.Quote(c.v.Name))
		}
		c.rename(c.v.NameAt, entry)
		t := c.edition.traits[entry.Name]
		if r.Repeatable = t.repeatable; t.headers != nil {
			if refusal := c.paramHeaders(t.headers); refusal != nil {
				return refusal
			}
		}
	case methodGetPrompt:
		entry, ok := c.edition.snapshot.Prompt(c.v.Name)
		if !ok {
			return invalidParams("unknown prompt " + strconv.Quote(c.v.Name))
		}
		c.rename(c.v.NameAt, entry)
	case methodReadResource:
		entry, ok := c.edition.snapshot.Resource(c.v.Name)
		if !ok {
			return unknownResource(c.v.Name, c.isModern())
		}
		c.target, r.Name = entry.Backend, c.v.Name
	}
	return c.resume()
}

// rename puts the backend's own name in the place of the exposed one.
func (c *call) rename(at rpc.Span, entry catalog.Entry) {
	c.target, c.request.Name = entry.Backend, entry.Original
	if entry.Original != entry.Name {
		c.request.Edits = append(c.request.Edits, rpc.Edit{At: at, Text: encodeAny(entry.Original)})
	}
}

// paramHeaders checks the headers that repeat arguments, and makes those for the backend.
func (c *call) paramHeaders(headers *era.ParamHeaders) *era.Refusal {
	params := c.m.Params.Of(c.m.Raw)
	if c.isModern() {
		if refusal := headers.Check(c.r.Header, params); refusal != nil {
			return refusal
		}
	}
	c.request.Params = headers.Generate(params)
	return nil
}

// routeCompletion goes by what shall be completed: an argument of a prompt or of a resource template.
func (c *call) routeCompletion() *era.Refusal {
	raw := c.m.Raw
	ref := rpc.Find(raw, c.m.Params, "ref")[0]
	found := rpc.Find(raw, ref, "type", "name", "uri")
	kind, _ := rpc.Text(found[0].Of(raw))
	switch kind {
	case "ref/prompt":
		name, ok := rpc.Text(found[1].Of(raw))
		entry, known := c.edition.snapshot.Prompt(name)
		if !ok || !known {
			return invalidParams("unknown prompt " + strconv.Quote(name))
		}
		c.rename(found[1], entry)
		c.request.Name = ""
		return nil
	case "ref/resource":
		uri, ok := rpc.Text(found[2].Of(raw))
		entry, known := c.edition.templates[uri]
		if !known {
			entry, known = c.edition.snapshot.Resource(uri)
		}
		if !ok || !known {
			return unknownResource(uri, c.isModern())
		}
		c.target = entry.Backend
		return nil
	default:
		return invalidParams("params.ref is neither a prompt nor a resource template")
	}
}

// strip takes out of the params of a legacy request what the gateway does not offer to the legacy era: tasks, and what belongs to
// requests for further input.
func (c *call) strip() {
	raw := c.m.Raw
	text := []byte{'{'}
	rpc.Members(raw, c.m.Params, func(m rpc.Member) bool {
		if m.Is("task") || m.Is("requestState") || m.Is("inputResponses") {
			return true
		}
		if len(text) > 1 {
			text = append(text, ',')
		}
		text = append(append(append(text, '"'), m.Key...), `":`...)
		text = append(text, m.Value.Of(raw)...)
		return true
	})
	m, err := rpc.Parse(rpc.Splice(nil, raw, rpc.Edit{At: c.m.Params, Text: append(text, '}')}))
	if err != nil {
		return // members of what was valid
	}
	v, _ := era.Decide(c.r.Header, &m)
	c.m, c.v = &m, &v
}

// upstream finds the backend of the request, and answers the request if it is not served.
func (c *call) upstream() (relay.Upstream, bool) {
	upstream, served := c.edition.upstreams.Upstream(c.target)
	if !served {
		c.edition.upstreams.Missed(c.target)
		c.failAtBackend(backend.Classify(c.target, backend.ErrNotServed))
	}
	return upstream, served
}

// relay sends the request to its backend and the answer to the client.
func (c *call) relay() {
	upstream, served := c.upstream()
	if !served {
		return
	}
	exchange := upstream.Exchange
	parent := c.r.Context() // in the modern era a client that goes away cancels
	if !c.isModern() {
		owner, refusal := c.remember()
		if refusal != nil {
			c.fail(refusal)
			return
		}
		session, err := owner.session(c.target, upstream)
		if err != nil {
			c.fail(&era.Refusal{Status: http.StatusNotFound, Code: mcp.INVALID_REQUEST, Message: unknownSession})
			return
		}
		c.owner, exchange, parent = owner, session.Exchange, backend.WithTrail(context.Background(), c.trail)
	}
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	c.flight.cancel = cancel
	if !c.g.flights.start(&c.flight, c.g.limits.Calls) {
		c.fail(&era.Refusal{Status: http.StatusServiceUnavailable, Code: mcp.INTERNAL_ERROR, Message: tooManyCalls})
		return
	}
	defer c.g.flights.stop(&c.flight)
	if c.owner != nil {
		token := rpc.Token(c.id())
		c.out.keepIn(c.owner, c)
		if !c.owner.begin(token, c) {
			c.fail(&era.Refusal{Status: http.StatusNotFound, Code: mcp.INVALID_REQUEST, Message: unknownSession})
			return
		}
		defer c.owner.finish(token, c)
	}
	c.out.await()
	answer, err := exchange(ctx, &c.request, c)
	if errors.Is(err, backend.ErrNotServed) {
		if exchange = c.successor(upstream); exchange != nil {
			answer, err = exchange(ctx, &c.request, c)
		}
	}
	defer answer.Done()
	switch {
	case c.cancelled.Load(), parent.Err() != nil:
		c.out.abandon()
	case err != nil && ctx.Err() != nil:
		c.fail(c.cut())
	case err != nil:
		c.failAtBackend(c.fault(err))
	default:
		c.answer(answer)
	}
}

// successor is what has taken the place of an upstream that was replaced after the call had found it, so that nothing was sent; nil if there
// is none.
func (c *call) successor(replaced relay.Upstream) func(context.Context, *relay.Request, relay.Sink) (*relay.Answer, error) {
	upstream, served := c.g.serving.Load().upstreams.Upstream(c.target)
	if !served || upstream == replaced {
		return nil
	}
	if c.owner == nil {
		return upstream.Exchange
	}
	session, err := c.owner.session(c.target, upstream)
	if err != nil {
		return nil
	}
	return session.Exchange
}

// cut is why a call ended before its backend had answered. The backend may have carried it out: it is never a 404, after which clients
// begin another session and send the request again.
func (c *call) cut() *era.Refusal {
	if c.owner != nil && c.owner.isClosed() && !c.g.flights.isClosed() {
		return &era.Refusal{Code: mcp.INTERNAL_ERROR, Message: endedMeanwhile}
	}
	return &era.Refusal{Status: http.StatusServiceUnavailable, Code: mcp.INTERNAL_ERROR, Message: cutOff}
}

// fault says what kept a backend from answering.
func (c *call) fault(err error) backend.Fault {
	fault := backend.Classify(c.target, err)
	c.g.log.Info("A call to a backend failed", "backend", c.target.String(), "method", c.m.Method,
		"reason", fault.Reason, "message", fault.Message)
	return fault
}

// begin notes a request under way, so that the client can cancel it. It returns false if the session has ended.
func (c *client) begin(token string, request *call) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	if c.calls == nil {
		c.calls = map[string]*call{}
	}
	c.calls[token] = request
	return true
}

// finish forgets a request, and what a backend asked in it.
func (c *client) finish(token string, request *call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls[token] == request {
		delete(c.calls, token)
	}
	for _, asked := range request.asked {
		delete(c.asks, asked)
	}
}

// cancel ends a request under way, as its client wishes. It returns false if there is none.
func (c *client) cancel(token string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	request, ok := c.calls[token]
	if ok {
		request.cancelled.Store(true)
		request.flight.cancel()
	}
	return ok
}
