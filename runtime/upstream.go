// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
)

// Upstream implements gateway.Upstreams.
func (c *control) Upstream(key backend.Key) (relay.Upstream, bool) {
	m, served := (*c.routes.Load())[key]
	return upstream{c, key, m}, served
}

// upstream lets the gateway reach a member through the client that speaks the legacy era in one session for all.
type upstream struct {
	control *control
	key     backend.Key
	member  *member // tells a backend from another of its name
}

// errUnsupported is the error for what such a client cannot do.
var errUnsupported = &backend.RPCError{Code: backend.CodeMethodNotFound, Message: "the gateway does not watch resources of this backend"}

// Exchange implements relay.Upstream.
func (u upstream) Exchange(ctx context.Context, r *relay.Request, _ relay.Sink) (*relay.Answer, error) {
	params, err := outgoing(r)
	if err != nil {
		return nil, err
	}
	result, err := u.control.Call(ctx, u.key, r.Message.Method, params)
	text := []byte(`{"jsonrpc":"2.0","id":0,"result":` + string(result) + `}`)
	if answered, ok := errors.AsType[*backend.RPCError](err); ok {
		details := map[string]any{"code": answered.Code, "message": answered.Message}
		if len(answered.Data) > 0 {
			details["data"] = answered.Data
		}
		if text, err = json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 0, "error": details}); err != nil {
			return nil, err
		}
	}
	if err != nil {
		return nil, err
	}
	m, err := rpc.Parse(text)
	if err != nil {
		return nil, &backend.NotMCPError{Endpoint: "the backend", Method: r.Message.Method, Problem: "the result is no JSON"}
	}
	return &relay.Answer{Message: m, Era: relay.Legacy}, nil
}

// outgoing are the params of a request as the backend gets them: with the front's edits, and without what concerns the client and the
// gateway only.
func outgoing(r *relay.Request) (json.RawMessage, error) {
	m, err := rpc.Parse(rpc.Splice(nil, r.Message.Raw, r.Edits...))
	if err != nil || !m.Params.Exists() {
		return nil, err
	}
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(m.Params.Of(m.Raw), &fields); err != nil {
		return nil, err
	}
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

// NewSession implements relay.Upstream.
func (u upstream) NewSession(relay.SessionOptions) relay.Session { return sharedSession{u} }

// WatchResource implements relay.Upstream.
func (upstream) WatchResource(context.Context, string, func(rpc.Message)) error {
	return errUnsupported
}

// sharedSession is the one session, as each client has it.
type sharedSession struct{ upstream }

func (sharedSession) SetLogLevel(context.Context, string) error { return nil }
func (sharedSession) Subscribe(context.Context, string) error   { return errUnsupported }
func (sharedSession) Unsubscribe(context.Context, string) error { return errUnsupported }
func (sharedSession) RootsChanged(context.Context)              {}
func (sharedSession) Close()                                    {}
