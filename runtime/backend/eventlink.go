// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
	"github.com/vmcp-dev/vmcp-operator/runtime/sse"
)

// eventLink is the link of a session over HTTP+SSE (MCP 2024-11-05, transports): all that the backend says comes on one stream, whose first
// event names the address for what the gateway says. The end of the stream is the end of the session.
type eventLink struct {
	client *Client
	hears  listener
	life   context.Context //nolint:containedctx // that of the stream
	end    context.CancelFunc

	header    atomic.Pointer[http.Header] // shared and never changed
	to        *url.URL                    // set before ready is closed
	ready     chan struct{}
	over      chan struct{} // closed when the stream has ended
	forgotten atomic.Bool

	mu    sync.Mutex
	calls []*eventCall // in the order in which they were begun
}

// eventCall is a request that waits for messages on the stream.
type eventCall struct {
	x     *exchange
	inbox *inbox
}

// read takes the messages that have come.
func (c *eventCall) read() (*relay.Answer, error) {
	messages, _ := c.inbox.take()
	for _, raw := range messages {
		if answer, err := c.x.message(raw); answer != nil || err != nil {
			return answer, err
		}
	}
	return nil, nil //nolint:nilnil // the response is yet to come
}

var alwaysClosed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// openEventLink opens the stream, which outlives ctx, and waits for the address.
func (c *Client) openEventLink(ctx context.Context, l listener) (*eventLink, error) {
	e := &eventLink{client: c, hears: l, ready: make(chan struct{}), over: make(chan struct{})}
	h := c.baseHeader()
	e.header.Store(&h)
	e.life, e.end = context.WithCancel(WithTrail(c.life, trailIn(ctx)))
	stop := context.AfterFunc(ctx, e.end)
	defer stop()
	fail := func(err error) (*eventLink, error) {
		e.end()
		if ctx.Err() != nil {
			err = fmt.Errorf("%w (%w)", ctx.Err(), err)
		}
		return nil, fmt.Errorf("opening the stream: %w", err)
	}
	response, err := c.do(e.life, http.MethodGet, c.url, c.streamHeader(), nil)
	if err != nil {
		return fail(err)
	}
	if response.StatusCode != http.StatusOK {
		drain(response)
		return fail(c.statusError(methodInitialize, response.StatusCode))
	}
	if media := mediaType(response); media != contentStream {
		drain(response)
		return fail(c.notMCP(methodInitialize, "content type "+quoteText(media)))
	}
	if !c.inBackground(func() { e.read(response) }) {
		drain(response)
		return fail(errClosed)
	}
	select {
	case <-e.ready:
		return e, nil
	case <-e.over:
		return fail(c.notMCP(methodInitialize, "a stream that does not begin with an endpoint of the same origin"))
	}
}

// read takes what comes on the stream until it ends.
func (e *eventLink) read(response *http.Response) {
	defer close(e.over)
	defer func() {
		e.forgotten.Store(true)
		e.hears.lost()
	}()
	defer response.Body.Close()
	r := sse.NewReader(response.Body, int(e.client.limits.ResponseBytes))
	for {
		event, err := r.Next()
		switch {
		case err != nil:
			return
		case event.Type == "endpoint" && e.to == nil:
			to, err := response.Request.URL.Parse(string(event.Data))
			if err != nil || to.Scheme != response.Request.URL.Scheme || to.Host != response.Request.URL.Host {
				return
			}
			e.to = to
			close(e.ready)
		case event.Type == "" || event.Type == sse.Message:
			e.deliver(event.Data)
		}
	}
}

// deliver gives a message to the call that it belongs to. The stream is that of all calls of the session, so nobody's client may hold it up.
func (e *eventLink) deliver(raw []byte) {
	m, err := rpc.Parse(raw)
	if err != nil {
		return
	}
	switch call := e.callOf(m); {
	case call == nil:
		e.client.hear(m, e.hears, e.post)
	case !call.inbox.put(m):
		call.x.leaveOut(m)
	}
}

// callOf finds the call that a message belongs to. Progress and responses say whose they are. What a backend asks is for one of the calls, which
// are all of one client, as the session of several cannot be asked. A log message is for a call if there is no other.
func (e *eventLink) callOf(m rpc.Message) *eventCall {
	e.mu.Lock()
	defer e.mu.Unlock()
	var fits func(*exchange) bool
	switch {
	case m.Kind.IsResponse():
		fits = func(x *exchange) bool { return x.isMine(m) }
	case m.Method == methodProgress:
		fits = func(x *exchange) bool { return x.id == progressOf(m) }
	case m.Kind == rpc.Request:
		fits = func(x *exchange) bool { return x.sink != nil && x.asks.allow(m.Method) }
	case m.Method == methodMessage && len(e.calls) == 1:
		fits = func(x *exchange) bool { return x.sink != nil }
	default:
		return nil
	}
	if i := slices.IndexFunc(e.calls, func(call *eventCall) bool { return fits(call.x) }); i >= 0 {
		return e.calls[i]
	}
	return nil
}

func (e *eventLink) exchange(x *exchange) (*relay.Answer, error) {
	call := &eventCall{x: x, inbox: newInbox()}
	e.mu.Lock()
	e.calls = append(e.calls, call)
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.calls = slices.DeleteFunc(e.calls, func(other *eventCall) bool { return other == call })
	}()
	if e.lost() {
		return nil, errSessionLost
	}
	if answer, err := e.begin(x); answer != nil || err != nil {
		return answer, err
	}
	for {
		select {
		case <-call.inbox.ready:
			if answer, err := call.read(); answer != nil || err != nil {
				return answer, err
			}
		case <-x.ctx.Done():
			return nil, e.client.httpError(http.MethodPost, e.client.url, x.ctx.Err())
		case <-e.over:
			if answer, err := call.read(); answer != nil || err != nil {
				return answer, err
			}
			if x.repeatable && !x.relayed.Load() && x.client.life.Err() == nil {
				return nil, errSessionLost
			}
			return nil, x.broken(io.EOF)
		}
	}
}

// begin posts the request. An answer is an error of the backend, put into the body of the refusal.
func (e *eventLink) begin(x *exchange) (*relay.Answer, error) {
	response, err := e.client.do(x.ctx, http.MethodPost, e.to, *e.header.Load(), x.body)
	if err != nil {
		return nil, err
	}
	if !failed(response) {
		drain(response)
		return nil, nil //nolint:nilnil // the answer comes on the stream
	}
	answer, err := x.refused(response, true)
	if err == errSessionLost { //nolint:errorlint // it comes as it is
		e.forgotten.Store(true)
	}
	return answer, err
}

func (e *eventLink) post(ctx context.Context, message *payload) error {
	response, err := e.client.do(ctx, http.MethodPost, e.to, *e.header.Load(), message)
	if err != nil {
		return err
	}
	defer drain(response)
	if failed(response) {
		return e.client.statusError("", response.StatusCode)
	}
	return nil
}

func (e *eventLink) agree(version string) {
	h := e.client.baseHeader()
	h[mcp.HeaderProtocolVersion] = []string{version}
	e.header.Store(&h)
}

func (e *eventLink) listen() {} // there is one stream for everything

func (e *eventLink) lost() bool               { return e.forgotten.Load() }
func (e *eventLink) settled() <-chan struct{} { return alwaysClosed }

// close ends the stream, and with it the session.
func (e *eventLink) close() {
	e.forgotten.Store(true)
	e.end()
}
