// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
)

// tryModern sends a request to a backend of the modern era. again says that it can be sent once more, to some purpose.
func (c *Client) tryModern(ctx context.Context, v *verdict, r *relay.Request, sink relay.Sink) (answer *relay.Answer, again bool, err error) {
	answer, seen, err := c.exchangeModern(ctx, v, r, sink)
	if ctx.Err() != nil {
		return answer, false, err
	}
	if e, ok := errors.AsType[*RPCError](err); ok && e.Code == CodeHeaderMismatch {
		return c.afterMismatch(ctx, v, r, sink, e)
	}
	if seen.odd(v) {
		if now, probeErr := c.reconsider(ctx, v); probeErr == nil && now.era != v.era {
			return answer, true, err
		}
	}
	// A broken stream loses the request (MCP 2026-07-28, transports).
	_, broken := errors.AsType[*brokenError](err)
	return answer, broken && r.Repeatable && !seen.relayed, err
}

// sighting is what an exchange showed besides its answer.
type sighting struct {
	status  int
	code    int // of a JSON-RPC error
	relayed bool
}

// odd says that the backend answered as one of the modern era would not, or said so.
func (s sighting) odd(v *verdict) bool {
	if s.code == CodeUnsupportedProtocolVersion {
		return true
	}
	if s.status < 400 || s.status >= 500 || aboutCredentials(s.status) || s.status == http.StatusTooManyRequests || !v.doubtful() {
		return false
	}
	switch s.code {
	case CodeMethodNotFound, CodeInvalidParams, CodeInternalError, CodeMissingCapability:
		return false
	default:
		return true
	}
}

// exchangeModern sends one request (MCP 2026-07-28). When ctx ends, the stream is closed, which is the cancellation.
func (c *Client) exchangeModern(ctx context.Context, v *verdict, r *relay.Request, sink relay.Sink) (*relay.Answer, sighting, error) {
	x := c.newExchange(ctx, relay.Modern, r.Message.Method)
	defer x.finish()
	x.sink, x.progress, x.repeatable = sink, r.Progress, r.Repeatable
	x.minimum = severityOf(r.LogLevel, nothing)
	x.encode(r, v, r.Capabilities)
	var seen sighting
	header := c.modernHeader(v, x.method, r.Name, r.Params, r.Repeatable)
	response, err := c.do(x.ctx, http.MethodPost, c.url, header, x.body) //nolint:bodyclose // answer and refused close it
	if err != nil {
		return nil, seen, x.explain(ctx, err)
	}
	seen.status = response.StatusCode
	var answer *relay.Answer
	if failed(response) {
		answer, err = x.refused(response, false)
	} else {
		answer, err = x.answer(response)
	}
	seen.relayed = x.relayed.Load()
	if err != nil {
		if e, ok := errors.AsType[*RPCError](err); ok {
			seen.code = e.Code
		}
		return nil, seen, x.explain(ctx, err)
	}
	if answer.Message.Kind == rpc.Failure {
		seen.code = parseRPCError(answer.Message.Raw).Code
	}
	return answer, seen, nil
}

// requestModern sends a request of the gateway's own.
func (c *Client) requestModern(ctx context.Context, v *verdict, method string, params json.RawMessage) (json.RawMessage, error) {
	r, err := ownRequest(method, params)
	if err != nil {
		return nil, err
	}
	answer, _, err := c.exchangeModern(ctx, v, r, nil)
	return resultOf(answer, err)
}

// afterMismatch is what a client does when a server says that headers and body differ (MCP 2026-07-28, transports, custom headers): it
// reads the tools again, for their schemas may have changed, and sends the call once more with the headers that follow from them.
func (c *Client) afterMismatch(ctx context.Context, v *verdict, r *relay.Request, sink relay.Sink, cause *RPCError) (*relay.Answer, bool, error) {
	if r.Message.Method != methodToolsCall {
		return nil, false, cause
	}
	c.changes.announce()
	tools, err := c.pages(lists[0], func(params json.RawMessage) (json.RawMessage, error) {
		return c.requestModern(ctx, v, methodToolsList, params)
	})
	if err != nil {
		return nil, false, fmt.Errorf("%w; reading the tools again: %w", cause, err)
	}
	changed := *r
	changed.Params = nil
	for _, tool := range tools {
		if tool.ID == r.Name {
			changed.Params = paramHeaders(tool.Raw, r.Message.Params.Of(r.Message.Raw))
		}
	}
	answer, _, err := c.exchangeModern(ctx, v, &changed, sink)
	return answer, false, err
}

// paramHeaders are the Mcp-Param-* headers of a call of a tool.
func paramHeaders(tool, params json.RawMessage) http.Header {
	var definition struct {
		InputSchema json.RawMessage `json:"inputSchema"`
	}
	if json.Unmarshal(tool, &definition) != nil {
		return nil
	}
	h := http.Header{}
	for name, value := range mcp.GenerateParamHeaders(&mcp.Tool{RawInputSchema: definition.InputSchema}, params) {
		h.Set(name, value)
	}
	return h
}
