// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/auth"
)

// Waits of a session that no caller's deadline bounds.
const (
	notifyTimeout = 2 * time.Second
	closeTimeout  = 2 * time.Second
	// streamPatience is how long reading the lists waits for the stream of notifications, so that no change falls between.
	streamPatience = 250 * time.Millisecond
)

// session is one initialized MCP session (revisions up to 2025-11-25) with a backend. A session that the backend has
// forgotten is not revived: the Client opens another.
type session struct {
	wire            *wire
	transport       transport.Interface
	end             context.CancelFunc // ends the streams
	closing         sync.Once
	protocolVersion string
	capabilities    capabilities

	// credential is what the session was opened with, present what the backend's requests carry now.
	credential auth.Credential
	present    func() auth.Credential

	// read is set once the lists have been read: what changed before the stream opened has then to be announced.
	read atomic.Bool
}

// capabilities are those of the server that decide what is asked of it (MCP 2025-11-25, lifecycle, capability negotiation).
type capabilities struct {
	Tools     *struct{} `json:"tools"`
	Prompts   *struct{} `json:"prompts"`
	Resources *struct{} `json:"resources"`
}

// openSession does the handshake: initialize at the newest revision that has one, then notifications/initialized.
func openSession(ctx context.Context, c *Client) (*session, error) {
	lifetime, end := context.WithCancel(context.Background())
	s := &session{end: end, credential: c.credential(), present: c.credential}
	s.wire = newWire(c.transport, c.limits.ResponseBytes, c.target.Transport == v1alpha1.TransportSSE)
	s.wire.authConfig = c.target.Auth.Config
	s.wire.gatewayID = c.opts.GatewayID
	s.wire.onOpen = func(again bool) {
		if again || s.read.Load() {
			c.changes.announce()
		}
	}
	if err := s.connect(ctx, lifetime, c); err != nil {
		s.abandon()
		return nil, err
	}
	if err := s.initialize(ctx, c); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *session) connect(ctx, lifetime context.Context, c *Client) error {
	client := &http.Client{Transport: s.wire, CheckRedirect: checkRedirect}
	quiet := slog.New(slog.DiscardHandler) // every failure comes back as an error, and says more there
	onNotification := func(n mcp.JSONRPCNotification) {
		if isListChanged(n.Method) {
			c.changes.announce()
		}
	}
	if c.target.Transport == v1alpha1.TransportSSE {
		t, err := transport.NewSSE(c.target.URL, transport.WithHTTPClient(client), transport.WithSSELogger(quiet),
			transport.WithResponseTimeout(c.limits.Timeout))
		if err != nil {
			return fmt.Errorf("the backend's URL is malformed: %w", err)
		}
		t.SetNotificationHandler(onNotification)
		t.SetConnectionLostHandler(func(error) {
			s.wire.lost.Store(true)
			_ = t.Close() // never fails; it fails the calls in flight
		})
		s.transport = t
		return s.openStream(ctx, lifetime)
	}
	t, err := transport.NewStreamableHTTP(c.target.URL, transport.WithHTTPBasicClient(client), transport.WithHTTPLogger(quiet),
		transport.WithContinuousListening()) //nolint:staticcheck // SA1019: deprecated with the revisions that this session speaks
	if err != nil {
		return fmt.Errorf("the backend's URL is malformed: %w", err)
	}
	t.SetNotificationHandler(onNotification)
	t.SetRequestHandler(answerServer)
	s.transport = t
	return t.Start(lifetime) // asks the backend nothing yet
}

// openStream opens the stream of the HTTP+SSE transport, on which all answers will come. The stream outlives ctx, but is given
// up when ctx ends first.
func (s *session) openStream(ctx, lifetime context.Context) error {
	stop := context.AfterFunc(ctx, s.end)
	defer stop()
	call := &exchange{method: methodInitialize}
	if err := s.transport.Start(context.WithValue(lifetime, exchangeKey{}, call)); err != nil {
		return call.explain(ctx, err)
	}
	return nil
}

func (s *session) initialize(ctx context.Context, c *Client) error {
	params, err := json.Marshal(map[string]any{
		"protocolVersion": mcp.LATEST_LEGACY_PROTOCOL_VERSION,
		"capabilities":    struct{}{},
		"clientInfo":      map[string]string{"name": orDefault(c.opts.Name, "vmcp"), "version": orDefault(c.opts.Version, "unknown")},
	})
	if err != nil {
		return fmt.Errorf("encoding initialize: %w", err)
	}
	raw, err := s.request(ctx, c.nextID.Add(1), methodInitialize, params)
	if err != nil {
		return err
	}
	var result struct {
		ProtocolVersion string       `json:"protocolVersion"`
		Capabilities    capabilities `json:"capabilities"`
	}
	if err := json.Unmarshal(raw, &result); err != nil || result.ProtocolVersion == "" {
		return &NotMCPError{Endpoint: s.wire.endpoint(), Method: methodInitialize, Problem: "the result names no protocolVersion"}
	}
	if !mcp.IsValidProtocolVersion(result.ProtocolVersion) || mcp.IsModernProtocol(result.ProtocolVersion) {
		return &versionError{Version: quoteText(result.ProtocolVersion)}
	}
	s.protocolVersion, s.capabilities = result.ProtocolVersion, result.Capabilities
	if t, ok := s.transport.(transport.HTTPConnection); ok {
		t.SetProtocolVersion(s.protocolVersion)
	}
	if err := s.notify(ctx, methodInitialized, nil); err != nil {
		return fmt.Errorf("confirming initialize: %w", err)
	}
	s.wire.establish(s.protocolVersion)
	return nil
}

// request sends one request and returns the raw result, or the error put into this package's types.
func (s *session) request(ctx context.Context, id int64, method string, params json.RawMessage) (json.RawMessage, error) {
	call := &exchange{method: method, id: id}
	request := transport.JSONRPCRequest{JSONRPC: mcp.JSONRPC_VERSION, ID: mcp.NewRequestId(id), Method: method}
	if len(params) > 0 {
		request.Params = params
	}
	response, err := s.transport.SendRequest(context.WithValue(ctx, exchangeKey{}, call), request)
	switch {
	case errors.Is(err, errSessionLost) && ctx.Err() == nil:
		return nil, errSessionLost
	case err != nil && unauthorized(err) && s.credential != s.present():
		return nil, errSessionLost // bound to a credential that is used no more; the request was not processed
	case err != nil:
		return nil, s.redacted(call.explain(ctx, err))
	case response.Error != nil:
		return nil, s.redacted(rpcError(response.Error))
	case len(response.Result) == 0:
		return nil, &NotMCPError{Endpoint: s.wire.endpoint(), Method: method, Problem: "neither a result nor an error"}
	}
	return response.Result, nil
}

// redacted keeps the credentials back if the backend's error quotes them: it goes to clients, and into the status.
func (s *session) redacted(err error) error {
	c := s.present()
	if rpc, ok := errors.AsType[*RPCError](err); ok && !c.IsZero() {
		rpc.Message = c.Redact(rpc.Message)
		rpc.Data = json.RawMessage(c.Redact(string(rpc.Data)))
		if !json.Valid(rpc.Data) {
			rpc.Data = nil
		}
	}
	return err
}

func rpcError(details *mcp.JSONRPCErrorDetails) *RPCError {
	e := &RPCError{Code: details.Code, Message: details.Message}
	if details.Data != nil {
		if data, err := json.Marshal(details.Data); err == nil {
			e.Data = data
		}
	}
	return e
}

func (s *session) notify(ctx context.Context, method string, params map[string]any) error {
	return s.transport.SendNotification(ctx, mcp.JSONRPCNotification{
		JSONRPC:      mcp.JSONRPC_VERSION,
		Notification: mcp.Notification{Method: method, Params: mcp.NotificationParams{AdditionalFields: params}},
	})
}

// cancelled tells the backend that nobody waits for a request any more. That it arrives cannot be hoped for.
func (s *session) cancelled(id int64) {
	ctx, cancel := context.WithTimeout(context.Background(), notifyTimeout)
	defer cancel()
	_ = s.notify(ctx, methodCancelled, map[string]any{"requestId": id, "reason": "the caller stopped waiting"})
}

// lost says that the backend has forgotten the session.
func (s *session) lost() bool { return s.wire.lost.Load() }

// close ends the session at the backend, unless the backend has forgotten it, and ends the streams.
func (s *session) close() {
	s.closing.Do(func() {
		if s.transport != nil {
			_ = s.transport.Close() // the DELETE is a courtesy; its failure changes nothing
		}
		s.end()
	})
}

// abandon ends a session that was never begun.
func (s *session) abandon() {
	s.wire.lost.Store(true)
	s.close()
}

// awaitStream waits until the stream of notifications is open or refused, but not for long.
func (s *session) awaitStream(ctx context.Context) {
	if s.wire.sse {
		return
	}
	patience := time.NewTimer(streamPatience)
	defer patience.Stop()
	select {
	case <-s.wire.settled:
	case <-patience.C:
	case <-ctx.Done():
	}
}

// answerServer answers requests of the backend: a ping, and that nothing else is supported, since no capability was declared.
func answerServer(_ context.Context, request transport.JSONRPCRequest) (*transport.JSONRPCResponse, error) {
	if request.Method == methodPing {
		return transport.NewJSONRPCResultResponse(request.ID, json.RawMessage(`{}`)), nil
	}
	return transport.NewJSONRPCErrorResponse(request.ID, CodeMethodNotFound, "the gateway does not support "+quoteText(request.Method), nil), nil
}

func isListChanged(method string) bool {
	return strings.HasPrefix(method, "notifications/") && strings.HasSuffix(method, "/list_changed")
}

// exchangeKey is the context key of an exchange.
type exchangeKey struct{}

// exchange follows one request through the transport, which drops part of what went wrong.
type exchange struct {
	method string
	id     int64

	mu     sync.Mutex
	broken error
}

func (e *exchange) breakOff(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.broken == nil {
		e.broken = err
	}
}

// explain picks the error that says most. The caller's deadline comes first: its end is what broke the connection.
func (e *exchange) explain(ctx context.Context, err error) error {
	if rpc, ok := errors.AsType[*RPCError](err); ok {
		return rpc
	}
	if ended := endOf(ctx); ended != nil {
		return fmt.Errorf("%s: %w", e.method, errors.Join(ended, err))
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.broken != nil {
		if errors.Is(e.broken, io.EOF) {
			return fmt.Errorf("%s: the stream ended without an answer: %w", e.method, io.ErrUnexpectedEOF)
		}
		return fmt.Errorf("%s: %w", e.method, e.broken)
	}
	return fmt.Errorf("%s: %w", e.method, err)
}

// endOf is ctx.Err(), a moment early: the SSE transport runs its own timer to the same deadline, and it may be the first.
func endOf(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < 10*time.Millisecond {
		return context.DeadlineExceeded
	}
	return nil
}
