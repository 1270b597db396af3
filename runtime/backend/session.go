// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
)

// reopenAttempts is how often in a row a session is opened anew for the sake of its subscriptions.
const reopenAttempts = 10

// maxTries is how often a request is sent at most. While a pod takes over from another it may meet both in turn, and neither knows the other's
// sessions.
const maxTries = 3

// session is what one client has at the backend, or, the service session, what all clients without one share. With a backend of the legacy
// era there is an initialized session behind it once it is used.
type session struct {
	client *Client
	relay.SessionOptions
	// shared marks the service session, over which the gateway also hears of changes.
	shared bool

	// opening is held while a session of the backend is opened. It is a channel so that waiting for it ends with the caller's context.
	opening chan struct{}

	mu      sync.Mutex // guards the fields below
	current *legacy
	began   bool // there was a session before
	closed  bool
	listens bool // somebody does
	level   string
	// uris are the resources subscribed to. The function ends the subscription at a modern backend; it is nil if a session has it.
	uris map[string]context.CancelFunc
	// lapsed are those of uris that the session before had, and the present one lacks.
	lapsed map[string]struct{}
}

// NewSession implements relay.Upstream.
func (c *Client) NewSession(o relay.SessionOptions) relay.Session { return c.newSession(o) }

func (c *Client) newSession(o relay.SessionOptions) *session {
	return &session{client: c, SessionOptions: o, opening: make(chan struct{}, 1), listens: o.OnNotification != nil && !o.Quiet}
}

// Exchange implements relay.Upstream: over the service session, where the backend's era has sessions.
func (c *Client) Exchange(ctx context.Context, r *relay.Request, sink relay.Sink) (*relay.Answer, error) {
	return c.service.Exchange(ctx, r, sink)
}

// Exchange implements relay.Session. What the backend provably did not process is sent again, after what was wrong has been set right:
// a session that it forgot, or an era that it no longer speaks.
func (s *session) Exchange(ctx context.Context, r *relay.Request, sink relay.Sink) (*relay.Answer, error) {
	answer, again, err := s.try(ctx, r, sink)
	for tries := 1; again && tries < maxTries; tries++ {
		answer.Done()
		answer, again, err = s.try(ctx, r, sink)
	}
	return answer, err
}

// try sends a request once. again says that it can be sent once more, to some purpose.
func (s *session) try(ctx context.Context, r *relay.Request, sink relay.Sink) (answer *relay.Answer, again bool, err error) {
	c := s.client
	if c.target.Refused != (Refusal{}) {
		return nil, false, &refusedError{c.target.Refused}
	}
	v, err := c.era(ctx)
	if err != nil {
		return nil, false, err
	}
	if v.era == relay.Modern {
		return c.tryModern(ctx, v, s.forModern(r), sink)
	}
	l, _, err := s.acquire(ctx)
	if err != nil {
		return nil, c.outdated(ctx, v, err), err
	}
	s.lowerLevel(ctx, l, r.LogLevel)
	answer, err = l.exchange(ctx, r, sink, s.minimum(r))
	if errors.Is(err, errSessionLost) {
		s.drop(l)
		if v.doubtful() { // a backend that was restarted may have become another
			if _, probeErr := c.reconsider(ctx, v); probeErr != nil {
				return nil, false, probeErr
			}
		}
		return nil, true, err
	}
	return answer, false, err
}

// outdated says whether the backend turns out to be of another era, after a session was refused.
func (c *Client) outdated(ctx context.Context, v *verdict, err error) bool {
	return v.doubtful() && c.changedEra(ctx, v, err)
}

// changedEra is outdated without regard to the age of the verdict.
func (c *Client) changedEra(ctx context.Context, v *verdict, err error) bool {
	if ctx.Err() != nil || !aboutProtocol(err) {
		return false
	}
	now, err := c.reconsider(ctx, v)
	return err == nil && now.era != v.era
}

// aboutProtocol says that a backend is there and did not like what it was asked.
func aboutProtocol(err error) bool {
	if status, ok := errors.AsType[*StatusError](err); ok {
		return status.Status < 500 && !aboutCredentials(status.Status)
	}
	_, isRPC := errors.AsType[*RPCError](err)
	_, isVersion := errors.AsType[*versionError](err)
	_, isNotMCP := errors.AsType[*NotMCPError](err)
	return isRPC || isVersion || isNotMCP
}

// minimum is the severity of the log messages that the client of r gets. In a session of its own the backend knows.
func (s *session) minimum(r *relay.Request) severity {
	switch {
	case !s.shared:
		return everything
	case r.Era == relay.Modern:
		return severityOf(r.LogLevel, nothing)
	default:
		return severityOf(r.LogLevel, fromInfo)
	}
}

// forModern is r as a backend of the modern era may see it: capabilities only of clients of the same era, because what it asks in a result
// goes no other way; and the level of the session.
func (s *session) forModern(r *relay.Request) *relay.Request {
	if r.Era == relay.Modern {
		return r
	}
	level := r.LogLevel
	if level == "" && !s.shared {
		s.mu.Lock()
		level = s.level
		s.mu.Unlock()
	}
	if len(r.Capabilities) == 0 && level == r.LogLevel {
		return r
	}
	changed := *r
	changed.Capabilities, changed.LogLevel = nil, level
	return &changed
}

// acquire returns the session of the legacy era, and whether it was opened for this call.
func (s *session) acquire(ctx context.Context) (l *legacy, fresh bool, err error) {
	if l, err := s.open(); l != nil || err != nil {
		return l, false, err
	}
	select {
	case s.opening <- struct{}{}:
	case <-ctx.Done():
		return nil, false, waitedForSession(ctx)
	}
	opened := func() { <-s.opening }
	if l, err := s.open(); l != nil || err != nil {
		opened()
		return l, false, err
	}
	c := s.client
	mayBeAsked := asksOf(s.Capabilities) != (asks{})
	next, err := s.handshake(ctx, s.shared || mayBeAsked || s.isListening())
	if err != nil {
		opened()
		return nil, false, fmt.Errorf("opening a session: %w", err)
	}
	if mayBeAsked { // some servers ask on no other stream
		awaitStream(ctx, next.link.settled())
	}
	c.version.Store(&next.version)
	// From here on it is others' session as well: it becomes whole, and the present one, though the caller waits no longer.
	done := make(chan error, 1)
	if !c.inBackground(func() {
		defer opened()
		s.restore(next)
		done <- s.use(next)
	}) {
		opened()
		next.close()
		return nil, false, errClosed
	}
	select {
	case err := <-done:
		if err != nil {
			return nil, false, err
		}
		return next, true, nil
	case <-ctx.Done():
		return nil, false, waitedForSession(ctx)
	}
}

// handshake opens a session at the backend within the time that a call may take. Where a pod takes over from another the handshake may begin
// at one and end at the other, or begin at one that is about to end; there is no harm in beginning it again.
func (s *session) handshake(ctx context.Context, listen bool) (*legacy, error) {
	c := s.client
	ctx, cancel := context.WithTimeout(ctx, c.limits.Timeout)
	defer cancel()
	defer context.AfterFunc(c.life, cancel)()
	for tries := 1; ; tries++ {
		over := c.pool.present()
		l, err := c.openLegacy(ctx, s.Capabilities, s, listen)
		_, leaving := errors.AsType[*leavingError](err)
		if tries == maxTries || !leaving && !errors.Is(err, errSessionLost) {
			return l, err
		}
		c.pool.renew(over)
	}
}

func waitedForSession(ctx context.Context) error {
	return fmt.Errorf("waiting for a session with the backend: %w", ctx.Err())
}

// use makes a session that was opened the present one.
func (s *session) use(l *legacy) error {
	s.mu.Lock()
	closed, again, listens := s.closed, s.began, s.listens
	if !closed && s.client.keep(s) {
		s.current, s.began = l, true
	} else {
		closed = true
	}
	s.mu.Unlock()
	if closed {
		l.close()
		return errClosed
	}
	if listens { // perhaps only since a moment ago
		l.listen()
	}
	if again {
		s.missed()
	}
	return nil
}

// Listen implements relay.Session.
func (s *session) Listen() {
	s.mu.Lock()
	s.listens = true
	l := s.current
	s.mu.Unlock()
	if l != nil {
		l.listen()
	}
}

func (s *session) isListening() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.listens
}

// open returns the session of the legacy era if there is a living one.
func (s *session) open() (*legacy, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	if s.current != nil && s.current.link.lost() {
		s.discardLocked()
	}
	return s.current, nil
}

// drop forgets a session that the backend no longer knows.
func (s *session) drop(l *legacy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == l {
		s.discardLocked()
	}
}

// discardLocked forgets a session that is lost. With it go the connections, idle or not: if another process has taken over, some of them lead
// to the one before, where the next session would be opened only to be lost again.
func (s *session) discardLocked() {
	l := s.current
	s.current = nil
	s.client.pool.renew(l.over)
	s.client.inBackground(l.close)
}

// Close implements relay.Session.
func (s *session) Close() {
	s.mu.Lock()
	l, uris := s.current, s.uris
	s.closed, s.current, s.uris = true, nil, nil
	s.mu.Unlock()
	for _, end := range uris {
		if end != nil {
			end()
		}
	}
	if l != nil {
		l.close()
	}
	s.client.forget(s)
}

// hear implements listener.
func (s *session) hear(m rpc.Message) {
	if s.shared {
		s.client.watches.tell(m)
		return
	}
	if s.OnNotification != nil {
		s.OnNotification(m)
	}
}

// opened implements listener.
func (s *session) opened(again bool) {
	switch {
	case again:
		s.missed()
	case s.shared && s.client.hasRead.Load():
		s.client.changes.announce() // what changed before the stream was open
	}
}

// lost implements listener. The next call would open another session; but a client that waits for a resource to change may never call.
func (s *session) lost() {
	s.mu.Lock()
	waits := !s.closed && len(s.uris) > 0
	s.mu.Unlock()
	if waits {
		s.client.inBackground(s.reopen)
	}
}

// reopen opens another session, in which the resources are subscribed to again, if that can be done within a few minutes.
func (s *session) reopen() {
	for attempt := 1; attempt <= reopenAttempts; attempt++ {
		ctx, cancel := context.WithTimeout(s.client.life, subscribeTimeout)
		_, _, err := s.acquire(ctx)
		cancel()
		if err == nil || errors.Is(err, errClosed) || wait(s.client.life, backoff(attempt)) != nil {
			return
		}
	}
}

// missed says that something may have happened unheard.
func (s *session) missed() {
	if s.shared {
		s.client.changes.announce()
		s.client.watches.tellAll()
		return
	}
	s.mu.Lock()
	uris := slices.Sorted(maps.Keys(s.uris))
	s.mu.Unlock()
	for _, uri := range uris {
		s.hear(resourceUpdated(uri))
	}
}
