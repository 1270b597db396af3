// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"errors"
	"mime"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/era"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
	"github.com/vmcp-dev/vmcp-operator/runtime/session"
)

// bodies are buffers for the bodies of requests.
var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// maxPooled is the largest buffer that is kept: a few large bodies shall not hold memory for ever.
const maxPooled = 256 << 10

// servePost serves one message, or in revision 2025-03-26 a batch of them.
func (g *Gateway) servePost(w http.ResponseWriter, r *http.Request, trail backend.Trail) {
	if !isJSON(r.Header) {
		http.Error(w, "the request body has to be application/json", http.StatusUnsupportedMediaType)
		return
	}
	p := &post{g: g, w: w, r: r, trail: trail, principal: g.principal(r), began: time.Now()}
	body, _ := bodies.Get().(*bytes.Buffer)
	defer func() {
		if body.Cap() <= maxPooled {
			body.Reset()
			bodies.Put(body)
		}
	}()
	if !g.readBody(w, r, body) {
		return
	}
	raw := body.Bytes()
	m, err := rpc.Parse(raw)
	switch {
	case errors.Is(err, rpc.ErrBatch):
		p.serveBatch(raw)
	case err != nil:
		p.reply(1).refuse(nil, malformed(err))
	default:
		p.serve(&m)
	}
	if p.client != nil {
		p.client.release()
	}
}

// isJSON looks at the content type.
func isJSON(h http.Header) bool {
	values := h["Content-Type"]
	if len(values) != 1 {
		return false
	}
	if values[0] == jsonType[0] {
		return true
	}
	media, _, err := mime.ParseMediaType(values[0])
	return err == nil && media == jsonType[0]
}

// readBody reads what a client has sent, or says why not.
func (g *Gateway) readBody(w http.ResponseWriter, r *http.Request, to *bytes.Buffer) bool {
	if r.ContentLength > g.limits.BodyBytes {
		w.Header().Set("Connection", "close") // rather than to read it all
		http.Error(w, "the request body is too large", http.StatusRequestEntityTooLarge)
		return false
	}
	if r.ContentLength > 0 {
		to.Grow(int(r.ContentLength) + bytes.MinRead)
	}
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(g.limits.BodyTimeout)) // where there is no connection nobody is slow
	_, err := to.ReadFrom(http.MaxBytesReader(w, r.Body, g.limits.BodyBytes))
	if err == nil {
		// The server goes on reading while the request is served, to notice that the client is gone.
		_ = rc.SetReadDeadline(time.Time{}) // as above
		return true
	}
	_, tooLarge := errors.AsType[*http.MaxBytesError](err)
	switch {
	case tooLarge:
		http.Error(w, "the request body is too large", http.StatusRequestEntityTooLarge)
	case errors.Is(err, os.ErrDeadlineExceeded):
		w.Header().Set("Connection", "close")
		http.Error(w, "the request body took too long", http.StatusRequestTimeout)
	default:
		http.Error(w, "the request body could not be read", http.StatusBadRequest)
	}
	return false
}

// malformed is the refusal for what is no message.
func malformed(err error) *era.Refusal {
	code := mcp.INVALID_REQUEST
	if _, syntax := errors.AsType[*rpc.SyntaxError](err); syntax {
		code = mcp.PARSE_ERROR
	}
	return &era.Refusal{Status: http.StatusBadRequest, Code: code, Message: err.Error()}
}

// post is one POST and whose it is.
type post struct {
	g         *Gateway
	w         http.ResponseWriter
	r         *http.Request
	trail     backend.Trail
	principal string
	began     time.Time

	fromPeer  bool // another replica has told of it, and others hear of it from that one
	inSession bool // the session of the legacy era is known
	id        string
	info      session.Info

	mu     sync.Mutex
	client *client // what is remembered of the session, nil as long as nothing is
}

// reply is the reply to so many requests.
func (p *post) reply(requests int) *reply {
	return &reply{g: p.g, w: p.w, r: p.r, version: p.info.Version, began: p.began, missing: requests}
}

// serve serves a message that is alone.
func (p *post) serve(m *rpc.Message) {
	v, refusal := era.Decide(p.r.Header, m)
	if refusal == nil && v.Era == relay.Legacy && (m.Kind != rpc.Request || m.Method != methodInitialize) {
		refusal = p.enterSession()
	}
	out := p.reply(1)
	if refusal != nil {
		out.refuse(idOf(m), refusal)
		return
	}
	p.handle(m, &v, out)
}

// handle serves a message whose envelope is in order.
func (p *post) handle(m *rpc.Message, v *era.Verdict, out *reply) {
	switch {
	case m.Kind == rpc.Request:
		c := &call{post: p, m: m, v: v, out: out, edition: p.g.serving.Load()}
		c.serve()
	case v.Era == relay.Modern:
		out.accept()
	case m.Kind == rpc.Notification:
		p.hear(m)
		out.accept()
	default:
		if refusal := p.answer(m); refusal != nil {
			out.refuse(nil, refusal)
			return
		}
		out.accept()
	}
}

// enterSession finds the session that the request says that it belongs to (MCP 2025-11-25, session management).
func (p *post) enterSession() *era.Refusal {
	values, now := p.r.Header[headerSession], p.began
	if len(values) != 1 || values[0] == "" {
		return &era.Refusal{Status: http.StatusBadRequest, Code: mcp.INVALID_REQUEST, Message: "the request needs one " + headerSession + " header"}
	}
	p.id = values[0]
	if p.client = p.g.clients.find(p.id, p.principal, now); p.client != nil {
		p.info, p.inSession = p.client.info, true
		return nil
	}
	info, ok := p.g.openSession(p.id, p.principal, now)
	if !ok {
		return &era.Refusal{Status: http.StatusNotFound, Code: mcp.INVALID_REQUEST, Message: unknownSession}
	}
	p.info, p.inSession = info, true
	return nil
}

// remember makes sure that there is a client to put something into.
func (p *post) remember() (*client, *era.Refusal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.client != nil {
		return p.client, nil
	}
	c, full := p.g.clients.remember(p.id, p.principal, p.info, time.Now())
	switch {
	case full:
		return nil, &era.Refusal{Status: http.StatusServiceUnavailable, Code: mcp.INTERNAL_ERROR, Message: tooManySessions}
	case c == nil:
		return nil, &era.Refusal{Status: http.StatusNotFound, Code: mcp.INVALID_REQUEST, Message: unknownSession}
	}
	p.client = c
	return c, nil
}

// idOf is the id of a request, nil if there is none to put into an answer.
func idOf(m *rpc.Message) []byte {
	if m.Kind != rpc.Request {
		return nil
	}
	return m.ID.Of(m.Raw)
}

// serveBatch serves several messages at once (MCP 2025-03-26, transports, sending messages). No other revision has that.
func (p *post) serveBatch(raw []byte) {
	refusal := p.enterSession()
	if refusal == nil && p.info.Version != era.V20250326 {
		refusal = &era.Refusal{Status: http.StatusBadRequest, Code: mcp.INVALID_REQUEST, Message: "this revision of MCP has no batches"}
	}
	var members []rpc.Span
	rpc.Elements(raw, rpc.Span{End: len(raw)}, func(at rpc.Span) bool {
		members = append(members, at)
		return len(members) <= p.g.limits.Batch
	})
	switch {
	case refusal != nil:
	case len(members) == 0:
		refusal = &era.Refusal{Status: http.StatusBadRequest, Code: mcp.INVALID_REQUEST, Message: "the batch is empty"}
	case len(members) > p.g.limits.Batch:
		refusal = &era.Refusal{Status: http.StatusRequestEntityTooLarge, Code: mcp.INVALID_REQUEST, Message: "the batch has too many messages"}
	}
	if refusal != nil {
		p.reply(1).refuse(nil, refusal)
		return
	}
	p.serveMembers(raw, members)
}

// serveMembers serves the messages of a batch, requests side by side.
func (p *post) serveMembers(raw []byte, members []rpc.Span) {
	type member struct {
		m       rpc.Message
		v       era.Verdict
		refusal *era.Refusal
	}
	var requests []*member
	for _, at := range members {
		one := &member{}
		var err error
		if one.m, err = rpc.Parse(at.Of(raw)); err != nil {
			one.refusal = malformed(err)
			requests = append(requests, one)
			continue
		}
		one.v, one.refusal = era.Decide(p.r.Header, &one.m)
		if one.refusal == nil && (one.v.Era != relay.Legacy || one.m.Method == methodInitialize) {
			one.refusal = &era.Refusal{Status: http.StatusBadRequest, Code: mcp.INVALID_REQUEST, Message: "this message cannot be part of a batch"}
		}
		switch {
		case one.refusal != nil || one.m.Kind == rpc.Request:
			requests = append(requests, one)
		case one.m.Kind == rpc.Notification:
			p.hear(&one.m)
		default:
			if refusal := p.answer(&one.m); refusal != nil {
				p.g.log.Debug("An answer in a batch was refused", "reason", refusal.Message)
			}
		}
	}
	out := p.reply(len(requests))
	if len(requests) == 0 {
		out.accept()
		return
	}
	out.batch = true
	var serving sync.WaitGroup
	for _, one := range requests {
		serving.Go(func() {
			if one.refusal != nil {
				out.refuse(idOf(&one.m), one.refusal)
				return
			}
			p.handle(&one.m, &one.v, out)
		})
	}
	serving.Wait()
}
