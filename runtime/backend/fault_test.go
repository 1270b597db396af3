// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
)

// unused is a loopback address that nothing listens at.
func unused(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// raw answers every connection with the same bytes, which need not be HTTP; none means to say nothing at all.
func raw(t *testing.T, answer string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			buffer := make([]byte, 4096)
			_, _ = c.Read(buffer)
			if answer == "" {
				_, _ = io.Copy(io.Discard, c) // until the other side gives up
			}
			fmt.Fprint(c, answer)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return "http://" + l.Addr().String()
}

func answering(status int, contentType, body string) func(t *testing.T) string {
	return func(t *testing.T) string {
		return serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}))
	}
}

func redirecting(to string, status int) func(t *testing.T) string {
	return func(t *testing.T) string {
		return serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, status) }))
	}
}

func TestClassifyRealFailures(t *testing.T) {
	for name, tc := range map[string]struct {
		server  func(t *testing.T) string // returns a base URL
		reason  string
		message string // part of it; BASE stands for the base URL
	}{
		"nothing listens": {
			func(t *testing.T) string { return "http://" + unused(t) },
			v1alpha1.ReasonConnectionRefused, "nothing listens at BASE/mcp: connection refused",
		},
		"unknown host": {
			func(*testing.T) string { return "http://no-such-host.invalid" },
			v1alpha1.ReasonNameNotResolved, `the host name "no-such-host.invalid" is unknown`,
		},
		"silence": {
			func(t *testing.T) string { return raw(t, "") },
			v1alpha1.ReasonTimeout, "BASE/mcp did not answer in time",
		},
		"connection closed": {
			func(t *testing.T) string {
				return raw(t, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{")
			},
			v1alpha1.ReasonConnectionFailed, "BASE/mcp closed the connection before it answered",
		},
		"not HTTP": {
			func(t *testing.T) string { return raw(t, "SSH-2.0-OpenSSH_9.9\r\n") },
			v1alpha1.ReasonNotMCP, "BASE/mcp does not speak HTTP",
		},
		"untrusted certificate": {
			func(t *testing.T) string {
				s := httptest.NewUnstartedServer(http.NotFoundHandler())
				s.Config.ErrorLog = log.New(io.Discard, "", 0)
				s.StartTLS()
				t.Cleanup(s.Close)
				return s.URL
			},
			v1alpha1.ReasonTLSFailed, "the TLS handshake with BASE/mcp failed: tls: failed to verify certificate",
		},
		"https to a plain server": {
			func(t *testing.T) string {
				return strings.Replace(serve(t, http.NotFoundHandler()), "http:", "https:", 1)
			},
			v1alpha1.ReasonTLSFailed, "server gave HTTP response to HTTPS client",
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
			v1alpha1.ReasonConnectionFailed, "503 Service Unavailable",
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
			v1alpha1.ReasonProtocolError, "MCP error -32022: Unsupported protocol version",
		},
		"unknown revision": {
			func(t *testing.T) string {
				s := newScripted(t)
				s.version = "2042-01-01"
				return s.URL
			},
			v1alpha1.ReasonProtocolError, `"2042-01-01", which the gateway does not speak`,
		},
		"redirect to another host": {
			redirecting("http://elsewhere.invalid/mcp", http.StatusTemporaryRedirect),
			v1alpha1.ReasonNotMCP, "BASE/mcp redirects to http://elsewhere.invalid/mcp, which is another host",
		},
		"redirect that loses the method": {
			redirecting("/other", http.StatusFound),
			v1alpha1.ReasonNotMCP, "which turns a request into a plain GET",
		},
		"redirects without end": {
			redirecting("/mcp", http.StatusTemporaryRedirect),
			v1alpha1.ReasonNotMCP, "after others before it",
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
			u, err := url.Parse(base)
			if err != nil {
				t.Fatal(err)
			}
			c := newClient(t, base+"/mcp?token=secret", v1alpha1.TransportStreamableHTTP, backend.Limits{ResponseBytes: 4096})
			wait := 5 * time.Second
			if tc.reason == v1alpha1.ReasonTimeout && name == "silence" {
				wait = 100 * time.Millisecond
			}
			err = c.Probe(deadline(t, wait))
			if err == nil {
				t.Fatal("the probe succeeded")
			}
			fault := backend.Classify(docs, err)
			if fault.Reason != tc.reason {
				t.Errorf("reason %s, want %s (%v)", fault.Reason, tc.reason, err)
			}
			if want := strings.ReplaceAll(tc.message, "BASE", base); !strings.Contains(fault.Message, want) {
				t.Errorf("message %q does not contain %q", fault.Message, want)
			}
			if fault.Unauthorized != (tc.reason == v1alpha1.ReasonUnauthorized) {
				t.Errorf("Unauthorized = %v", fault.Unauthorized)
			}
			for _, said := range []string{fault.Message, fault.Public} {
				if strings.Contains(said, "secret") || strings.ContainsAny(said, "\r\n") {
					t.Errorf("%q quotes too much", said)
				}
			}
			if !strings.Contains(fault.Public, `"docs"`) || strings.Contains(fault.Public, u.Host) || strings.Contains(fault.Public, "://") {
				t.Errorf("public message %q", fault.Public)
			}
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
