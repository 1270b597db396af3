// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/auth"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
)

// link carries the messages of one initialized session: over streamable HTTP, or over HTTP+SSE.
type link interface {
	// exchange sends the request of x and waits for the response. errSessionLost says that the backend did not process it.
	exchange(x *exchange) (*relay.Answer, error)
	// post sends a notification or a response.
	post(ctx context.Context, message *payload) error
	// agree puts the revision on all further requests.
	agree(version string)
	// listen has what the backend says outside of requests handed to the listener. It is called once the handshake is over.
	listen()
	// lost says that the backend no longer knows the session.
	lost() bool
	// settled is closed once what listen opens is open, or refused.
	settled() <-chan struct{}
	// close ends the session at the backend, unless the backend has forgotten it, and everything that the link has running.
	close()
}

// listener takes what a backend says outside of requests. Its functions may be called by several goroutines at a time.
type listener interface {
	// hear takes a message, whose bytes are valid until it returns.
	hear(m rpc.Message)
	// opened says that the stream is open, and whether it was so before: then something may have been missed.
	opened(again bool)
	// lost says that there will be no stream any more, because the backend has forgotten the session.
	lost()
}

// legacy is one initialized MCP session (revisions up to 2025-11-25) with a backend. A session that the backend has forgotten is not
// revived: another is opened.
type legacy struct {
	client       *Client
	link         link
	hears        listener
	capabilities capabilities
	version      string
	asks         asks
	listening    sync.Once
	closing      sync.Once

	// credential is what the session was opened with, and over the transport of the pool at that time.
	credential auth.Credential
	over       *http.Transport
}

// openLegacy does the handshake: initialize at the newest revision that has one, then notifications/initialized.
func (c *Client) openLegacy(ctx context.Context, capabilities json.RawMessage, l listener, listen bool) (*legacy, error) {
	s := &legacy{client: c, hears: l, asks: asksOf(capabilities), credential: c.credential(), over: c.pool.present()}
	if c.target.Transport == v1alpha1.TransportSSE {
		stream, err := c.openEventLink(ctx, l)
		if err != nil {
			return nil, err
		}
		s.link = stream
	} else {
		s.link = c.newStreamable(l)
	}
	if err := s.initialize(ctx, capabilities); err != nil {
		s.close()
		return nil, err
	}
	if listen {
		s.listen()
	}
	return s, nil
}

// listen has what the backend says outside of requests heard.
func (s *legacy) listen() { s.listening.Do(s.link.listen) }

func (s *legacy) initialize(ctx context.Context, wanted json.RawMessage) error {
	c := s.client
	params := fmt.Appendf(nil, `{"protocolVersion":%q,"capabilities":%s,"clientInfo":%s}`, mcp.LATEST_LEGACY_PROTOCOL_VERSION, orNone(wanted), c.info)
	raw, err := s.request(ctx, methodInitialize, params)
	if err != nil {
		return err
	}
	var result struct {
		ProtocolVersion string       `json:"protocolVersion"`
		Capabilities    capabilities `json:"capabilities"`
	}
	if err := json.Unmarshal(raw, &result); err != nil || result.ProtocolVersion == "" {
		return c.notMCP(methodInitialize, "the result names no protocolVersion")
	}
	if !mcp.IsValidProtocolVersion(result.ProtocolVersion) || mcp.IsModernProtocol(result.ProtocolVersion) {
		return &versionError{Version: quoteText(result.ProtocolVersion)}
	}
	s.version, s.capabilities = result.ProtocolVersion, result.Capabilities
	s.link.agree(s.version)
	if err := s.notify(ctx, methodInitialized, nil); err != nil {
		return fmt.Errorf("confirming initialize: %w", err)
	}
	return nil
}

// request sends a request of the gateway's own and returns the raw result; an error of the backend comes as *RPCError.
func (s *legacy) request(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, error) {
	r, err := ownRequest(method, params)
	if err != nil {
		return nil, err
	}
	return resultOf(s.exchange(ctx, r, nil, nothing))
}

// exchange sends one request in the session.
func (s *legacy) exchange(ctx context.Context, r *relay.Request, sink relay.Sink, minimum severity) (*relay.Answer, error) {
	x := s.client.newExchange(ctx, relay.Legacy, r.Message.Method)
	defer x.finish()
	x.sink, x.asks, x.minimum, x.reply, x.hears = sink, s.asks, minimum, s.link.post, s.hears
	x.progress, x.repeatable = r.Progress, r.Repeatable
	x.encode(r, nil, nil)
	answer, err := s.link.exchange(x)
	x.settle()
	switch {
	case err == nil:
		return answer, nil
	case ctx.Err() != nil, x.ctx.Err() != nil, x.abandoned() != nil:
		if x.method != methodInitialize && !errors.Is(err, errSessionLost) {
			s.cancelled(x.id) // up to 2025-11-25 a closed connection is no cancellation
		}
	case errors.Is(err, errSessionLost):
		return nil, err
	case unauthorized(err) && s.credential != s.client.credential():
		return nil, errSessionLost // bound to a credential that is used no more; the request was not processed
	}
	return nil, x.explain(ctx, err)
}

// explain picks the error that says most. The caller's deadline comes first: its end is what broke the connection.
func (x *exchange) explain(ctx context.Context, err error) error {
	switch {
	case x.client.life.Err() != nil:
		return errClosed
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", x.method, errors.Join(ctx.Err(), err))
	case x.abandoned() != nil:
		return fmt.Errorf("%s: %w", x.method, x.abandoned())
	case x.ctx.Err() != nil: // nobody else ends it
		return fmt.Errorf("%s: %w", x.method, errors.Join(context.DeadlineExceeded, err))
	}
	if _, ok := errors.AsType[*RPCError](err); ok {
		return err
	}
	return fmt.Errorf("%s: %w", x.method, err)
}

// resultOf is the raw result in an answer; a failure becomes an *RPCError.
func resultOf(answer *relay.Answer, err error) (json.RawMessage, error) {
	if err != nil {
		return nil, err
	}
	defer answer.Done()
	m := answer.Message
	if m.Kind == rpc.Failure {
		return nil, parseRPCError(m.Raw)
	}
	return json.RawMessage(strings.Clone(string(m.Body.Of(m.Raw)))), nil
}

func (s *legacy) notify(ctx context.Context, method string, params []byte) error {
	b := newBuffer()
	b.b = encodeNotification(b.b, method, params)
	p := newPayload(b)
	defer p.release()
	return s.link.post(ctx, p)
}

// cancelled tells the backend in the background that nobody waits for a request any more. That it arrives cannot be hoped for.
func (s *legacy) cancelled(id int64) {
	b := newBuffer()
	b.b = encodeNotification(b.b, methodCancelled, fmt.Appendf(nil, `{"requestId":%d,"reason":"the caller stopped waiting"}`, id))
	s.client.send(b, s.link.post)
}

// close ends the session.
func (s *legacy) close() { s.closing.Do(s.link.close) }

func isListChanged(method string) bool {
	return strings.HasPrefix(method, "notifications/") && strings.HasSuffix(method, "/list_changed")
}
