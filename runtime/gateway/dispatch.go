// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
	"github.com/tidwall/gjson"

	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/catalog"
)

// anything is the one tool and the one prompt that mcp-go knows; anyURI the one resource template. Hooks lead every call to
// them, so that mcp-go checks and dispatches the request without a registry of its own, which would have to be kept in step
// with the catalog, announces changes by itself and panics on schemas that a backend may well send.
const (
	anything = "vmcp"
	anyURI   = "vmcp:any"
)

// Keys of _meta by which clients can tell what the gateway answers from what a backend answers.
const (
	metaBackend = "vmcp.dev/backend"
	metaReason  = "vmcp.dev/reason"
)

// exchangeKey is the context key of an exchange.
type exchangeKey struct{}

// exchange is one message of a client and what becomes of it. One goroutine after the other uses it.
type exchange struct {
	method  string
	params  json.RawMessage
	cursor  string
	modern  bool // the message is of revision 2026-07-28 or later
	serving *edition

	name   string // of the tool or prompt, or the URI, as the client named it
	result json.RawMessage
	err    *backend.RPCError
}

func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// newServer makes the mcp-go server behind the endpoint.
func (g *Gateway) newServer(o Options) *server.MCPServer {
	hooks := &server.Hooks{}
	hooks.AddBeforeCallTool(func(ctx context.Context, _ any, r *mcp.CallToolRequest) { divert(ctx, &r.Params.Name, anything) })
	hooks.AddBeforeGetPrompt(func(ctx context.Context, _ any, r *mcp.GetPromptRequest) { divert(ctx, &r.Params.Name, anything) })
	hooks.AddBeforeReadResource(func(ctx context.Context, _ any, r *mcp.ReadResourceRequest) { divert(ctx, &r.Params.URI, anyURI) })

	s := server.NewMCPServer(o.Name, o.Version,
		server.WithToolCapabilities(true),
		server.WithPromptCapabilities(true),
		server.WithResourceCapabilities(false, true),
		server.WithInstructions(o.Instructions),
		server.WithHooks(hooks),
	)
	s.AddTool(mcp.NewTool(anything), func(ctx context.Context, _ mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		g.callTool(ctx, exchangeOf(ctx))
		return &mcp.CallToolResult{}, nil
	})
	s.AddPrompt(mcp.NewPrompt(anything), func(ctx context.Context, _ mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		g.getPrompt(ctx, exchangeOf(ctx))
		return &mcp.GetPromptResult{}, nil
	})
	s.AddResource(mcp.NewResource(anyURI, anything), func(ctx context.Context, _ mcp.ReadResourceRequest) ([]mcp.ResourceContents, error) {
		g.readResource(ctx, exchangeOf(ctx))
		return nil, nil
	})
	return s
}

// divert remembers what the client asked for and puts in its place what mcp-go knows.
func divert(ctx context.Context, name *string, known string) {
	exchangeOf(ctx).name, *name = *name, known
}

func (g *Gateway) callTool(ctx context.Context, x *exchange) {
	entry, ok := x.serving.snapshot.Tool(x.name)
	if !ok {
		x.err = &backend.RPCError{Code: backend.CodeInvalidParams, Message: fmt.Sprintf("unknown tool %q", x.name)}
		return
	}
	if fault := g.relay(ctx, x, entry, "name", entry.Original); fault != nil {
		// A tool that cannot be reached is something that a model can act on; a protocol error would end its turn.
		x.result, x.err = toolError(entry.Backend, fault), nil
	}
}

func (g *Gateway) getPrompt(ctx context.Context, x *exchange) {
	entry, ok := x.serving.snapshot.Prompt(x.name)
	if !ok {
		x.err = &backend.RPCError{Code: backend.CodeInvalidParams, Message: fmt.Sprintf("unknown prompt %q", x.name)}
		return
	}
	if fault := g.relay(ctx, x, entry, "name", entry.Original); fault != nil {
		x.err = gatewayError(entry.Backend, fault)
	}
}

func (g *Gateway) readResource(ctx context.Context, x *exchange) {
	entry, ok := x.serving.snapshot.Resource(x.name)
	if !ok {
		x.err = unknownResource(x.name, x.modern)
		return
	}
	if fault := g.relay(ctx, x, entry, "uri", x.name); fault != nil {
		x.err = gatewayError(entry.Backend, fault)
	}
}

// relay asks the backend and keeps its result or its JSON-RPC error. A fault is what kept the backend from answering.
func (g *Gateway) relay(ctx context.Context, x *exchange, entry catalog.Entry, field, original string) *backend.Fault {
	params, err := outgoingParams(x.params, field, original)
	if err != nil {
		x.err = &backend.RPCError{Code: backend.CodeInvalidParams, Message: "params is no JSON object"}
		return nil
	}
	result, err := g.caller.Call(ctx, entry.Backend, x.method, params)
	var rpc *backend.RPCError
	switch {
	case errors.As(err, &rpc):
		x.err = forClient(rpc, x.modern)
		return nil
	case err != nil:
		fault := backend.Classify(entry.Backend, err)
		g.log.Info("a call to a backend failed", "backend", entry.Backend.String(), "method", x.method,
			"reason", fault.Reason, "message", fault.Message)
		return &fault
	case !gjson.ValidBytes(result) || !gjson.ParseBytes(result).IsObject():
		return &backend.Fault{
			Reason: "ProtocolError",
			Public: fmt.Sprintf("backend %q answered with a malformed result", entry.Backend.Name),
		}
	}
	x.result = result
	return nil
}

// outgoingParams are the client's params as the backend gets them: with its own name for what is asked, and without what
// concerns the client and the gateway only: the per-request envelope of revision 2026-07-28, a progress token (tokens of
// different clients may be equal, and nobody would hear the progress), the wish for a task, and what belongs to requests for
// further input, which the gateway does not carry.
func outgoingParams(params json.RawMessage, field, original string) (json.RawMessage, error) {
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(params, &fields); err != nil {
		return nil, err
	}
	name, err := json.Marshal(original)
	if err != nil {
		return nil, err
	}
	fields[field] = name
	delete(fields, "task")
	delete(fields, "inputResponses")
	delete(fields, "requestState")
	if raw, ok := fields["_meta"]; ok {
		meta := map[string]json.RawMessage{}
		if err := json.Unmarshal(raw, &meta); err != nil {
			return nil, err
		}
		for key := range meta {
			if key == "progressToken" || strings.HasPrefix(key, "io.modelcontextprotocol/") {
				delete(meta, key)
			}
		}
		delete(fields, "_meta")
		if len(meta) > 0 {
			if fields["_meta"], err = json.Marshal(meta); err != nil {
				return nil, err
			}
		}
	}
	return json.Marshal(fields)
}

// forClient is a backend's error as a client of either era may see it: faults between gateway and backend are none of the
// client's, and revision 2026-07-28 has another code for an unknown resource.
func forClient(e *backend.RPCError, modern bool) *backend.RPCError {
	switch {
	case e.Code == backend.CodeHeaderMismatch, e.Code == backend.CodeUnsupportedProtocolVersion:
		return &backend.RPCError{Code: backend.CodeInternalError, Message: "the backend did not understand the gateway"}
	case e.Code == backend.CodeResourceNotFound && modern:
		return &backend.RPCError{Code: backend.CodeInvalidParams, Message: e.Message, Data: e.Data}
	default:
		return e
	}
}

// unknownResource is the error for a URI that nobody serves (MCP 2025-11-25 and 2026-07-28, resources, error handling).
func unknownResource(uri string, modern bool) *backend.RPCError {
	code := backend.CodeResourceNotFound
	if modern {
		code = backend.CodeInvalidParams
	}
	return &backend.RPCError{Code: code, Message: "resource not found", Data: encodeAny(map[string]string{"uri": uri})}
}

// toolError is a tool's result that says why the tool could not be called.
func toolError(key backend.Key, fault *backend.Fault) json.RawMessage {
	return encodeAny(map[string]any{
		"content": []any{map[string]string{"type": "text", "text": fault.Public}},
		"isError": true,
		"_meta":   map[string]string{metaBackend: key.Name, metaReason: fault.Reason},
	})
}

// gatewayError is the error of a request that has no result to put a failure into.
func gatewayError(key backend.Key, fault *backend.Fault) *backend.RPCError {
	return &backend.RPCError{
		Code:    backend.CodeInternalError,
		Message: fault.Public,
		Data:    encodeAny(map[string]any{"gateway": map[string]string{"backend": key.Name, "reason": fault.Reason}}),
	}
}

// encodeAny encodes maps of strings, which cannot fail.
func encodeAny(v any) json.RawMessage {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return raw
}
