// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
)

const (
	maxErrorBody  = 64 << 10
	maxRedirects  = 3
	contentJSON   = "application/json"
	contentStream = "text/event-stream"
	// pingAfter is how long a connection of HTTP/2 may be silent, and pingTimeout how long the answer to a ping may take then.
	pingAfter   = 15 * time.Second
	pingTimeout = 10 * time.Second
	// idleTimeout and idleTimeoutTLS are how long a connection is kept that no request uses. The client has to be the first to close it: what it
	// sends while the server does is lost. Servers of MCP mostly run on Node.js or uvicorn, which close after 5 s; in front of one that speaks
	// TLS there mostly is a proxy, of which few keep connections for less than a minute, and a new connection costs more.
	idleTimeout    = 4 * time.Second
	idleTimeoutTLS = 55 * time.Second
	// headerReplayable, when it is there, lets net/http send a POST again whose connection broke before any answer. Without a value it
	// is not sent itself.
	headerReplayable = "Idempotency-Key"
)

// newTransport makes the connections to a backend; idle is how long one is kept that no request uses.
func newTransport(idle time.Duration) *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&dialer{net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}}).DialContext,
		ForceAttemptHTTP2:     true, // with TLS, where it is negotiated
		TLSHandshakeTimeout:   5 * time.Second,
		ExpectContinueTimeout: time.Second,
		// There is no bound on the connections in use: sessions hold streams, and a reply to a call's question must not wait for the call.
		MaxIdleConnsPerHost:    256,
		IdleConnTimeout:        idle,
		MaxResponseHeaderBytes: 256 << 10,
		// The bound on an answer is one on what is read and on what is held; and most backends are next door.
		DisableCompression: true,
		// A connection of HTTP/2 is that of all requests, and a request that times out leaves it open. One that leads nowhere any more is
		// given up when a ping is not answered; TCP by itself would take a quarter of an hour.
		HTTP2: &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
	}
}

// baseHeader is what every POST of a message carries.
func (c *Client) baseHeader() http.Header {
	return c.signed(http.Header{"Accept": {contentJSON + ", " + contentStream}, "Content-Type": {contentJSON}})
}

// streamHeader is what every GET of a stream carries.
func (c *Client) streamHeader() http.Header {
	return c.signed(http.Header{"Accept": {contentStream}, "Cache-Control": {"no-store"}})
}

// signed is h with who sends it: to the server, and to the gateways among servers.
func (c *Client) signed(h http.Header) http.Header {
	h["User-Agent"] = []string{c.agent}
	if c.id != "" {
		h[HeaderTrail] = []string{c.id}
	}
	return h
}

// replayable is h with leave to send the request again on another connection.
func replayable(h http.Header) http.Header {
	h = h.Clone()
	h[headerReplayable] = nil
	return h
}

// do sends an HTTP request, with the trail of ctx, and follows redirects within the host. What met a connection that the server had closed is
// sent again. The header is not changed. A failure comes as *url.Error.
func (c *Client) do(ctx context.Context, method string, u *url.URL, header http.Header, body *payload) (*http.Response, error) {
	if trail := trailIn(ctx); len(trail) > 0 && c.id != "" {
		header = trail.leave(header, c.id)
	}
	for hops, tries := 1, 1; ; {
		r := (&http.Request{
			Method: method, URL: u, Host: u.Host, Header: header, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		}).WithContext(ctx)
		if body != nil {
			body.attach(r)
		}
		response, err := c.transport.RoundTrip(r)
		if err != nil {
			if tries++; tries <= maxTries && closedWhileIdle(err) {
				continue
			}
			return nil, c.httpError(method, u, err)
		}
		if answered := answeredIn(ctx); answered != nil {
			answered()
		}
		location := redirect(response)
		if location == "" {
			return response, nil
		}
		drain(response)
		if u, err = follow(r, response.StatusCode, location, hops); err != nil {
			return nil, err
		}
		hops++
	}
}

// closedWhileIdle says that the server had closed a connection before the request was begun on it. net/http has no type for that, and by itself
// sends only what may be sent twice again.
func closedWhileIdle(err error) bool {
	return strings.HasSuffix(err.Error(), "http: server closed idle connection")
}

// httpError says at which address something failed; Classify looks for it.
func (c *Client) httpError(method string, u *url.URL, err error) error {
	if record, ok := errors.AsType[tls.RecordHeaderError](err); ok && string(record.RecordHeader[:]) == "HTTP/" {
		err = http.ErrSchemeMismatch // as net/http's Client puts it
	}
	return &url.Error{Op: method[:1] + strings.ToLower(method[1:]), URL: u.Redacted(), Err: err}
}

func redirect(response *http.Response) string {
	switch response.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return response.Header.Get("Location")
	default:
		return ""
	}
}

// follow resolves a redirect within the host that loses neither the method nor TLS. Anything else needs a new URL in the backend's
// definition: requests may carry credentials, and a POST that became a GET is no MCP.
func follow(from *http.Request, status int, location string, hops int) (*url.URL, error) {
	to, err := from.URL.Parse(location)
	if err != nil {
		return nil, &redirectError{Endpoint: endpoint(from.URL), Problem: "redirects to something that is no URL"}
	}
	keepsMethod := status == http.StatusTemporaryRedirect || status == http.StatusPermanentRedirect || from.Method == http.MethodGet
	why := ""
	switch {
	case to.Hostname() != from.URL.Hostname():
		why = "which is another host"
	case from.URL.Scheme == "https" && to.Scheme != "https":
		why = "which is not encrypted"
	case to.Scheme == from.URL.Scheme && to.Port() != from.URL.Port():
		why = "which is another port"
	case !keepsMethod:
		why = "which turns a request into a plain GET"
	case hops > maxRedirects:
		why = "after others before it"
	default:
		return to, nil
	}
	return nil, &redirectError{Endpoint: endpoint(from.URL), Problem: fmt.Sprintf(
		"redirects to %s, %s; name the final address in the backend's definition", quoteText(endpoint(to)), why)}
}

// failed says that an answer has no status of success.
func failed(response *http.Response) bool {
	return response.StatusCode < 200 || response.StatusCode > 299
}

// aboutCredentials says that a status speaks of credentials.
func aboutCredentials(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden
}

// readError takes what a failing answer says, as far as that can be read.
func readError(response *http.Response) []byte {
	body, _ := io.ReadAll(io.LimitReader(response.Body, maxErrorBody))
	_ = response.Body.Close()
	return body
}

// statusError is the error of an answer that says nothing but its status.
func (c *Client) statusError(method string, status int) *StatusError {
	return &StatusError{Endpoint: endpoint(c.url), Method: method, Status: status, AuthConfig: c.target.Auth.Config}
}

func (c *Client) notMCP(method, problem string) *NotMCPError {
	return &NotMCPError{Endpoint: endpoint(c.url), Method: method, Problem: problem}
}

// mediaType is the content type without parameters.
func mediaType(response *http.Response) string {
	switch value := response.Header.Get("Content-Type"); value {
	case contentJSON, contentStream: // nothing to parse
		return value
	default:
		media, _, _ := mime.ParseMediaType(value)
		return media
	}
}

// forgotSession reads the answer to a request that named a session. 404 is the specification's word for a session that is gone (MCP
// 2025-11-25, transports, session management); servers built on older SDKs say 400 and a sentence. A 404 to an unknown method is
// one of the modern era; some legacy servers have it, too.
func forgotSession(status int, body []byte) bool {
	switch status {
	case http.StatusNotFound:
		e := parseRPCError(body)
		return e == nil || e.Code != mcp.METHOD_NOT_FOUND
	case http.StatusBadRequest:
		text := strings.ToLower(string(body))
		return strings.Contains(text, "session") || strings.Contains(text, "not initialized")
	default:
		return false
	}
}

// Words about the session itself, and not about one of the application's, as a browser's: they come first in what a transport says.
var (
	aboutSession   = regexp.MustCompile(`^(?:(?:bad request|not found): )?(?:(?:the|this|invalid|unknown|expired|missing|no|valid|or|mcp) )*(?:mcp-)?session\b`)
	aboutSessionID = regexp.MustCompile(`\bsession(?:[- ]id\b| not found)`)
	aboutHandshake = regexp.MustCompile(`^(?:bad request: )?(?:server|session) not initialized`)
)

// lostSession is forgotSession for a request that has an id. Transports refuse a session before they look at the request: they answer in
// plain text, or with an error without that id (the TypeScript SDK: null, the Python SDK: "server-error"). An error with the id is the
// answer to the request, whatever the status, and what was answered is not sent again. But some servers, this gateway among them, put the
// id into the refusal. Those are told apart by a code that is no method's own, and by what they say: with 404, which is meant for that,
// about the session; with 400 about its id or the handshake.
func (x *exchange) lostSession(status int, body []byte) bool {
	if !forgotSession(status, body) {
		return false
	}
	m := parse(body)
	if m.Kind != rpc.Failure || !x.isMine(m) {
		return true
	}
	e := parseRPCError(body)
	if e == nil || !ofTransport(e.Code) {
		return false
	}
	text := strings.ToLower(e.Message)
	return aboutHandshake.MatchString(text) ||
		aboutSession.MatchString(text) && (status == http.StatusNotFound || aboutSessionID.MatchString(text))
}

// ofTransport says that an error with this code can be about the session: an invalid request, or one that servers define themselves
// (JSON-RPC 2.0, section 5.1).
func ofTransport(code int) bool {
	return code == mcp.INVALID_REQUEST || code >= -32099 && code <= -32000 && code != CodeResourceNotFound
}

func drain(response *http.Response) {
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, maxErrorBody)) // so that the connection can be used again
	_ = response.Body.Close()
}
