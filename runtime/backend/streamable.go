// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
)

// resumeAttempts is how often in a row the stream of a call is taken up without anything new on it.
const resumeAttempts = 5

// streamable is the link of a session over streamable HTTP (MCP 2025-11-25, transports).
type streamable struct {
	client *Client
	hears  listener
	life   context.Context //nolint:containedctx // that of the session
	end    context.CancelFunc

	headers   atomic.Pointer[sessionHeaders]
	forgotten atomic.Bool
	stream    *notifications
	calls     calls
}

// sessionHeaders are those of the requests of a session. They are shared and never changed.
type sessionHeaders struct {
	session         string
	plain, repeated http.Header
}

func (c *Client) newStreamable(l listener) *streamable {
	s := &streamable{client: c, hears: l}
	s.life, s.end = context.WithCancel(c.life)
	s.speak("", "")
	s.stream = newNotifications(s)
	return s
}

// speak puts the session and the agreed revision on all further requests.
func (s *streamable) speak(session, version string) {
	h := s.client.baseHeader()
	if version != "" {
		h[mcp.HeaderProtocolVersion] = []string{version}
	}
	if session != "" {
		h[mcp.HeaderSessionID] = []string{session}
	}
	s.headers.Store(&sessionHeaders{session, h, replayable(h)})
}

// session is the id of the session, empty if it has none.
func (s *streamable) session() string { return s.headers.Load().session }

func (s *streamable) lost() bool               { return s.forgotten.Load() }
func (s *streamable) settled() <-chan struct{} { return s.stream.settled }

func (s *streamable) agree(version string) { s.speak(s.session(), version) }

func (s *streamable) listen() {
	if !s.client.inBackground(s.stream.run) {
		s.stream.settle()
	}
}

func (s *streamable) exchange(x *exchange) (*relay.Answer, error) {
	defer s.calls.begin(x)()
	h := s.headers.Load()
	header := h.plain
	if x.repeatable {
		header = h.repeated
	}
	response, err := s.client.do(x.ctx, http.MethodPost, s.client.url, header, x.body) //nolint:bodyclose // answer and refused close it
	if err != nil {
		return nil, err
	}
	if failed(response) {
		answer, err := x.refused(response, h.session != "")
		if errors.Is(err, errSessionLost) {
			s.forgotten.Store(true)
		}
		if x.method == methodInitialize && leaves(response) {
			_, err = resultOf(answer, err)
			return nil, &leavingError{err}
		}
		return answer, err
	}
	if x.method == methodInitialize {
		s.speak(response.Header.Get(mcp.HeaderSessionID), "")
	}
	answer, err := x.answer(response)
	if broken, ok := errors.AsType[*brokenError](err); ok && broken.lastID != "" {
		return s.resume(x, broken)
	}
	return answer, err
}

// leavingError is what a server answered to initialize that is about to end.
type leavingError struct{ error }

func (e *leavingError) Unwrap() error { return e.error }

// leaves says that a server is about to end: it takes no more, and closes the connection so that the next one leads elsewhere.
func leaves(response *http.Response) bool {
	return response.StatusCode == http.StatusServiceUnavailable && response.Close
}

// resume takes up the stream of a call that ended before the response, which a server may do on purpose (MCP 2025-11-25, transports,
// resumability).
func (s *streamable) resume(x *exchange, broken *brokenError) (*relay.Answer, error) {
	x.wait()
	for attempt := 1; ; attempt++ {
		pause := broken.retry
		if pause == 0 {
			pause = backoff(attempt) / 2
		}
		if err := wait(x.ctx, pause); err != nil {
			return nil, broken.err
		}
		response, err := s.get(x.ctx, broken.lastID)
		switch {
		case err != nil:
			if attempt == resumeAttempts {
				return nil, broken.err
			}
			continue
		case response.StatusCode != http.StatusOK || mediaType(response) != contentStream:
			return nil, s.notResumed(x, response, broken)
		}
		answer, err := x.stream(response)
		again, ok := errors.AsType[*brokenError](err)
		if !ok || attempt == resumeAttempts && again.lastID == broken.lastID {
			return answer, err
		}
		if again.lastID != "" && again.lastID != broken.lastID {
			attempt, broken.lastID = 0, again.lastID
		}
		if again.retry != 0 {
			broken.retry = again.retry
		}
	}
}

// notResumed is the error of a call whose stream is gone for good. Whether the backend has processed it nobody knows, so that only a call
// that may be repeated begins anew in another session.
func (s *streamable) notResumed(x *exchange, response *http.Response, broken *brokenError) error {
	body := readError(response)
	if s.session() != "" && forgotSession(response.StatusCode, body) {
		s.forgotten.Store(true)
		if x.repeatable && !x.relayed.Load() {
			return errSessionLost
		}
	}
	return broken.err
}

// get opens a stream; lastID is empty for a new one.
func (s *streamable) get(ctx context.Context, lastID string) (*http.Response, error) {
	h := s.client.streamHeader()
	for _, key := range []string{mcp.HeaderProtocolVersion, mcp.HeaderSessionID} {
		if values := s.headers.Load().plain[key]; values != nil {
			h[key] = values
		}
	}
	if lastID != "" {
		h.Set(mcp.HeaderLastEventID, lastID)
	}
	return s.client.do(ctx, http.MethodGet, s.client.url, h, nil)
}

func (s *streamable) post(ctx context.Context, message *payload) error {
	response, err := s.client.do(ctx, http.MethodPost, s.client.url, s.headers.Load().repeated, message)
	if err != nil {
		return err
	}
	if !failed(response) {
		drain(response)
		return nil
	}
	body := readError(response)
	if s.session() != "" && forgotSession(response.StatusCode, body) {
		s.forgotten.Store(true)
		return errSessionLost
	}
	return s.client.statusError("", response.StatusCode)
}

// close ends the session at the backend, for which nobody should wait long; a session that is lost is not mentioned any more.
func (s *streamable) close() {
	s.end()
	if s.session() == "" || s.lost() {
		return
	}
	ctx, cancel := context.WithTimeout(s.client.farewell, farewellTimeout)
	defer cancel()
	if response, err := s.client.do(ctx, http.MethodDelete, s.client.url, s.headers.Load().plain, nil); err == nil { // it is a courtesy
		drain(response)
	}
}

// wait waits for a time, or for the end of ctx, whose error it returns.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
