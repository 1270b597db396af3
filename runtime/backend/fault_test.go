// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
)

// TestClassifyAnswers has servers that answer, with something else than MCP.
func TestClassifyAnswers(t *testing.T) {
	for name, tc := range map[string]faultCase{
		"not HTTP": {
			func(t *testing.T) string { return raw(t, "SSH-2.0-OpenSSH_9.9\r\n") },
			v1alpha1.ReasonNotMCP, "BASE/mcp does not speak HTTP",
		},
		"404 to everything": {
			func(t *testing.T) string { return serve(t, http.NotFoundHandler()) },
			v1alpha1.ReasonNotMCP,
			"BASE/mcp answered 404 Not Found to an MCP initialize request: check the path, and that an MCP server listens there",
		},
		"405": {
			answering(http.StatusMethodNotAllowed, "text/plain", ""),
			v1alpha1.ReasonNotMCP, "BASE/mcp answered 405 Method Not Allowed to an MCP initialize request",
		},
		"a web page": {
			answering(http.StatusOK, "text/html; charset=utf-8", "<html>"),
			v1alpha1.ReasonNotMCP, "something that is not MCP: content type text/html",
		},
		"other JSON": {
			answering(http.StatusOK, "application/json", `{"hello":"world"}`),
			v1alpha1.ReasonNotMCP, "JSON that is no JSON-RPC response",
		},
		"broken JSON": {
			answering(http.StatusOK, "application/json", `{"jsonrpc":"2.0","id":1,"resu`),
			v1alpha1.ReasonNotMCP, "something that is not MCP: malformed JSON",
		},
		"an error that is none": {
			answering(http.StatusOK, "application/json", `{"jsonrpc":"2.0","id":1,"error":"bad"}`),
			v1alpha1.ReasonNotMCP, "something that is not MCP: ",
		},
		"the answer to another request": {
			answering(http.StatusOK, "application/json", `{"jsonrpc":"2.0","id":4711,"result":{}}`),
			v1alpha1.ReasonNotMCP, "something that is not MCP: the response to another request",
		},
		"accepted and forgotten": {
			answering(http.StatusAccepted, "application/json", ""),
			v1alpha1.ReasonNotMCP, "202 Accepted without an answer",
		},
		"a stream without an answer": {
			answering(http.StatusOK, "text/event-stream", ": nothing\n\n"),
			v1alpha1.ReasonConnectionFailed, "closed the connection before it answered",
		},
		"401": {
			answering(http.StatusUnauthorized, "application/json", `{"error":"secret"}`),
			v1alpha1.ReasonUnauthorized, "BASE/mcp answered 401 Unauthorized to an MCP server/discover request: it wants other credentials; name an MCPExternalAuthConfig in the backend's externalAuthConfigRef, or in spec.outgoingAuth of the VirtualMCPServer",
		},
		"403": {
			answering(http.StatusForbidden, "text/plain", ""),
			v1alpha1.ReasonUnauthorized, "403 Forbidden",
		},
		"503": {
			answering(http.StatusServiceUnavailable, "text/plain", ""),
			v1alpha1.ReasonServerError, "BASE/mcp answered 503 Service Unavailable to an MCP server/discover request",
		},
		"500": { // to initialize, too
			answering(http.StatusInternalServerError, "text/plain", "secret"),
			v1alpha1.ReasonServerError, "BASE/mcp answered 500 Internal Server Error to an MCP initialize request",
		},
		"429": {
			answering(http.StatusTooManyRequests, "text/plain", ""),
			v1alpha1.ReasonServerError, "429 Too Many Requests",
		},
		"504": {
			answering(http.StatusGatewayTimeout, "text/plain", ""),
			v1alpha1.ReasonTimeout, "504 Gateway Timeout",
		},
		"JSON-RPC error": {
			answering(http.StatusOK, "application/json", `{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"out of\norder"}}`),
			v1alpha1.ReasonProtocolError, "the backend answered MCP error -32603: out of order",
		},
		"JSON-RPC error with status 400": {
			answering(http.StatusBadRequest, "application/json",
				`{"jsonrpc":"2.0","id":1,"error":{"code":-32022,"message":"Unsupported protocol version","data":{"supported":["2026-07-28"]}}}`),
			v1alpha1.ReasonProtocolError, "the backend answered MCP error -32022: Unsupported protocol version",
		},
		"revision refused to server/discover": {
			answering(http.StatusBadRequest, "application/json",
				`{"jsonrpc":"2.0","id":1,"error":{"code":-32022,"message":"Unsupported protocol version","data":{"supported":["2042-01-01"]}}}`),
			v1alpha1.ReasonUnsupportedVersion, "MCP error -32022: Unsupported protocol version; it speaks 2042-01-01",
		},
		"revision refused to initialize": {
			answering(http.StatusOK, "application/json",
				`{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"Unsupported protocol version","data":{"supported":["2042-01-01","2042-02-02"],"requested":"2025-11-25"}}}`),
			v1alpha1.ReasonUnsupportedVersion, "MCP error -32602: Unsupported protocol version; it speaks 2042-01-01, 2042-02-02",
		},
		"invalid parameters": {
			answering(http.StatusOK, "application/json", `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no","data":{"supported":"all"}}}`),
			v1alpha1.ReasonProtocolError, "the backend answered MCP error -32602: no",
		},
		"unknown revision": {
			func(t *testing.T) string {
				s := newScripted(t)
				s.version = "2042-01-01"
				return s.URL
			},
			v1alpha1.ReasonUnsupportedVersion, `"2042-01-01", which the gateway does not speak`,
		},
		"redirect to another host": {
			redirecting("http://elsewhere.invalid/mcp", http.StatusTemporaryRedirect),
			v1alpha1.ReasonRedirected, "BASE/mcp redirects to http://elsewhere.invalid/mcp, which is another host",
		},
		"redirect that loses the method": {
			redirecting("/other", http.StatusFound),
			v1alpha1.ReasonRedirected, "which turns a request into a plain GET",
		},
		"redirects without end": {
			redirecting("/mcp", http.StatusTemporaryRedirect),
			v1alpha1.ReasonRedirected, "after others before it",
		},
		"too many bytes": {
			answering(http.StatusOK, "application/json", strings.Repeat(" ", 5000)),
			v1alpha1.ReasonProtocolError, "more bytes than the gateway takes",
		},
		"too large an event": {
			answering(http.StatusOK, "text/event-stream", "data: "+strings.Repeat(" ", 5000)),
			v1alpha1.ReasonProtocolError, "more bytes than the gateway takes",
		},
	} {
		t.Run(name, func(t *testing.T) {
			base := tc.server(t)
			tc.expect(t, base, newClient(t, base+"/mcp?token=secret", v1alpha1.TransportStreamableHTTP, backend.Limits{ResponseBytes: 4096}))
		})
	}
}

// TestClassifyCredentials: who has no credentials has to name some, who has some has to see to them.
func TestClassifyCredentials(t *testing.T) {
	for name, status := range map[string]int{"401 Unauthorized": http.StatusUnauthorized, "403 Forbidden": http.StatusForbidden} {
		t.Run(name, func(t *testing.T) {
			base := answering(status, "application/json", `{"error":"`+oldValue+`"}`)(t)
			want := faultCase{reason: v1alpha1.ReasonUnauthorized, message: "BASE/mcp answered " + name +
				` to an MCP server/discover request: it refuses the credentials of MCPExternalAuthConfig "docs-token"`}
			want.expect(t, base, newAuthorizedClient(t, base+"/mcp", v1alpha1.TransportStreamableHTTP, oldValue))
			want.message = "it wants other credentials; name an MCPExternalAuthConfig in the backend's externalAuthConfigRef"
			want.expect(t, base, newClient(t, base+"/mcp", v1alpha1.TransportStreamableHTTP, backend.Limits{}))
		})
	}
}

func TestClassifySSE(t *testing.T) {
	for name, tc := range map[string]struct {
		server          func(t *testing.T) string
		reason, message string
	}{
		"nothing listens": {
			func(t *testing.T) string { return "http://" + unused(t) },
			v1alpha1.ReasonConnectionRefused, "nothing listens at",
		},
		"404 to everything": {
			func(t *testing.T) string { return serve(t, http.NotFoundHandler()) },
			v1alpha1.ReasonNotMCP, "/mcp answered 404 Not Found to an MCP initialize request",
		},
		"a web page": {
			answering(http.StatusOK, "text/html", "<html>"),
			v1alpha1.ReasonNotMCP, "content type text/html",
		},
		"401": {
			answering(http.StatusUnauthorized, "text/plain", ""),
			v1alpha1.ReasonUnauthorized, "401 Unauthorized",
		},
		"silence": {
			func(t *testing.T) string { return raw(t, "") },
			v1alpha1.ReasonTimeout, "did not answer in time",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t, tc.server(t)+"/mcp", v1alpha1.TransportSSE, backend.Limits{})
			fault := backend.Classify(docs, c.Probe(deadline(t, 300*time.Millisecond)))
			if fault.Reason != tc.reason || !strings.Contains(fault.Message, tc.message) {
				t.Errorf("got %s: %s; want %s: %s", fault.Reason, fault.Message, tc.reason, tc.message)
			}
		})
	}
}

func TestClassifyNothingAndRefused(t *testing.T) {
	if got := backend.Classify(docs, nil); got != (backend.Fault{}) {
		t.Errorf("Classify(nil) = %+v", got)
	}
	if got := backend.Classify(docs, context.Canceled); got.Reason != v1alpha1.ReasonConnectionFailed {
		t.Errorf("cancelled: %+v", got)
	}
	c := backend.NewClient(backend.Target{Key: docs, Refused: backend.Refusal{Reason: v1alpha1.ReasonInvalidSpec, Message: "no URL"}},
		backend.Options{})
	defer c.Close()
	if got := backend.Classify(docs, c.Probe(t.Context())); got.Reason != v1alpha1.ReasonInvalidSpec || got.Message != "no URL" {
		t.Errorf("refused: %+v", got)
	}
}
