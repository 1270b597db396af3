// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
)

const (
	memberMeta     = "_meta"
	memberToken    = "progressToken"
	noCapabilities = "{}"
)

// encode makes the body of the request for a backend of x.era out of the client's request: the id and the progress token are the edge's,
// and _meta is what the era wants. Everything else is as the client, and the front's edits, have it.
func (x *exchange) encode(r *relay.Request, v *verdict, capabilities json.RawMessage) {
	raw := r.Message.Raw
	edits := append(x.scratch[:0], r.Edits...)
	edits = append(edits, rpc.Edit{At: r.Message.ID, Text: x.idText})
	meta := newBuffer()
	defer meta.release()
	switch {
	case x.era == relay.Modern:
		meta.b = x.modernMeta(meta.b, r, v, capabilities)
		edits = append(edits, setMeta(r, meta.b))
	case r.Era == relay.Modern:
		meta.b = x.legacyMeta(meta.b, r)
		edits = append(edits, setMeta(r, meta.b))
	case x.progress && r.Meta.Exists():
		token := rpc.Find(raw, r.Meta, memberToken)[0]
		edits = append(edits, rpc.SetMember(raw, r.Meta, token, memberToken, x.idText))
	case x.progress:
		meta.b = x.legacyMeta(meta.b, r)
		edits = append(edits, setMeta(r, meta.b))
	}
	b := newBuffer()
	b.b = rpc.Splice(b.b, raw, edits...)
	x.body = newPayload(b)
}

// setMeta is the edit that makes meta the request's params._meta.
func setMeta(r *relay.Request, meta []byte) rpc.Edit {
	raw := r.Message.Raw
	switch {
	case r.Meta.Exists():
		return rpc.Edit{At: r.Meta, Text: meta}
	case r.Message.Params.Exists():
		return rpc.SetMember(raw, r.Message.Params, rpc.Span{}, memberMeta, meta)
	default:
		params := slices.Concat([]byte(`{"_meta":`), meta, []byte(`}`))
		root := rootOf(raw)
		return rpc.SetMember(raw, root, rpc.Find(raw, root, "params")[0], "params", params) // there may be a null
	}
}

// isEnvelope says whether a key of _meta is one that each hop sets for itself.
func isEnvelope(key []byte) bool {
	switch string(key) {
	case memberToken, mcp.MetaKeyProtocolVersion, mcp.MetaKeyClientInfo, mcp.MetaKeyClientCapabilities, mcp.MetaKeyLogLevel, mcp.MetaKeySubscriptionID:
		return true
	default:
		return false
	}
}

// legacyMeta appends what the client's _meta has for a backend of the legacy era.
func (x *exchange) legacyMeta(dst []byte, r *relay.Request) []byte {
	dst = append(dst, '{')
	if x.progress {
		dst = append(append(dst, `"progressToken":`...), x.idText...)
	}
	return append(appendMembers(dst, r), '}')
}

// modernMeta appends the _meta of a request to a backend of the modern era.
func (x *exchange) modernMeta(dst []byte, r *relay.Request, v *verdict, capabilities json.RawMessage) []byte {
	dst = append(append(dst, v.metaPrefix...), orNone(capabilities)...)
	if r.LogLevel != "" && severityOf(r.LogLevel, nothing) != nothing {
		dst = append(append(append(dst, `,"`+mcp.MetaKeyLogLevel+`":"`...), r.LogLevel...), '"')
	}
	if x.progress {
		dst = append(append(dst, `,"progressToken":`...), x.idText...)
	}
	return append(appendMembers(dst, r), '}')
}

func orNone(capabilities json.RawMessage) json.RawMessage {
	if len(capabilities) == 0 {
		return json.RawMessage(noCapabilities)
	}
	return capabilities
}

// appendMembers appends the members of the client's _meta that are not for one hop, trace context among them, to an object that was
// begun.
func appendMembers(dst []byte, r *relay.Request) []byte {
	raw := r.Message.Raw
	rpc.Members(raw, r.Meta, func(m rpc.Member) bool {
		key := m.Key
		if m.Escaped {
			text, _ := rpc.Text(slices.Concat([]byte{'"'}, m.Key, []byte{'"'}))
			key = []byte(text)
		}
		if isEnvelope(key) {
			return true
		}
		if dst[len(dst)-1] != '{' {
			dst = append(dst, ',')
		}
		dst = append(append(append(dst, '"'), m.Key...), `":`...)
		dst = append(dst, m.Value.Of(raw)...)
		return true
	})
	return dst
}

// modernHeader is the header of a request to a backend of the modern era (MCP 2026-07-28, transports, standard headers).
func (c *Client) modernHeader(v *verdict, method, name string, params http.Header, repeatable bool) http.Header {
	h := make(http.Header, len(v.header)+3+len(params))
	maps.Copy(h, v.header)
	h[mcp.HeaderMethod] = []string{method}
	if name != "" {
		if encoded, ok := mcp.EncodeHeaderValue(name); ok {
			h[mcp.HeaderName] = []string{encoded}
		}
	}
	for key, values := range params {
		h[http.CanonicalHeaderKey(key)] = values
	}
	if repeatable {
		h[headerReplayable] = nil
	}
	return h
}

// ownRequest makes the request of the gateway itself for a method. params is a JSON object, or nothing.
func ownRequest(method string, params json.RawMessage) (*relay.Request, error) {
	raw := append([]byte(`{"jsonrpc":"2.0","id":0,"method":`), encodeString(method)...)
	if len(params) > 0 {
		raw = append(append(raw, `,"params":`...), params...)
	}
	m, err := rpc.Parse(append(raw, '}'))
	if err != nil {
		return nil, err
	}
	r := &relay.Request{Message: m, Era: relay.Legacy, Meta: rpc.Find(m.Raw, m.Params, memberMeta)[0]}
	r.Repeatable = method == methodPing || strings.HasSuffix(method, "/list")
	r.Name, _ = mcp.ExtractHeaderName(mcp.MCPMethod(method), params)
	return r, nil
}

func encodeString(s string) []byte {
	raw, err := json.Marshal(s)
	if err != nil { // strings can be encoded
		return []byte(`""`)
	}
	return raw
}

// encodeNotification appends a notification to dst. params is a JSON object, or nothing.
func encodeNotification(dst []byte, method string, params []byte) []byte {
	dst = append(append(dst, `{"jsonrpc":"2.0","method":"`...), method...)
	dst = append(dst, '"')
	if len(params) > 0 {
		dst = append(append(dst, `,"params":`...), params...)
	}
	return append(dst, '}')
}
