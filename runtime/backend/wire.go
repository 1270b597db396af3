// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/tidwall/gjson"
)

// Bounds of what a wire does on its own.
const (
	maxErrorBody   = 64 << 10
	maxRedirects   = 3
	streamBackoff  = time.Second
	maxBackoff     = time.Minute
	stableStream   = 30 * time.Second
	contentJSON    = "application/json"
	contentStream  = "text/event-stream"
	headerSession  = "Mcp-Session-Id"
	headerProtocol = mcp.HeaderProtocolVersion
)

// wire is the http.RoundTripper of one session. It stands under mcp-go's transports, which take an answer's status for
// something else or drop its body (any 404 is "session terminated", any other 4xx to initialize "a legacy SSE server"), and
// turns answers into this package's errors before they get there. It bounds what an answer may hold, and paces the stream of
// notifications, which mcp-go would open every second.
type wire struct {
	base  http.RoundTripper
	limit int64
	sse   bool
	// authConfig names the MCPExternalAuthConfig whose credentials base sends, if any.
	authConfig string
	// gatewayID is what the gateway adds to the trail of requests.
	gatewayID string
	// onOpen is called when the stream of notifications opened, and whether it had been open before.
	onOpen func(again bool)

	// lost is set when the backend no longer knows the session.
	lost atomic.Bool
	// address is what may be shown of the URL last requested.
	address atomic.Pointer[string]

	established chan struct{} // closed when the handshake is over
	version     string        // written before established is closed

	settled     chan struct{} // closed when the stream first opened or was refused
	settledOnce sync.Once

	// The stream is opened by one goroutine only; nothing guards its fields.
	opened   bool
	openedAt time.Time
	failures int
}

func newWire(base http.RoundTripper, limit int64, sse bool) *wire {
	return &wire{base: base, limit: limit, sse: sse, established: make(chan struct{}), settled: make(chan struct{})}
}

// establish lets the stream of notifications open, at the revision that was agreed.
func (w *wire) establish(version string) {
	w.version = version
	close(w.established)
}

func (w *wire) endpoint() string {
	if a := w.address.Load(); a != nil {
		return *a
	}
	return "the backend"
}

// RoundTrip implements http.RoundTripper.
func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	shown := endpoint(r.URL)
	w.address.Store(&shown)
	r = leaveTrail(r, w.gatewayID)
	call, _ := r.Context().Value(exchangeKey{}).(*exchange)
	switch {
	case r.Method == http.MethodDelete:
		return w.delete(r)
	case r.Method == http.MethodGet && w.sse:
		return w.eventStream(r, call)
	case r.Method == http.MethodGet && r.Header.Get("Last-Event-Id") == "":
		return w.notifications(r)
	case r.Method == http.MethodGet:
		return w.resume(r, call)
	default:
		return w.post(r, call)
	}
}

// delete ends the session, for which nobody should wait long; a session that is lost already is not mentioned any more.
func (w *wire) delete(r *http.Request) (*http.Response, error) {
	if w.lost.Load() {
		return nil, errSessionLost
	}
	ctx, cancel := context.WithTimeout(r.Context(), closeTimeout)
	defer cancel()
	response, err := w.base.RoundTrip(r.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	drain(response)
	response.Body = http.NoBody
	return response, nil
}

// post sends a message. A request of ours is recognised by its exchange.
func (w *wire) post(r *http.Request, call *exchange) (*http.Response, error) {
	response, err := w.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if isRedirect(response) {
		return response, nil
	}
	if response.StatusCode < 200 || response.StatusCode >= 300 {
		return nil, w.refusal(r, response, call)
	}
	if call == nil || w.sse {
		return w.bounded(response), nil
	}
	return w.answer(response, r, call)
}

// answer lets JSON-RPC pass, whole or as a stream of events.
func (w *wire) answer(response *http.Response, r *http.Request, call *exchange) (*http.Response, error) {
	wrong := func(problem string) error {
		drain(response)
		return &NotMCPError{Endpoint: endpoint(r.URL), Method: call.method, Problem: problem}
	}
	if response.StatusCode != http.StatusOK {
		return nil, wrong(statusText(response.StatusCode) + " without an answer")
	}
	switch media, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")); media {
	case contentStream:
		response.Body = newEventBody(response.Body, w.limit, call)
		return response, nil
	case contentJSON:
		body, err := readLimited(response.Body, w.limit)
		_ = response.Body.Close() // read to the end, or given up
		if err != nil {
			return nil, fmt.Errorf("reading the answer: %w", err)
		}
		if !isResponse(body) {
			return nil, wrong("JSON that is no JSON-RPC response")
		}
		response.Body = io.NopCloser(bytes.NewReader(body))
		return response, nil
	case "":
		return nil, wrong("an answer without a content type")
	default:
		return nil, wrong("content type " + quoteText(media))
	}
}

// refusal is the error that an answer with a failing status stands for.
func (w *wire) refusal(r *http.Request, response *http.Response, call *exchange) error {
	body, _ := io.ReadAll(io.LimitReader(response.Body, maxErrorBody)) // what could be read has to do
	_ = response.Body.Close()
	status := &StatusError{Endpoint: endpoint(r.URL), Status: response.StatusCode, AuthConfig: w.authConfig}
	if call != nil {
		status.Method = call.method
	}
	if response.StatusCode == http.StatusUnauthorized || response.StatusCode == http.StatusForbidden {
		return status
	}
	inSession := r.Header.Get(headerSession) != "" || w.sse && r.Method == http.MethodPost // there the URL names the session
	if inSession && forgotSession(response.StatusCode, body) {
		w.lost.Store(true)
		return errSessionLost
	}
	if e := parseRPCError(body); e != nil {
		return e
	}
	return status
}

// forgotSession reads the answer to a request that named a session. 404 is the specification's word for a session that is
// gone (MCP 2025-11-25, transports, session management); servers built on older SDKs say 400 and a sentence.
func forgotSession(status int, body []byte) bool {
	if status == http.StatusNotFound {
		return true
	}
	if status != http.StatusBadRequest {
		return false
	}
	text := strings.ToLower(string(body))
	return strings.Contains(text, "session") || strings.Contains(text, "not initialized")
}

// eventStream opens the one stream of the HTTP+SSE transport.
func (w *wire) eventStream(r *http.Request, call *exchange) (*http.Response, error) {
	response, err := w.base.RoundTrip(r)
	if err != nil {
		if call != nil {
			call.breakOff(&url.Error{Op: "Get", URL: r.URL.String(), Err: err})
		}
		return nil, err
	}
	switch media, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")); {
	case isRedirect(response):
		return response, nil
	case response.StatusCode != http.StatusOK:
		return nil, w.refusal(r, response, call)
	case media != contentStream:
		drain(response)
		return nil, &NotMCPError{Endpoint: endpoint(r.URL), Method: methodInitialize, Problem: "content type " + quoteText(media)}
	}
	response.Body = newEventBody(response.Body, w.limit, nil)
	return response, nil
}

// resume reopens the stream of one call that the server ended before the answer.
func (w *wire) resume(r *http.Request, call *exchange) (*http.Response, error) {
	response, err := w.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, w.refusal(r, response, call)
	}
	response.Body = newEventBody(response.Body, w.limit, call)
	return response, nil
}

// notifications opens the stream of what belongs to no call, after a pause if the last one failed or soon ended. A server
// that does not offer it gets 405 put into its mouth, on which mcp-go stops asking.
func (w *wire) notifications(r *http.Request) (*http.Response, error) {
	if err := w.pace(r.Context()); err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Header.Set(headerProtocol, w.version)
	response, err := w.base.RoundTrip(r)
	if err != nil {
		w.failures++
		return nil, err
	}
	media, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	switch {
	case response.StatusCode == http.StatusOK && media == contentStream:
		again := w.opened
		w.opened, w.openedAt = true, time.Now()
		response.Body = newEventBody(response.Body, w.limit, nil)
		w.onOpen(again)
		w.settle()
		return response, nil
	case response.StatusCode >= 500, response.StatusCode == http.StatusTooManyRequests:
		w.failures++
		drain(response)
		return nil, &StatusError{Endpoint: endpoint(r.URL), Status: response.StatusCode}
	case response.StatusCode == http.StatusNotFound && w.opened:
		w.lost.Store(true)
	}
	drain(response)
	w.settle()
	return &http.Response{
		Status: "405 Method Not Allowed", StatusCode: http.StatusMethodNotAllowed, Proto: response.Proto,
		Header: http.Header{}, Body: http.NoBody, Request: r,
	}, nil
}

func (w *wire) settle() { w.settledOnce.Do(func() { close(w.settled) }) }

// pace waits for the end of the handshake, then for as long as the stream's history asks for.
func (w *wire) pace(ctx context.Context) error {
	select {
	case <-w.established:
	case <-ctx.Done():
		return ctx.Err()
	}
	if !w.openedAt.IsZero() {
		if time.Since(w.openedAt) < stableStream {
			w.failures++
		} else {
			w.failures = 0
		}
		w.openedAt = time.Time{}
	}
	if w.failures == 0 {
		return nil
	}
	pause := time.NewTimer(backoff(w.failures))
	defer pause.Stop()
	select {
	case <-pause.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// backoff doubles with every failure up to a minute; half of it is random, so that gateways do not come back in step.
func backoff(failures int) time.Duration {
	whole := min(streamBackoff<<min(failures-1, 10), maxBackoff)
	return whole/2 + rand.N(whole/2) //nolint:gosec // G404: jitter is no secret
}

func (w *wire) bounded(response *http.Response) *http.Response {
	response.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(response.Body, maxErrorBody), response.Body}
	return response
}

// checkRedirect follows a redirect within the host, without losing the method or TLS. Anything else needs a new URL in the
// backend's definition: requests may carry credentials, and a POST that became a GET is no MCP.
func checkRedirect(r *http.Request, via []*http.Request) error {
	from := via[len(via)-1]
	refuse := func(why string) error {
		return &redirectError{Endpoint: endpoint(from.URL), Problem: fmt.Sprintf("redirects to %s, %s; name the final address in the backend's definition",
			quoteText(endpoint(r.URL)), why)}
	}
	switch {
	case r.URL.Hostname() != from.URL.Hostname():
		return refuse("which is another host")
	case from.URL.Scheme == "https" && r.URL.Scheme != "https":
		return refuse("which is not encrypted")
	case r.URL.Scheme == from.URL.Scheme && r.URL.Port() != from.URL.Port():
		return refuse("which is another port")
	case r.Method != from.Method:
		return refuse("which turns a request into a plain " + r.Method)
	case len(via) > maxRedirects:
		return refuse("after others before it")
	}
	return nil
}

func isRedirect(response *http.Response) bool {
	switch response.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return response.Header.Get("Location") != ""
	}
	return false
}

// isResponse says whether a message is a JSON-RPC response.
func isResponse(message []byte) bool {
	if !gjson.ValidBytes(message) {
		return false
	}
	m := gjson.ParseBytes(message)
	return m.IsObject() && !m.Get("method").Exists() && m.Get("id").Exists() && (m.Get("result").Exists() || m.Get("error").Exists())
}

// parseRPCError returns the JSON-RPC error in a body, nil if there is none.
func parseRPCError(body []byte) *RPCError {
	var message struct {
		JSONRPC string `json:"jsonrpc"`
		Error   *struct {
			Code    int             `json:"code"`
			Message string          `json:"message"`
			Data    json.RawMessage `json:"data"`
		} `json:"error"`
	}
	if err := json.Unmarshal(body, &message); err == nil && message.JSONRPC == mcp.JSONRPC_VERSION && message.Error != nil {
		return &RPCError{Code: message.Error.Code, Message: message.Error.Message, Data: message.Error.Data}
	}
	return nil
}

func readLimited(r io.Reader, limit int64) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(body)) > limit {
		err = errTooLarge
	}
	return body, err
}

func drain(response *http.Response) {
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, maxErrorBody)) // so that the connection can be used again
	_ = response.Body.Close()
}
