// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/vmcp-dev/vmcp-operator/runtime/era"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
)

// Notify implements relay.Sink: what a backend says during a call goes to the client on the stream of that call, and on no other.
func (c *call) Notify(m rpc.Message) error { return c.heard(c.notify(m)) }

// heard ends the call whose client can hear nothing any more, which in the modern era means that it has cancelled.
func (c *call) heard(err error) error {
	if err != nil {
		c.flight.cancel()
	}
	return err
}

// Wait implements relay.Waiter: the client gets a stream that it can resume, instead of a connection on which nothing moves.
func (c *call) Wait() { c.out.begin() }

func (c *call) notify(m rpc.Message) error {
	switch m.Method {
	case methodProgress:
		return c.progress(&m)
	case methodLogMessage:
		if !c.wants(m) {
			return nil
		}
	case methodCancelled:
		return c.withdraw(&m)
	default:
		// The modern era has nothing else on the stream of a call. Changes of lists are announced once, for all backends.
		if c.isModern() || strings.HasSuffix(m.Method, "/list_changed") {
			return nil
		}
	}
	if !c.out.canStream() {
		return nil
	}
	return c.out.event(m.Raw)
}

// wants says whether the client wants to hear a log message: in the modern era the request says so, in the legacy era the session.
func (c *call) wants(m rpc.Message) bool {
	if !c.isModern() {
		return c.owner.wants(m)
	}
	level, _ := rpc.Text(rpc.Find(m.Raw, m.Params, "level")[0].Of(m.Raw))
	return c.v.LogLevel != "" && era.Severity(level) >= era.Severity(c.v.LogLevel)
}

// progress puts the client's token in the place of the edge's.
func (c *call) progress(m *rpc.Message) error {
	if !c.v.Progress.Exists() || !c.out.canStream() {
		return nil
	}
	at := rpc.Find(m.Raw, m.Params, "progressToken")[0]
	if !at.Exists() {
		return nil
	}
	return c.out.event(m.Raw[:at.Start], c.v.Progress.Of(c.m.Raw), m.Raw[at.End:])
}

// Ask implements relay.Sink: a request of a backend goes to the client of the legacy era on the stream of the call in which it is asked,
// under an id of the gateway's.
func (c *call) Ask(m rpc.Message, reply func(rpc.Message)) error {
	switch {
	case c.isModern():
		reply(failure(mcp.METHOD_NOT_FOUND, "the client's revision of MCP has no requests to clients"))
		return nil
	case !c.owner.info.Capabilities.For(m.Method):
		reply(failure(mcp.METHOD_NOT_FOUND, "the client has not declared the capability for "+m.Method))
		return nil
	case !c.out.canStream():
		reply(failure(mcp.METHOD_NOT_FOUND, "the client takes no stream of events, on which it could be asked"))
		return nil
	}
	id, ok := c.owner.mintAsk(c, &m, reply)
	if !ok {
		reply(failure(mcp.INTERNAL_ERROR, "the client's session has ended, or is asked too much at once"))
		return nil
	}
	return c.heard(c.out.event(m.Raw[:m.ID.Start], id, m.Raw[m.ID.End:]))
}

// maxAsks bounds the asks of one session that wait for the client.
const maxAsks = 64

// mintAsk makes the id under which the client is asked.
func (c *client) mintAsk(during *call, m *rpc.Message, reply func(rpc.Message)) (id []byte, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.asks) >= maxAsks || time.Now().After(c.info.Expires()) {
		return nil, false
	}
	if c.asks == nil {
		c.asks = map[string]*ask{}
	}
	c.minted++
	id = []byte(strconv.Quote(c.owner + c.epoch + "-" + strconv.FormatUint(c.minted, 10)))
	token := rpc.Token(id)
	c.asks[token] = &ask{theirs: rpc.Token(m.ID.Of(m.Raw)), id: id, reply: reply}
	during.asked = append(during.asked, token)
	return id, true
}

// withdraw tells the client that a backend no longer waits for something that it asked.
func (c *call) withdraw(m *rpc.Message) error {
	at := rpc.Find(m.Raw, m.Params, "requestId")[0]
	theirs := rpc.Token(at.Of(m.Raw))
	if c.owner == nil || theirs == "" {
		return nil
	}
	var id []byte
	c.owner.mu.Lock()
	for _, token := range c.asked {
		if asked, waits := c.owner.asks[token]; waits && asked.theirs == theirs {
			id = asked.id
			delete(c.owner.asks, token)
		}
	}
	c.owner.mu.Unlock()
	if id == nil {
		return nil
	}
	return c.out.event(m.Raw[:at.Start], id, m.Raw[at.End:])
}

// failure is a response of the gateway's own to a backend.
func failure(code int, message string) rpc.Message {
	m, err := rpc.Parse(fmt.Appendf(nil, `{"jsonrpc":"2.0","id":0,"error":%s}`, errorText(&era.Refusal{Code: code, Message: message})))
	if err != nil {
		panic(err) // it was just written
	}
	return m
}

// refuse answers with an error of the gateway's own. A nil id stands for one that could not be read.
func (o *reply) refuse(id []byte, r *era.Refusal) {
	if id == nil {
		id = []byte("null")
	}
	if r.Status == http.StatusServiceUnavailable {
		o.w.Header().Set("Retry-After", "5")
	}
	o.respond(r.Status, answerHead, id, errorHead, errorText(r), answerTail)
}

func errorText(r *era.Refusal) []byte {
	details := map[string]any{"code": r.Code, "message": r.Message}
	if len(r.Data) > 0 {
		details["data"] = r.Data
	}
	return encodeAny(details)
}
