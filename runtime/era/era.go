// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package era decides by which of the two ways to speak MCP a message that a client POSTs is to be read, and checks what that way
// demands of a request before anybody looks at what it asks for. It is pure.
package era

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
)

// The revisions that the gateway serves, the newest first.
const (
	V20260728 = mcp.ProtocolVersion20260728
	V20251125 = mcp.ProtocolVersion20251125
	V20250618 = mcp.ProtocolVersion20250618
	V20250326 = mcp.ProtocolVersion20250326
)

var (
	supported       = []string{V20260728, V20251125, V20250618, V20250326}
	supportedLegacy = supported[1:]
)

// Supported lists the revisions that the gateway serves, the newest first.
func Supported() []string { return slices.Clone(supported) }

// IsLegacy says whether a revision is one of those with initialize that the gateway serves.
func IsLegacy(version string) bool { return slices.Contains(supportedLegacy, version) }

// Negotiate is the revision of a session whose client asked for version in initialize: that one, else the newest that has sessions
// (MCP 2025-11-25, lifecycle, version negotiation).
func Negotiate(version string) string {
	if IsLegacy(version) {
		return version
	}
	return V20251125
}

// Verdict is what is known of a message by its envelope.
type Verdict struct {
	Era relay.Era
	// Version is the revision that a message of the modern era is written in. In the legacy era it is what the header says, and empty
	// without one: the session knows.
	Version string
	// Meta is the place of params._meta, if any.
	Meta rpc.Span
	// Name is params.name of tools/call and prompts/get and params.uri of the methods of resources, NameAt its place. Where it is
	// missing or no string, the place does not exist.
	Name   string
	NameAt rpc.Span
	// LogLevel is the level from which on a request of the modern era wants log messages, empty if it wants none.
	LogLevel string
	// Capabilities are what the client of a request of the modern era can be asked for.
	Capabilities Capabilities
	// Progress is the place of the token under which the client wants to hear of the progress, if it does.
	Progress rpc.Span
	// RequestState and InputResponses are the places of params.requestState and params.inputResponses, if any.
	RequestState, InputResponses rpc.Span
	// Foreign says that params hold something that concerns nobody behind the gateway: a wish for a task, or in the legacy era
	// answers to a request for input.
	Foreign bool
}

// Refusal is why a message is not served.
type Refusal struct {
	// Status is the HTTP status.
	Status int
	// Code and Message are those of the JSON-RPC error, Data is its data, nil if there is none.
	Code    int
	Message string
	Data    json.RawMessage
}

func refuse(status, code int, message string) *Refusal {
	return &Refusal{Status: status, Code: code, Message: message}
}

func mismatch(message string) *Refusal {
	return refuse(http.StatusBadRequest, mcp.HEADER_MISMATCH, message)
}

func invalidParams(message string) *Refusal {
	return refuse(http.StatusBadRequest, mcp.INVALID_PARAMS, message)
}

// Decide reads the envelope of one message and checks it in this order: the version in _meta is there, the header is there and equal,
// the version is served, the client's capabilities are there, Mcp-Method and Mcp-Name fit, the method is known (MCP 2026-07-28,
// transports, standard headers; the specification fixes the codes, not the order). A message that is no request of the modern era has
// to name a revision that is served, if it names one. The Refusal is nil if nothing is wrong.
func Decide(h http.Header, m *rpc.Message) (Verdict, *Refusal) {
	p := readParams(m)
	header, single := one(h, mcp.HeaderProtocolVersion)
	isModern := p.version.Exists() || mcp.IsModernProtocol(header)
	text, isText := rpc.Text(p.version.Of(m.Raw))
	if isText && IsLegacy(text) && !mcp.IsModernProtocol(header) {
		isModern = false // a key of _meta that its revision does not know
	}
	if !isModern {
		v := Verdict{Era: relay.Legacy, Version: header}
		p.fill(&v, m)
		if !single || header != "" && !IsLegacy(header) && m.Method != string(mcp.MethodInitialize) {
			return v, refuse(http.StatusBadRequest, mcp.INVALID_REQUEST, "the "+mcp.HeaderProtocolVersion+" header names no revision of MCP that is served")
		}
		if p.twice {
			return v, refuse(http.StatusOK, mcp.INVALID_PARAMS, "a member of params comes twice")
		}
		return v, nil
	}
	v := Verdict{Era: relay.Modern, Version: text}
	p.fill(&v, m)
	if m.Kind != rpc.Request {
		if m.Kind.IsResponse() {
			return v, refuse(http.StatusBadRequest, mcp.INVALID_REQUEST, "this revision of MCP has no requests to clients, hence no responses of theirs")
		}
		return v, nil // none is defined; to hear one does no harm
	}
	r := p.check(&v, h, m, header, single, isText)
	return v, r
}

// check looks at a request of the modern era.
func (p *params) check(v *Verdict, h http.Header, m *rpc.Message, header string, single, isText bool) *Refusal {
	switch {
	case p.twice:
		return invalidParams("a member of params comes twice")
	case !isText:
		return invalidParams("params._meta has no " + mcp.MetaKeyProtocolVersion)
	case header == "" || !single:
		return mismatch("the request needs one " + mcp.HeaderProtocolVersion + " header")
	case header != v.Version:
		return mismatch("the " + mcp.HeaderProtocolVersion + " header and params._meta name different revisions")
	case v.Version != V20260728:
		r := refuse(http.StatusBadRequest, mcp.UNSUPPORTED_PROTOCOL_VERSION, "this revision of MCP is not served")
		r.Data = unsupported(v.Version)
		return r
	case !p.capabilities.Exists() || m.Raw[p.capabilities.Start] != '{':
		return invalidParams("params._meta has no " + mcp.MetaKeyClientCapabilities)
	}
	if p.logLevel.Exists() {
		if v.LogLevel, _ = rpc.Text(p.logLevel.Of(m.Raw)); Severity(v.LogLevel) < 0 {
			return invalidParams("params._meta names no known log level")
		}
	}
	if r := standardHeaders(h, m, v); r != nil {
		return r
	}
	if !isModernMethod(m.Method) {
		return refuse(http.StatusNotFound, mcp.METHOD_NOT_FOUND, "unknown method "+strconv.Quote(m.Method))
	}
	v.Capabilities = ReadCapabilities(m.Raw, p.capabilities)
	return nil
}

// unsupported is the data of the error for a revision that is not served (MCP 2026-07-28, versioning).
func unsupported(requested string) json.RawMessage {
	data, err := json.Marshal(mcp.UnsupportedProtocolVersionData{Supported: supported, Requested: requested})
	if err != nil {
		panic(err) // strings only
	}
	return data
}

// params are the places in a message's params of what the gateway has to know.
type params struct {
	meta, version, capabilities, logLevel, progress rpc.Span
	name, uri, state, inputs                        rpc.Span
	foreign, twice                                  bool
}

// readParams finds them. Of two members of one name readers disagree which counts, so none of those that decide where a request goes
// may come twice.
func readParams(m *rpc.Message) params {
	var p params
	note := func(place *rpc.Span, at rpc.Span) {
		p.twice = p.twice || place.Exists()
		*place = at
	}
	rpc.Members(m.Raw, m.Params, func(member rpc.Member) bool {
		switch at := member.Value; {
		case member.Is("_meta"):
			note(&p.meta, at)
		case member.Is("name"):
			note(&p.name, at)
		case member.Is("uri"):
			note(&p.uri, at)
		case member.Is("requestState"):
			note(&p.state, at)
			p.foreign = true
		case member.Is("inputResponses"):
			note(&p.inputs, at)
			p.foreign = true
		case member.Is("task"):
			p.foreign = true
		}
		return true
	})
	rpc.Members(m.Raw, p.meta, func(member rpc.Member) bool {
		switch at := member.Value; {
		case member.Is("progressToken"):
			note(&p.progress, at)
		case member.Is(mcp.MetaKeyProtocolVersion):
			note(&p.version, at)
		case member.Is(mcp.MetaKeyClientCapabilities):
			note(&p.capabilities, at)
		case member.Is(mcp.MetaKeyLogLevel):
			note(&p.logLevel, at)
		}
		return true
	})
	return p
}

// fill puts what both eras have into the verdict.
func (p *params) fill(v *Verdict, m *rpc.Message) {
	if p.meta.Exists() && m.Raw[p.meta.Start] == '{' {
		v.Meta = p.meta
	}
	if rpc.Token(p.progress.Of(m.Raw)) != "" {
		v.Progress = p.progress
	}
	v.RequestState, v.InputResponses, v.Foreign = p.state, p.inputs, p.foreign
	if v.Era == relay.Modern {
		v.Foreign = false // task is removed by nobody: the revision has no such wish
	}
	at := p.name
	switch m.Method {
	case string(mcp.MethodToolsCall), string(mcp.MethodPromptsGet):
	case string(mcp.MethodResourcesRead), "resources/subscribe", "resources/unsubscribe":
		at = p.uri
	default:
		return
	}
	if text, ok := rpc.Text(at.Of(m.Raw)); ok {
		v.Name, v.NameAt = text, at
	}
}

func isModernMethod(method string) bool {
	switch mcp.MCPMethod(method) {
	case mcp.MethodServerDiscover, mcp.MethodToolsList, mcp.MethodToolsCall, mcp.MethodPromptsList, mcp.MethodPromptsGet, mcp.MethodResourcesList,
		mcp.MethodResourcesTemplatesList, mcp.MethodResourcesRead, mcp.MethodCompletionComplete, mcp.MethodSubscriptionsListen:
		return true
	default:
		return false
	}
}

// severities are the levels of log messages (RFC 5424), the least first.
var severities = []mcp.LoggingLevel{
	mcp.LoggingLevelDebug, mcp.LoggingLevelInfo, mcp.LoggingLevelNotice, mcp.LoggingLevelWarning,
	mcp.LoggingLevelError, mcp.LoggingLevelCritical, mcp.LoggingLevelAlert, mcp.LoggingLevelEmergency,
}

// Severity is the rank of a level of log messages, 0 for debug to 7 for emergency, and -1 for what is no level.
func Severity(level string) int { return slices.Index(severities, mcp.LoggingLevel(level)) }
