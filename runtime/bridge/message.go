// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tidwall/gjson"
)

// JSON-RPC 2.0 error codes (section 5.1).
const (
	codeParseError     = -32700
	codeInvalidRequest = -32600
	codeInternalError  = -32603
)

// legacyRevisions are the revisions of MCP that have sessions, and so can be bridged to a process per session.
var legacyRevisions = []string{"2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"}

// firstModernRevision is the first revision without sessions.
const firstModernRevision = "2026-07-28"

type messageKind int

const (
	kindRequest messageKind = iota
	kindNotification
	kindResponse
)

// message is one JSON-RPC 2.0 message: its bytes, untouched but for blanks between tokens, and what is needed to route it.
type message struct {
	raw    []byte // one line, without its end
	kind   messageKind
	id     string // a key that tells 1 from "1"; empty for a notification
	rawID  string // the id as the sender wrote it
	method string // empty for a response
}

var (
	errNotJSON = errors.New("not JSON")
	errBatch   = errors.New("batches of messages are not supported")
)

// parseMessage reads one message. What it returns shares no memory with data.
func parseMessage(data []byte) (message, error) {
	var compact bytes.Buffer
	compact.Grow(len(data))
	if err := json.Compact(&compact, data); err != nil {
		return message{}, fmt.Errorf("%w: %w", errNotJSON, err)
	}
	raw := compact.Bytes()
	switch {
	case raw[0] == '[':
		return message{}, errBatch
	case raw[0] != '{':
		return message{}, errors.New("not a JSON object")
	}
	m := message{raw: raw}
	found := gjson.GetManyBytes(raw, "jsonrpc", "id", "method", "result", "error")
	jsonrpc, id, method, result, rpcError := found[0], found[1], found[2], found[3], found[4]
	if jsonrpc.String() != "2.0" {
		return message{}, errors.New(`"jsonrpc" is not "2.0"`)
	}
	if id.Exists() {
		key, ok := idKey(id)
		if !ok {
			return message{}, errors.New(`"id" is neither a string nor an integer`)
		}
		m.id, m.rawID = key, id.Raw
	}
	switch {
	case method.Exists() && method.Type != gjson.String:
		return message{}, errors.New(`"method" is not a string`)
	case method.Exists() && m.id != "":
		m.kind, m.method = kindRequest, method.String()
	case method.Exists():
		m.kind, m.method = kindNotification, method.String()
	case m.id != "" && (result.Exists() || rpcError.Exists()):
		m.kind = kindResponse
	default:
		return message{}, errors.New("neither a request, a notification nor a response")
	}
	return m, nil
}

// idKey turns an id or a progress token into a key. MCP allows strings and integers.
func idKey(v gjson.Result) (string, bool) {
	switch {
	case v.Type == gjson.String:
		return "s" + v.String(), true
	case v.Type == gjson.Number && !strings.ContainsAny(v.Raw, ".eE"):
		return "n" + v.Raw, true
	default:
		return "", false
	}
}

// progressToken is the key of the token under which a request wants to hear of its progress, or of the token in a
// notification of progress; it is empty when there is none.
func (m message) progressToken() string {
	path := "params._meta.progressToken"
	if m.kind == kindNotification {
		path = "params.progressToken"
	}
	key, _ := idKey(gjson.GetBytes(m.raw, path))
	return key
}

// cancelled is the key of the request that a notifications/cancelled names.
func (m message) cancelled() string {
	key, _ := idKey(gjson.GetBytes(m.raw, "params.requestId"))
	return key
}

// failed says whether a response reports an error.
func (m message) failed() bool { return gjson.GetBytes(m.raw, "error").Exists() }

// modern says whether a request is of a revision that has no sessions: it carries its revision in params._meta.
func (m message) modern() bool {
	v := gjson.GetBytes(m.raw, `params._meta.io\.modelcontextprotocol/protocolVersion`)
	return v.Exists() && !slices.Contains(legacyRevisions, v.String())
}

// concernsSession says whether a message from the server is about the session as a whole and never about the call that
// happens to be under way.
func (m message) concernsSession() bool {
	return strings.HasSuffix(m.method, "/list_changed") ||
		m.method == "notifications/resources/updated" ||
		m.method == "notifications/elicitation/complete"
}

// errorResponse encodes an error response. An empty rawID means that the id is unknown.
func errorResponse(rawID string, code int, text string) []byte {
	if rawID == "" {
		rawID = "null"
	}
	type rpcError struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}
	raw, err := json.Marshal(struct {
		JSONRPC string          `json:"jsonrpc"`
		ID      json.RawMessage `json:"id"`
		Error   rpcError        `json:"error"`
	}{"2.0", json.RawMessage(rawID), rpcError{code, text}})
	if err != nil { // rawID comes out of JSON that was checked
		panic(fmt.Sprintf("encoding an error response: %v", err))
	}
	return raw
}
