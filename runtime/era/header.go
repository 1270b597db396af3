// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package era

import (
	"encoding/json"
	"net/http"
	"net/textproto"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
)

// one is the value of a header, and whether it comes at most once: of two, readers disagree which counts. name is canonical.
func one(h http.Header, name string) (value string, single bool) {
	switch values := h[name]; len(values) {
	case 0:
		return "", true
	case 1:
		return values[0], true
	default:
		return values[0], false
	}
}

// standardHeaders compares Mcp-Method and Mcp-Name with the body (MCP 2026-07-28, transports, standard headers).
func standardHeaders(h http.Header, m *rpc.Message, v *Verdict) *Refusal {
	switch method, single := one(h, mcp.HeaderMethod); {
	case method == "" || !single:
		return mismatch("the request needs one " + mcp.HeaderMethod + " header")
	case method != m.Method:
		return mismatch("the " + mcp.HeaderMethod + " header and the body name different methods")
	}
	if !mcp.MethodRequiresNameHeader(mcp.MCPMethod(m.Method)) {
		return nil
	}
	name, single := one(h, mcp.HeaderName)
	if _, there := h[mcp.HeaderName]; !there || !single {
		return mismatch("the request needs one " + mcp.HeaderName + " header")
	}
	decoded, ok := mcp.DecodeHeaderValue(name)
	if !ok {
		return mismatch("the " + mcp.HeaderName + " header is not base64")
	}
	if !v.NameAt.Exists() || decoded != v.Name {
		return mismatch("the " + mcp.HeaderName + " header and the body name different things")
	}
	return nil
}

// ParamHeaders are the headers in which a call of one tool repeats arguments of it: the tool's schema has properties with x-mcp-header
// (SEP-2243). Nil stands for a tool that has none.
type ParamHeaders struct{ tool mcp.Tool }

// NewParamHeaders reads a tool's inputSchema. It is nil if no argument travels in a header, or if the annotations are not well formed:
// no client may then follow them.
func NewParamHeaders(inputSchema json.RawMessage) *ParamHeaders {
	p := &ParamHeaders{tool: mcp.Tool{RawInputSchema: inputSchema}}
	if mcp.ValidateParamHeaderAnnotations(&p.tool) != nil || len(mcp.ExtractParamHeaderBindings(&p.tool)) == 0 {
		return nil
	}
	return p
}

// Check compares the headers of a call with its params. Headers that the schema does not know are no concern.
func (p *ParamHeaders) Check(h http.Header, params []byte) *Refusal {
	if p == nil {
		return nil
	}
	var repeated string
	lookup := func(name string) (string, bool) {
		name = textproto.CanonicalMIMEHeaderKey(name)
		value, single := one(h, name)
		if !single {
			repeated = name
		}
		_, there := h[name]
		return value, there
	}
	if err := mcp.ValidateParamHeadersLookup(lookup, &p.tool, params); err != nil {
		return mismatch(err.Error())
	}
	if repeated != "" {
		return mismatch("the " + repeated + " header comes twice")
	}
	return nil
}

// Generate makes the headers for a call with params, nil if there are none.
func (p *ParamHeaders) Generate(params []byte) http.Header {
	if p == nil {
		return nil
	}
	generated := mcp.GenerateParamHeaders(&p.tool, params)
	if len(generated) == 0 {
		return nil
	}
	h := make(http.Header, len(generated))
	for name, value := range generated {
		h.Set(name, value)
	}
	return h
}
