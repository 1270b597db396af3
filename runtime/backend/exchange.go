// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
)

// replyFunc posts a message that is no request.
type replyFunc func(ctx context.Context, message *payload) error

// exchange is one request to the backend that is under way. It belongs to one goroutine; only the replies to what the backend asks come
// from others.
type exchange struct {
	client *Client
	// ctx is that of the HTTP requests. It ends with the caller's, with the client, and after the longest time that a call may take; but
	// when the call is over it may last a moment longer than the caller's.
	ctx    context.Context //nolint:containedctx // it lives as long as the exchange
	end    context.CancelFunc
	detach func() bool
	method string
	era    relay.Era // of the backend

	id     int64
	idText []byte
	body   *payload

	// repeatable says that it does no harm if the backend gets the request twice.
	repeatable bool
	// progress says that the id is the progress token as well.
	progress bool
	sink     relay.Sink // nil if nobody listens
	asks     asks
	minimum  severity // of the log messages that are passed on
	// reply sends a response to what the backend asked; nil where it must not ask.
	reply replyFunc

	// hears takes updates of resources that come on the stream of a call although they belong to none; nil in the modern era.
	hears listener

	// neighbours are the calls of the same session, for what comes on the wrong stream.
	neighbours *calls

	taking sync.Mutex // held while the sink takes something
	// refusal is why the sink takes no more; guarded by taking.
	refusal error
	// relayed says that the sink got something, so that the request cannot be begun anew unnoticed.
	relayed atomic.Bool
	// furthest is the greatest progress that was passed on; guarded by taking.
	furthest float64
	// draining says that a goroutine reads the rest of the stream, and calls end.
	draining bool

	over    sync.RWMutex // held for reading while a reply is begun
	isOver  bool
	strays  *inbox        // messages for this call that came on other streams; nil before the first one; guarded by over
	settled chan struct{} // closed when the last of strays was taken
	scratch [6]rpc.Edit
	digits  [20]byte
}

// newExchange begins an exchange, which finish ends.
func (c *Client) newExchange(ctx context.Context, era relay.Era, method string) *exchange {
	x := &exchange{client: c, era: era, method: method, id: c.nextID.Add(1)}
	x.idText = strconv.AppendInt(x.digits[:0], x.id, 10)
	life := WithTrail(c.life, trailIn(ctx))
	if answered := answeredIn(ctx); answered != nil {
		life = WithAnswered(life, answered)
	}
	x.ctx, x.end = context.WithTimeout(life, c.limits.Timeout)
	x.detach = context.AfterFunc(ctx, x.end)
	return x
}

// newStreamExchange begins an exchange that lasts until somebody ends it, or the client is closed.
func (c *Client) newStreamExchange(method string) *exchange {
	x := &exchange{client: c, era: relay.Modern, method: method, id: c.nextID.Add(1), detach: func() bool { return true }}
	x.idText = strconv.AppendInt(x.digits[:0], x.id, 10)
	x.ctx, x.end = context.WithCancel(c.life)
	return x
}

// settle sees to it that the sink gets nothing any more, and that replies have no effect.
func (x *exchange) settle() {
	x.over.Lock()
	strays := x.strays
	x.isOver, x.strays = true, nil
	x.over.Unlock()
	if strays != nil {
		strays.close()
		<-x.settled
	}
}

// finish ends the exchange.
func (x *exchange) finish() {
	x.settle()
	if x.body != nil {
		x.body.release()
		x.body = nil
	}
	x.detach()
	if !x.draining {
		x.end()
	}
}

// isMine says whether a response answers the request.
func (x *exchange) isMine(m rpc.Message) bool { return bytes.Equal(m.ID.Of(m.Raw), x.idText) }

// mayBeMine is isMine, or a failure with the id of no request, as servers answer what they could not read.
func (x *exchange) mayBeMine(m rpc.Message) bool {
	return x.isMine(m) || m.Kind == rpc.Failure && rpc.Token(m.ID.Of(m.Raw)) == ""
}

// take gives a notification or a request of the backend, which came on the stream of x, to whom it concerns.
func (x *exchange) take(m rpc.Message) error {
	if m.Kind == rpc.Request {
		return x.ask(m)
	}
	switch m.Method {
	case methodProgress:
		if id := progressOf(m); id != x.id {
			x.neighbours.deliver(id, m)
			return nil
		}
		if !x.progress {
			return nil
		}
	case methodMessage:
		if !x.minimum.passes(m) {
			return nil
		}
	case methodUpdated:
		if x.hears != nil {
			x.hears.hear(m)
			return nil
		}
	default:
		if isListChanged(m.Method) {
			x.client.changes.announce()
			return nil
		}
	}
	return x.pass(m, func(s relay.Sink) error { return s.Notify(m) })
}

// pass has the sink take a message, unless it wants no more.
func (x *exchange) pass(m rpc.Message, take func(relay.Sink) error) error {
	if x.sink == nil {
		return nil
	}
	x.taking.Lock()
	defer x.taking.Unlock()
	if x.refusal != nil || m.Method == methodProgress && x.isBehind(m) {
		return x.refusal
	}
	x.relayed.Store(true)
	x.refusal = take(x.sink)
	return x.refusal
}

// wait tells the sink that the answer takes a while. It may be taking a message that came on another stream just then.
func (x *exchange) wait() {
	w, ok := x.sink.(relay.Waiter)
	if !ok {
		return
	}
	x.taking.Lock()
	defer x.taking.Unlock()
	w.Wait()
}

// abandoned says that the sink takes no more.
func (x *exchange) abandoned() error {
	x.taking.Lock()
	defer x.taking.Unlock()
	return x.refusal
}

// isBehind says that a notification tells of less progress than one before it: messages that came on two streams have no order.
func (x *exchange) isBehind(m rpc.Message) bool {
	progress, err := strconv.ParseFloat(string(rpc.Find(m.Raw, m.Params, "progress")[0].Of(m.Raw)), 64)
	if err != nil {
		return false
	}
	if progress < x.furthest {
		return true
	}
	x.furthest = progress
	return false
}

// ask takes a request of the backend.
func (x *exchange) ask(m rpc.Message) error {
	switch {
	case x.reply == nil: // there are none in the modern era
		return nil
	case x.sink == nil || !x.asks.allow(m.Method):
		x.client.answerServer(m, x.reply)
		return nil
	}
	id := slices.Clone(m.ID.Of(m.Raw))
	var once sync.Once
	return x.pass(m, func(s relay.Sink) error {
		return s.Ask(m, func(response rpc.Message) { once.Do(func() { x.answered(id, response) }) })
	})
}

// answered sends the client's reply, unless the call is over.
func (x *exchange) answered(id []byte, response rpc.Message) {
	x.over.RLock()
	defer x.over.RUnlock()
	if x.isOver {
		return
	}
	b := newBuffer()
	b.b = withID(b.b, response, id)
	x.client.send(b, x.reply)
}

// What the gateway itself answers a backend.
const (
	pong        = `"result":{}`
	unsupported = `"error":{"code":-32601,"message":"the gateway does not support this request"}`
	tooMuch     = `"error":{"code":-32603,"message":"the client is asked too much at once"}`
)

// answerServer answers a request of the backend that no client gets: a ping, or that it is not supported, since no capability was
// declared for it.
func (c *Client) answerServer(m rpc.Message, reply replyFunc) {
	text := unsupported
	if m.Method == methodPing {
		text = pong
	}
	c.answerWith(text, m, reply)
}

// answerWith answers a request of the backend with a result or an error.
func (c *Client) answerWith(text string, m rpc.Message, reply replyFunc) {
	b := newBuffer()
	b.b = append(append(b.b, `{"jsonrpc":"2.0","id":`...), m.ID.Of(m.Raw)...)
	b.b = append(append(append(b.b, ','), text...), '}')
	c.sendBy(&c.answers, b, reply)
}

// withID appends a message with another id to dst.
func withID(dst []byte, m rpc.Message, id []byte) []byte {
	if m.ID.Exists() {
		return rpc.Splice(dst, m.Raw, rpc.Edit{At: m.ID, Text: id})
	}
	root := rootOf(m.Raw)
	return rpc.Splice(dst, m.Raw, rpc.SetMember(m.Raw, root, rpc.Span{}, "id", id))
}

// rootOf is the place of the whole object of a message.
func rootOf(raw []byte) rpc.Span {
	return rpc.Span{Start: max(bytes.IndexByte(raw, '{'), 0), End: len(raw)}
}

// asks are what a backend may ask a client for.
type asks struct{ elicitation, sampling, roots bool }

// asksOf reads a ClientCapabilities object.
func asksOf(capabilities json.RawMessage) asks {
	if !json.Valid(capabilities) {
		return asks{}
	}
	found := rpc.Find(capabilities, rootOf(capabilities), "elicitation", "sampling", "roots")
	return asks{found[0].Exists(), found[1].Exists(), found[2].Exists()}
}

func (a asks) allow(method string) bool {
	switch method {
	case "elicitation/create":
		return a.elicitation
	case "sampling/createMessage":
		return a.sampling
	case "roots/list":
		return a.roots
	default:
		return false
	}
}

// severity is the rank of a log level (RFC 5424, section 6.2.1, upside down): 0 is the lowest, debug.
type severity int

const (
	everything severity = 0
	fromInfo   severity = 1
	nothing    severity = 8
)

var levels = []string{"debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"}

// severityOf is the rank of a level; fallback for none and for an unknown one.
func severityOf(level string, fallback severity) severity {
	if i := slices.Index(levels, level); i >= 0 {
		return severity(i)
	}
	return fallback
}

// passes says whether a log message is at least as severe.
func (s severity) passes(m rpc.Message) bool {
	if s == everything {
		return true
	}
	level, _ := rpc.Text(rpc.Find(m.Raw, m.Params, "level")[0].Of(m.Raw))
	return severityOf(level, everything) >= s
}
