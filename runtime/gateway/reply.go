// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"encoding/json"
	"mime"
	"net/http"
	"strings"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/tidwall/gjson"
	"github.com/tidwall/sjson"

	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
)

// pathServerInfo leads sjson and gjson to the gateway's own identity in a result; the dot in the key is escaped.
var pathServerInfo = "_meta." + strings.ReplaceAll(mcp.MetaKeyServerInfo, ".", `\.`)

// answer puts what the exchange came to into the message with which mcp-go answers. Messages other than the response, and
// responses that mcp-go made by itself, come back as they are.
func (x *exchange) answer(message []byte) []byte {
	m := gjson.ParseBytes(message)
	if !m.IsObject() || m.Get("method").Exists() {
		return message
	}
	field, isList := listFields[x.method]
	switch {
	case x.err != nil:
		return errorMessage(m.Get("id").Raw, x.err)
	case !m.Get("result").Exists():
		return message
	case x.result != nil:
		return setRaw(message, "result", x.decorated(m.Get("result")))
	case isList && x.cursor != "":
		// Lists come whole; the gateway never gave a cursor.
		return errorMessage(m.Get("id").Raw, x.fail(backend.CodeInvalidParams, "unknown cursor"))
	case isList:
		return setRaw(message, "result."+field, x.serving.lists[x.method])
	}
	return message
}

// decorated is the backend's result. For a client of revision 2026-07-28 it carries what that revision wants of every result,
// in the gateway's name, which mcp-go has put into its own.
func (x *exchange) decorated(own gjson.Result) json.RawMessage {
	result := x.result
	if !x.modern {
		return result
	}
	for _, field := range []string{"resultType", "ttlMs", "cacheScope", pathServerInfo} {
		if value := own.Get(field); value.Exists() {
			result = setRaw(result, field, json.RawMessage(value.Raw))
		}
	}
	return result
}

func (x *exchange) fail(code int, message string) *backend.RPCError {
	x.err = &backend.RPCError{Code: code, Message: message}
	return x.err
}

// status is the HTTP status of the answer (MCP 2026-07-28, transports and error codes): earlier revisions have JSON-RPC
// errors with 200.
func (x *exchange) status(status int) int {
	if x.err == nil || !x.modern {
		return status
	}
	switch x.err.Code {
	case backend.CodeMethodNotFound:
		return http.StatusNotFound
	case backend.CodeInvalidParams, mcp.INVALID_REQUEST, mcp.PARSE_ERROR, mcp.MISSING_REQUIRED_CLIENT_CAPABILITY:
		return http.StatusBadRequest
	}
	return http.StatusOK
}

func errorMessage(id string, e *backend.RPCError) []byte {
	if id == "" {
		id = "null"
	}
	details := map[string]any{"code": e.Code, "message": e.Message}
	if len(e.Data) > 0 {
		details["data"] = e.Data
	}
	return encodeAny(map[string]any{"jsonrpc": mcp.JSONRPC_VERSION, "id": json.RawMessage(id), "error": details})
}

// setRaw sets a field of a JSON object. It cannot fail on an object that is valid JSON, and the paths are ours.
func setRaw(object []byte, path string, value json.RawMessage) []byte {
	set, err := sjson.SetRawBytes(object, path, value)
	if err != nil {
		panic(err)
	}
	return set
}

// replyWriter passes an answer of mcp-go on, with the exchange's outcome put in. mcp-go writes a JSON answer in one piece. It
// answers with a stream only to subscriptions/listen, which no outcome concerns.
type replyWriter struct {
	http.ResponseWriter
	exchange *exchange

	status  int
	started bool
}

// WriteHeader holds the status back until it is known what is written.
func (w *replyWriter) WriteHeader(status int) {
	w.status = status
	if w.mediaType() == "text/event-stream" {
		w.Header().Set("X-Accel-Buffering", "no")
		w.start(status)
	}
}

// Write implements http.ResponseWriter.
func (w *replyWriter) Write(p []byte) (int, error) {
	out := p
	if !w.started && w.mediaType() == "application/json" {
		out = append(w.exchange.answer(bytes.TrimRight(p, "\n")), '\n')
		w.status = w.exchange.status(max(w.status, http.StatusOK))
	}
	w.start(w.status)
	if _, err := w.ResponseWriter.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Flush implements http.Flusher.
func (w *replyWriter) Flush() {
	if w.started {
		_ = http.NewResponseController(w.ResponseWriter).Flush() // fails where nothing can be flushed
	}
}

// Unwrap lets http.ResponseController reach the connection.
func (w *replyWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// finish sends the status of an answer without a body.
func (w *replyWriter) finish() {
	if w.status != 0 {
		w.start(w.status)
	}
}

func (w *replyWriter) start(status int) {
	if !w.started {
		w.started = true
		w.ResponseWriter.WriteHeader(max(status, http.StatusOK))
	}
}

func (w *replyWriter) mediaType() string {
	media, _, _ := mime.ParseMediaType(w.Header().Get("Content-Type"))
	return media
}
