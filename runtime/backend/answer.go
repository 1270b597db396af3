// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
	"github.com/vmcp-dev/vmcp-operator/runtime/sse"
)

// drainPatience is how long the end of a stream is waited for once its response was read. With it the connection can be used again.
const drainPatience = time.Second

// brokenError is a stream of a call that ended before the response.
type brokenError struct {
	err error
	// lastID is where it can be taken up again; empty if it cannot.
	lastID string
	retry  time.Duration
}

func (e *brokenError) Error() string { return e.err.Error() }
func (e *brokenError) Unwrap() error { return e.err }

// answer reads the response out of an HTTP answer with a status of success. It closes the answer, sooner or later.
func (x *exchange) answer(response *http.Response) (*relay.Answer, error) {
	c := x.client
	if response.StatusCode != http.StatusOK {
		drain(response)
		return nil, c.notMCP(x.method, statusText(response.StatusCode)+" without an answer")
	}
	switch media := mediaType(response); media {
	case contentJSON:
		return x.whole(response)
	case contentStream:
		return x.stream(response)
	case "":
		drain(response)
		return nil, c.notMCP(x.method, "an answer without a content type")
	default:
		drain(response)
		return nil, c.notMCP(x.method, "content type "+quoteText(media))
	}
}

// whole reads a response that is the whole of an HTTP answer.
func (x *exchange) whole(response *http.Response) (*relay.Answer, error) {
	b := newBuffer()
	err := b.readFrom(response.Body, response.ContentLength, x.client.limits.ResponseBytes)
	_ = response.Body.Close() // read to the end, or given up
	if err != nil {
		b.release()
		return nil, x.broken(err)
	}
	b.b = bytes.TrimRight(b.b, " \t\r\n") // encoders end with a line
	m, err := rpc.Parse(b.b)
	if errors.Is(err, rpc.ErrBatch) {
		return x.batch(b)
	}
	if err != nil || !m.Kind.IsResponse() {
		problem := "JSON that is no JSON-RPC response"
		if !json.Valid(b.b) {
			problem = "malformed JSON"
		}
		b.release()
		return nil, x.client.notMCP(x.method, problem)
	}
	return x.conclude(b, m)
}

// batch picks the response out of an array of messages, which revision 2025-03-26 allows.
func (x *exchange) batch(b *buffer) (*relay.Answer, error) {
	defer b.release()
	for _, raw := range elements(b.b) {
		if answer, err := x.message(raw); answer != nil || err != nil {
			return answer, err
		}
	}
	return nil, x.client.notMCP(x.method, "a batch without the response")
}

// elements are those of a JSON array.
func elements(raw []byte) []json.RawMessage {
	var all []json.RawMessage
	if json.Unmarshal(raw, &all) != nil {
		return nil
	}
	return all
}

// message takes one message of a stream. The answer is nil unless it was the response; it holds a copy.
func (x *exchange) message(raw []byte) (*relay.Answer, error) {
	m, err := rpc.Parse(raw)
	switch {
	case errors.Is(err, rpc.ErrBatch):
		b := newBuffer()
		b.b = append(b.b, raw...)
		answer, err := x.batch(b)
		if _, none := errors.AsType[*NotMCPError](err); none {
			return nil, nil //nolint:nilnil // the response may come in another batch
		}
		return answer, err
	case err != nil:
		return nil, x.client.notMCP(x.method, "an event that is no JSON-RPC message")
	case !m.Kind.IsResponse():
		return nil, x.take(m)
	case !x.mayBeMine(m):
		return nil, nil //nolint:nilnil // the response to another request
	}
	b := newBuffer()
	b.b = append(b.b, raw...)
	m.Raw = b.b
	return x.conclude(b, m)
}

// conclude makes the answer of a response. A failure may have the id of no request, as servers answer what they could not read; a result
// of another request is not ours to pass on.
func (x *exchange) conclude(b *buffer, m rpc.Message) (*relay.Answer, error) {
	if m.Kind == rpc.Failure {
		return x.fail(b, m)
	}
	if !x.isMine(m) {
		b.release()
		return nil, x.client.notMCP(x.method, "the response to another request")
	}
	return &relay.Answer{Message: m, Era: x.era, Release: b.free}, nil
}

// fail makes the answer of an error of the backend. It keeps the credentials back if the backend quotes them, because the error goes to
// clients and into the status. Faults between the gateway and the backend come back as an error.
func (x *exchange) fail(b *buffer, m rpc.Message) (*relay.Answer, error) {
	defer b.release()
	e := parseRPCError(m.Raw)
	if e == nil {
		return nil, x.client.notMCP(x.method, "a malformed error")
	}
	if betweenUs(e.Code) {
		return nil, x.client.redacted(e)
	}
	raw := m.Raw
	if clean := x.client.redacted(e); clean != e {
		raw = clean.encode()
	}
	clean, err := rpc.Parse(withID(nil, parse(raw), x.idText))
	if err != nil {
		return nil, fmt.Errorf("encoding an error of the backend: %w", err)
	}
	return &relay.Answer{Message: clean, Era: x.era}, nil
}

// parse is Parse for what has been parsed, or made, just now, or is looked at only if it is a message: the zero Message is none.
func parse(raw []byte) rpc.Message {
	m, _ := rpc.Parse(raw)
	return m
}

// betweenUs says that an error is about how the gateway speaks to the backend, not about what the client asked.
func betweenUs(code int) bool {
	return code == CodeHeaderMismatch || code == CodeUnsupportedProtocolVersion
}

var readers = sync.Pool{New: func() any { return new(sse.Reader) }}

// stream reads events up to the response.
func (x *exchange) stream(response *http.Response) (*relay.Answer, error) {
	r := readers.Get().(*sse.Reader) //nolint:forcetypeassert // the pool holds nothing else
	r.Reset(response.Body, int(x.client.limits.ResponseBytes))
	answer, err := x.events(r)
	r.Reset(nil, 0)
	readers.Put(r)
	if answer == nil {
		_ = response.Body.Close() // a stream that is given up
		return nil, err
	}
	x.drain(response)
	return answer, nil
}

func (x *exchange) events(r *sse.Reader) (*relay.Answer, error) {
	for {
		event, err := r.Next()
		if err != nil {
			broken := x.broken(err)
			if errors.Is(broken, errTooLarge) {
				return nil, broken
			}
			return nil, &brokenError{err: broken, lastID: r.LastID(), retry: r.Retry()}
		}
		if event.Type != "" && event.Type != sse.Message {
			continue
		}
		answer, err := x.message(event.Data)
		if answer != nil || err != nil {
			return answer, err
		}
	}
}

// broken is the error of an answer that could not be read to its end.
func (x *exchange) broken(err error) error {
	switch {
	case errors.Is(err, sse.ErrTooLarge):
		err = errTooLarge
	case errors.Is(err, io.EOF):
		err = fmt.Errorf("the stream ended without an answer: %w", io.ErrUnexpectedEOF)
	}
	return x.client.httpError(http.MethodPost, x.client.url, err)
}

// drain reads a stream to its end in the background, for a moment.
func (x *exchange) drain(response *http.Response) {
	end := x.end
	x.draining = x.client.inBackground(func() {
		patience := time.AfterFunc(drainPatience, end)
		drain(response)
		patience.Stop()
		end()
	})
	if !x.draining {
		_ = response.Body.Close() // the client is closed
	}
}

// refused makes something of an answer whose status says that the request failed.
func (x *exchange) refused(response *http.Response, inSession bool) (*relay.Answer, error) {
	body := readError(response)
	status := x.client.statusError(x.method, response.StatusCode)
	if aboutCredentials(status.Status) {
		return nil, status
	}
	if inSession && x.lostSession(status.Status, body) {
		return nil, errSessionLost
	}
	if parse(body).Kind != rpc.Failure {
		status.WantsTLS = status.Status == http.StatusBadRequest && x.client.url.Scheme == "http" && speaksTLS(body)
		return nil, status
	}
	b := newBuffer()
	b.b = append(b.b, body...)
	return x.fail(b, parse(b.b))
}

// speaksTLS knows the words in which servers complain of a request without TLS: those of Go, nginx and Apache have one in common.
func speaksTLS(body []byte) bool { return bytes.Contains(body, []byte("HTTPS")) }

// parseRPCError returns the JSON-RPC error in a body, nil if there is none.
func parseRPCError(body []byte) *RPCError {
	var e struct {
		Code    int             `json:"code"`
		Message string          `json:"message"`
		Data    json.RawMessage `json:"data"`
	}
	if m := parse(body); m.Kind == rpc.Failure && json.Unmarshal(m.Body.Of(body), &e) == nil {
		return &RPCError{Code: e.Code, Message: e.Message, Data: e.Data}
	}
	return nil
}

// encode is the error as a message without an id.
func (e *RPCError) encode() []byte {
	raw, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "error": struct {
		Code    int             `json:"code"`
		Message string          `json:"message"`
		Data    json.RawMessage `json:"data,omitempty"`
	}{e.Code, e.Message, e.Data}})
	if err != nil { // Data is JSON, or nil
		return nil
	}
	return raw
}

// redacted is e without the credentials.
func (c *Client) redacted(e *RPCError) *RPCError {
	credential := c.credential()
	if credential.IsZero() {
		return e
	}
	clean := &RPCError{Code: e.Code, Message: credential.Redact(e.Message), Data: e.Data}
	if data := credential.Redact(string(e.Data)); data != string(e.Data) {
		clean.Data = json.RawMessage(data)
		if !json.Valid(clean.Data) {
			clean.Data = nil
		}
	} else if clean.Message == e.Message {
		return e
	}
	return clean
}
