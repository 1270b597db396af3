// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Headers of MCP's streamable HTTP transport (2025-11-25, basic/transports).
const (
	headerSession = "Mcp-Session-Id"
	headerVersion = "MCP-Protocol-Version"
)

const (
	// readTimeout bounds the reading of a body.
	readTimeout = time.Minute
	// writeTimeout bounds each write to a client, in place of a bound on the whole answer: streams have no end.
	writeTimeout = 30 * time.Second
)

// ServeHTTP serves the endpoint.
func (b *Bridge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// The connection may carry the deadline of the last write to it.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // not supported: there is none
	b.parting(w)
	switch {
	case r.Header.Get("Origin") != "":
		// The bridge is called by gateways in the cluster. A page in a browser has no business here, whatever its origin.
		http.Error(w, "requests from browsers are not allowed", http.StatusForbidden)
	case r.URL.Path != b.options.Path:
		http.NotFound(w, r)
	case r.Method == http.MethodPost:
		b.post(w, r)
	case r.Method == http.MethodGet && legacyVersion(r):
		b.get(w, r)
	case r.Method == http.MethodDelete && legacyVersion(r):
		b.delete(w, r)
	default:
		w.Header().Set("Allow", "POST, GET, DELETE")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
	}
}

// parting tells clients to come back by another connection, once the bridge is about to end.
func (b *Bridge) parting(w http.ResponseWriter) {
	if b.retired.Load() {
		w.Header().Set("Connection", "close")
	}
}

// legacyVersion says whether the revision that a request names, if any, has sessions.
func legacyVersion(r *http.Request) bool {
	v := r.Header.Get(headerVersion)
	return v == "" || slices.Contains(legacyRevisions, v)
}

func (b *Bridge) post(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(readTimeout)) // not supported: no bound
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(b.options.MaxMessageBytes)))
	_ = control.SetReadDeadline(time.Time{})
	if err != nil {
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			http.Error(w, fmt.Sprintf("a message has at most %d bytes", tooLarge.Limit), http.StatusRequestEntityTooLarge)
			return
		}
		http.Error(w, "the body could not be read", http.StatusBadRequest)
		return
	}
	m, err := parseMessage(body)
	switch {
	case errors.Is(err, errNotJSON):
		refuse(w, http.StatusBadRequest, m, codeParseError, err.Error())
		return
	case err != nil:
		refuse(w, http.StatusBadRequest, m, codeInvalidRequest, err.Error())
		return
	case m.modern() || !legacyVersion(r):
		// No error of a modern server, so that a client that tries the modern revision first goes on with initialize.
		refuse(w, http.StatusBadRequest, m, codeInvalidRequest, fmt.Sprintf(
			"this server speaks revisions of MCP before %s; begin with initialize", firstModernRevision))
		return
	}

	id := r.Header.Get(headerSession)
	s, found := b.session(id)
	switch {
	case found && m.method == "initialize":
		refuse(w, http.StatusBadRequest, m, codeInvalidRequest, "the session is initialized already")
	case found:
		s.enter()
		defer s.leave()
		b.message(w, r, s, m)
	case m.method == "initialize" && m.kind == kindRequest: // whatever session the client may have had
		b.initialize(w, r, m)
	case id == "":
		refuse(w, http.StatusBadRequest, m, codeInvalidRequest, "the header "+headerSession+" is missing; begin with initialize")
	default:
		unknownSession(w)
	}
}

// initialize opens a session. The header with its id precedes the answer; if there is none, or an error, there is no
// session either.
func (b *Bridge) initialize(w http.ResponseWriter, r *http.Request, m message) {
	s, err := b.open()
	switch {
	case errors.Is(err, errTooManySessions), errors.Is(err, errClosed):
		refuseSession(w, m, err)
		return
	case err != nil:
		b.options.Logger.Error("Session not started", "error", err.Error())
		refuse(w, http.StatusInternalServerError, m, codeInternalError, err.Error())
		return
	}
	s.enter()
	defer s.leave()
	ctx, cancel := context.WithTimeout(r.Context(), b.options.InitializeTimeout)
	defer cancel()
	c, err := s.begin(ctx.Done(), m, false)
	if err == nil {
		select {
		case raw := <-c.response:
			if answer, err := parseMessage(raw); err == nil && !answer.failed() {
				w.Header().Set(headerSession, s.id)
			} else {
				s.end(errNotStarted)
			}
			writeJSON(w, http.StatusOK, raw)
			return
		case <-ctx.Done():
			err = fmt.Errorf("the MCP server did not answer initialize within %s", b.options.InitializeTimeout)
		}
	}
	if r.Context().Err() != nil {
		s.end(errNotDelivered)
		return
	}
	s.end(err)
	if errors.Is(err, errClosed) {
		refuseSession(w, m, err)
		return
	}
	refuse(w, http.StatusOK, m, codeInternalError, err.Error())
}

// message relays a message of a session.
func (b *Bridge) message(w http.ResponseWriter, r *http.Request, s *session, m message) {
	if m.kind != kindRequest {
		ctx, cancel := context.WithTimeout(r.Context(), writeTimeout)
		defer cancel()
		if err := s.send(ctx.Done(), m.raw); err != nil {
			refuseSend(w, m, err)
			return
		}
		if m.method == "notifications/cancelled" {
			// The server need not answer any more (2025-11-25, basic/utilities/cancellation); the HTTP request has to end.
			s.answer(m.cancelled(), "the client cancelled the request")
		}
		w.WriteHeader(http.StatusAccepted)
		return
	}
	c, err := s.begin(r.Context().Done(), m, accepts(r, "text/event-stream"))
	if err != nil {
		refuseSend(w, m, err)
		return
	}
	b.relay(w, r, s, c)
}

// relay writes the answer to a call: JSON when the response comes first, otherwise an event stream.
func (b *Bridge) relay(w http.ResponseWriter, r *http.Request, s *session, c *call) {
	defer s.abandon(c)
	var events *eventStream
	quiet := time.NewTicker(b.options.KeepAlive)
	defer quiet.Stop()
	for {
		var err error
		select {
		case <-r.Context().Done():
			return
		case raw := <-c.response:
			if _, waiting := c.messages.peek(); events == nil && !waiting {
				b.parting(w)
				writeJSON(w, http.StatusOK, raw)
				return
			}
			events = events.orNew(w)
			if events.drain(c.messages) == nil {
				_ = events.message(raw) // the client is gone, and its call over
			}
			return
		case <-c.messages.wake:
			events = events.orNew(w)
			err = events.drain(c.messages)
		case <-quiet.C:
			if events != nil {
				err = events.comment()
			}
		}
		if err != nil {
			return
		}
	}
}

// get serves the stream for messages that belong to no call. There is one per session.
func (b *Bridge) get(w http.ResponseWriter, r *http.Request) {
	s, ok := b.known(w, r)
	if !ok {
		return
	}
	if !accepts(r, "text/event-stream") {
		http.Error(w, "Accept must include text/event-stream", http.StatusNotAcceptable)
		return
	}
	if !s.claimStream() {
		http.Error(w, "the session has a stream already", http.StatusConflict)
		return
	}
	defer s.releaseStream()
	s.enter()
	defer s.leave()

	events := newEventStream(w)
	quiet := time.NewTicker(b.options.KeepAlive)
	defer quiet.Stop()
	err := events.drain(s.stream)
	for err == nil {
		select {
		case <-r.Context().Done():
			return
		case <-s.ending:
			return
		case <-s.stream.wake:
			err = events.drain(s.stream)
		case <-quiet.C:
			err = events.comment()
		}
	}
}

// delete ends a session, and answers when its process is gone.
func (b *Bridge) delete(w http.ResponseWriter, r *http.Request) {
	s, ok := b.known(w, r)
	if !ok {
		return
	}
	s.end(errDeleted)
	select {
	case <-s.ended:
	case <-r.Context().Done():
	}
	w.WriteHeader(http.StatusNoContent)
}

// known finds the session that a request names, or answers that there is none.
func (b *Bridge) known(w http.ResponseWriter, r *http.Request) (*session, bool) {
	id := r.Header.Get(headerSession)
	if id == "" {
		http.Error(w, "the header "+headerSession+" is missing", http.StatusBadRequest)
		return nil, false
	}
	s, ok := b.session(id)
	if !ok {
		unknownSession(w)
	}
	return s, ok
}

// unknownSession answers in plain text: clients take 404 for the end of the session only when the body is no MCP error.
func unknownSession(w http.ResponseWriter) {
	http.Error(w, "session not found; begin with initialize", http.StatusNotFound)
}

// refuseSession answers initialize when there is no room for a session.
func refuseSession(w http.ResponseWriter, m message, err error) {
	w.Header().Set("Retry-After", "5")
	refuse(w, http.StatusServiceUnavailable, m, codeInternalError, err.Error())
}

func refuseSend(w http.ResponseWriter, m message, err error) {
	switch {
	case errors.Is(err, errSessionEnded), errors.Is(err, errClosed):
		unknownSession(w)
	case errors.Is(err, errDuplicateID):
		refuse(w, http.StatusBadRequest, m, codeInvalidRequest, err.Error())
	case errors.Is(err, errTooManyCalls):
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusTooManyRequests, m, codeInternalError, err.Error())
	default:
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusServiceUnavailable, m, codeInternalError, err.Error())
	}
}

// refuse answers a message with an error of the bridge.
func refuse(w http.ResponseWriter, status int, m message, code int, text string) {
	rawID := m.rawID
	if m.kind == kindResponse {
		rawID = "" // the id is the server's
	}
	writeJSON(w, status, errorResponse(rawID, code, text))
}

func writeJSON(w http.ResponseWriter, status int, raw []byte) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout)) // not supported: no bound
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(raw) // an error means that the client is gone
}

// accepts says whether the client takes a media type. A missing header means anything (RFC 9110, section 12.5.1).
func accepts(r *http.Request, mediaType string) bool {
	values := r.Header.Values("Accept")
	if len(values) == 0 {
		return true
	}
	group, _, _ := strings.Cut(mediaType, "/")
	for _, value := range values {
		for part := range strings.SplitSeq(value, ",") {
			name, _, _ := strings.Cut(part, ";")
			switch strings.ToLower(strings.TrimSpace(name)) {
			case mediaType, group + "/*", "*/*":
				return true
			}
		}
	}
	return false
}
