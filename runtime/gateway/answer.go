// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/era"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
)

// Keys of _meta by which clients can tell what the gateway answers from what a backend answers.
const (
	metaBackend = "vmcp.dev/backend"
	metaReason  = "vmcp.dev/reason"
)

// answer passes a backend's answer on.
func (c *call) answer(a *relay.Answer) {
	m := &a.Message
	switch {
	case m.Kind == rpc.Failure:
		c.passFailure(m)
	case m.Kind != rpc.Result || m.Raw[m.Body.Start] != '{':
		c.failAtBackend(c.malformed())
	case c.isModern():
		c.passToModern(m, a.Era)
	case c.info.Version == era.V20250326:
		older := withoutLinks(*m)
		c.passToLegacy(&older, a.Era)
	default:
		c.passToLegacy(m, a.Era)
	}
}

// malformed is the fault of a backend that answers what MCP has no meaning for.
func (c *call) malformed() backend.Fault {
	return backend.Fault{
		Reason: v1alpha1.ReasonProtocolError,
		Public: fmt.Sprintf("backend %q answered with a malformed result", c.target.Name),
	}
}

// pass sends a message of a backend with the client's id, and further edits, in it. What does not change is not copied.
func (c *call) pass(status int, m *rpc.Message, edits ...rpc.Edit) {
	raw := m.Raw
	if m.ID.Exists() {
		edits = append(edits, rpc.Edit{At: m.ID, Text: c.id()})
	} else {
		start := bytes.IndexByte(raw, '{')
		edits = append(edits, rpc.SetMember(raw, rpc.Span{Start: start, End: len(raw)}, rpc.Span{}, "id", c.id()))
	}
	if len(edits) > 1 {
		slices.SortStableFunc(edits, func(a, b rpc.Edit) int { return cmp.Compare(a.At.Start, b.At.Start) })
	}
	pieces := make([][]byte, 0, 12)
	at := 0
	for _, e := range edits {
		pieces = append(pieces, raw[at:e.At.Start], e.Text)
		at = e.At.End
	}
	c.out.respond(status, append(pieces, raw[at:])...)
}

// passToModern adds what the modern era wants of a result: its type, the gateway's name in the place of the backend's, and whether it may
// be cached (MCP 2026-07-28, basic, results; caching).
func (c *call) passToModern(m *rpc.Message, from relay.Era) {
	raw := m.Raw
	found := rpc.Find(raw, m.Body, "resultType", "_meta", "requestState", "ttlMs", "cacheScope")
	var buffer [8]rpc.Edit
	edits := buffer[:0]
	var add []byte // members that are not there
	kind, isText := rpc.Text(found[0].Of(raw))
	switch {
	case !found[0].Exists():
		add = append(add, completeText...)
		kind = string(mcp.ResultTypeComplete)
	case from == relay.Legacy: // the field means something else to it
		edits = append(edits, rpc.Edit{At: found[0], Text: []byte(`"complete"`)})
		kind = string(mcp.ResultTypeComplete)
	case !isText:
	case kind == string(mcp.ResultTypeInputRequired) && mayNeedInput(c.m.Method):
		if found[2].Exists() {
			if found[2].Of(raw)[0] != '"' {
				c.failAtBackend(c.malformed())
				return
			}
			edits = append(edits, rpc.Edit{At: found[2], Text: c.wrapState(found[2].Of(raw))})
		}
	}
	if kind != string(mcp.ResultTypeComplete) && !(kind == string(mcp.ResultTypeInputRequired) && mayNeedInput(c.m.Method)) {
		c.failAtBackend(c.malformed())
		return
	}
	edits, add = c.ownMeta(raw, found[1], edits, add)
	if c.m.Method == methodReadResource && kind == string(mcp.ResultTypeComplete) {
		edits, add = cacheHints(raw, found[3], found[4], edits, add)
	}
	if len(add) > 0 {
		if rest := bytes.TrimLeft(raw[m.Body.Start+1:m.Body.End], " \t\r\n"); rest[0] != '}' {
			add = append(add, ',')
		}
		edits = append(edits, rpc.Edit{At: rpc.Span{Start: m.Body.Start + 1, End: m.Body.Start + 1}, Text: add})
	}
	c.pass(http.StatusOK, m, edits...)
}

// mayNeedInput says whether a result of the method may ask for input (MCP 2026-07-28, multi round-trip requests).
func mayNeedInput(method string) bool {
	return method == methodCallTool || method == methodGetPrompt || method == methodReadResource
}

// ownMeta puts the gateway's serverInfo into the result's _meta.
func (c *call) ownMeta(raw []byte, meta rpc.Span, edits []rpc.Edit, add []byte) ([]rpc.Edit, []byte) {
	switch {
	case !meta.Exists():
		if len(add) > 0 {
			add = append(add, ',')
		}
		return edits, append(add, c.g.texts.meta...)
	case raw[meta.Start] != '{':
		return append(edits, rpc.Edit{At: meta, Text: c.g.texts.meta[len(`"_meta":`):]}), add
	default:
		theirs := rpc.Find(raw, meta, mcp.MetaKeyServerInfo)[0]
		return append(edits, rpc.SetMember(raw, meta, theirs, mcp.MetaKeyServerInfo, c.g.texts.serverInfo)), add
	}
}

// cacheHints are those of the backend. What it does not say, or says wrongly, is that nothing may be cached.
func cacheHints(raw []byte, ttl, scope rpc.Span, edits []rpc.Edit, add []byte) ([]rpc.Edit, []byte) {
	set := func(at rpc.Span, ok bool, name, value string) {
		switch {
		case !at.Exists():
			add = append(add, `,"`+name+`":`+value...)
		case !ok:
			edits = append(edits, rpc.Edit{At: at, Text: []byte(value)})
		}
	}
	millis, err := strconv.ParseInt(string(ttl.Of(raw)), 10, 64)
	set(ttl, err == nil && millis >= 0, "ttlMs", "0")
	text := string(scope.Of(raw))
	set(scope, text == `"private"` || text == `"public"`, "cacheScope", `"private"`)
	if len(add) > 0 && add[0] == ',' {
		add = add[1:]
	}
	return edits, add
}

// passToLegacy takes out of a result of a modern backend what clients of the legacy era cannot read. That a tool needs input they cannot
// be told in this way.
func (c *call) passToLegacy(m *rpc.Message, from relay.Era) {
	if from == relay.Legacy {
		c.pass(http.StatusOK, m)
		return
	}
	raw := m.Raw
	found := rpc.Find(raw, m.Body, "resultType", "structuredContent", "content")
	if kind, _ := rpc.Text(found[0].Of(raw)); found[0].Exists() && kind != string(mcp.ResultTypeComplete) {
		fault := c.malformed()
		if kind == string(mcp.ResultTypeInputRequired) {
			fault.Public = fmt.Sprintf("backend %q needs input, for which clients of this revision of MCP cannot be asked", c.target.Name)
		}
		c.failAtBackend(fault)
		return
	}
	if c.m.Method != methodCallTool || !found[1].Exists() || raw[found[1].Start] == '{' {
		c.pass(http.StatusOK, m)
		return
	}
	// Up to revision 2025-11-25 structured content is an object. Of anything else its text stays.
	isBare := len(bytes.Trim(found[2].Of(raw), "[] \t\r\n")) == 0
	text := []byte{'{'}
	rpc.Members(raw, m.Body, func(member rpc.Member) bool {
		if !member.Is("structuredContent") && !(isBare && member.Is("content")) {
			text = append(append(append(text, '"'), member.Key...), `":`...)
			text = append(append(text, member.Value.Of(raw)...), ',')
		}
		return true
	})
	if isBare {
		text = fmt.Appendf(text, `"content":[{"type":"text","text":%s}],`, encodeAny(string(found[1].Of(raw))))
	}
	text = append(bytes.TrimSuffix(text, []byte{','}), '}')
	c.pass(http.StatusOK, m, rpc.Edit{At: m.Body, Text: text})
}

// passFailure passes a backend's error on as a client of either era may see it.
func (c *call) passFailure(m *rpc.Message) {
	raw := m.Raw
	found := rpc.Find(raw, m.Body, "code", "message", "data")
	code, err := strconv.Atoi(string(found[0].Of(raw)))
	if err != nil {
		c.failAtBackend(c.malformed())
		return
	}
	theirs := &era.Refusal{Code: code, Data: found[2].Of(raw)}
	theirs.Message, _ = rpc.Text(found[1].Of(raw))
	switch ours := forClient(theirs, c.isModern()); {
	case ours.Code == code:
		c.pass(ours.Status, m)
	case ours.Message == theirs.Message:
		c.pass(ours.Status, m, rpc.Edit{At: found[0], Text: strconv.AppendInt(nil, int64(ours.Code), 10)})
	default:
		c.out.refuse(c.id(), ours)
	}
}

// forClient is a backend's error as a client may see it, with the HTTP status: faults between gateway and backend are none of the
// client's, and revision 2026-07-28 has another code for an unknown resource and none for an elicitation by URL (mcp error codes of both).
func forClient(e *era.Refusal, modern bool) *era.Refusal {
	r := *e
	switch {
	case r.Code == mcp.HEADER_MISMATCH, r.Code == mcp.UNSUPPORTED_PROTOCOL_VERSION:
		r = era.Refusal{Code: mcp.INTERNAL_ERROR, Message: "the backend did not understand the gateway"}
	case r.Code == mcp.RESOURCE_NOT_FOUND && modern:
		r.Code = mcp.INVALID_PARAMS
	case r.Code == mcp.URL_ELICITATION_REQUIRED && modern:
		r = era.Refusal{Code: mcp.INTERNAL_ERROR, Message: "the backend needs input in a way that this revision of MCP does not have"}
	}
	r.Status = http.StatusOK
	if modern {
		r.Status = modernStatus(r.Code)
	}
	return &r
}

// modernStatus is the HTTP status of an error (MCP 2026-07-28, transports and error codes). Of the legacy era it is 200.
func modernStatus(code int) int {
	switch code {
	case mcp.METHOD_NOT_FOUND:
		return http.StatusNotFound
	case mcp.INVALID_PARAMS, mcp.INVALID_REQUEST, mcp.PARSE_ERROR, mcp.MISSING_REQUIRED_CLIENT_CAPABILITY:
		return http.StatusBadRequest
	default:
		return http.StatusOK
	}
}

func invalidParams(message string) *era.Refusal {
	return &era.Refusal{Status: http.StatusBadRequest, Code: mcp.INVALID_PARAMS, Message: message}
}

// unknownResource is the error for a URI that nobody serves (MCP 2025-11-25 and 2026-07-28, resources, error handling).
func unknownResource(uri string, modern bool) *era.Refusal {
	r := invalidParams("resource not found")
	r.Data = encodeAny(map[string]string{"uri": uri})
	if !modern {
		r.Code = mcp.RESOURCE_NOT_FOUND
	}
	return r
}

// failAtBackend answers for a backend that did not. A tool that cannot be reached is something that a model can act on; a protocol error
// would end its turn.
func (c *call) failAtBackend(fault backend.Fault) {
	if c.m.Method != methodCallTool {
		c.out.refuse(c.id(), &era.Refusal{
			Status: http.StatusOK, Code: mcp.INTERNAL_ERROR, Message: fault.Public,
			Data: encodeAny(map[string]any{"gateway": map[string]string{"backend": c.target.Name, "reason": fault.Reason}}),
		})
		return
	}
	meta := map[string]any{metaBackend: c.target.Name, metaReason: fault.Reason}
	result := map[string]any{
		"content": []any{map[string]string{"type": "text", "text": fault.Public}}, "isError": true, "_meta": meta,
	}
	if c.isModern() {
		result["resultType"] = mcp.ResultTypeComplete
		meta[mcp.MetaKeyServerInfo] = c.g.texts.info()
	}
	c.result(encodeAny(result))
}
