// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"sync"
	"time"
)

var errUnknownSession = errors.New("unknown session")

// callsSuffix, after the id of a session, is the id under which mcp-go sees the session's requests. Under the id itself it
// would let them compete with the session's stream for announcements, and drop one that comes as a request ends.
const callsSuffix = "/calls"

// sessions knows the living sessions, so that a client whose session is gone is told (404) and initializes anew. It implements
// mcp-go's SessionIdManager. An id is no credential.
type sessions struct {
	limit int
	idle  time.Duration

	mu     sync.Mutex
	living map[string]*session
}

// session is what is known of one session.
type session struct {
	// ended is done when the session is over.
	ended context.Context //nolint:containedctx // it is the session's life, not a request's
	end   context.CancelFunc

	lastSeen time.Time
	streams  int // that are open
}

func newSessions(limit int, idle time.Duration) *sessions {
	return &sessions{limit: limit, idle: idle, living: map[string]*session{}}
}

// full says whether another session would be one too many.
func (s *sessions) full() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.living) >= s.limit
}

// expired lists the sessions that nobody has used for too long.
func (s *sessions) expired() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for id, l := range s.living {
		if l.expired(s.idle) {
			ids = append(ids, id)
		}
	}
	return ids
}

func (l *session) expired(idle time.Duration) bool {
	return l.streams == 0 && time.Since(l.lastSeen) > idle
}

// touch notes that a session is in use. It returns false if there is no such session.
func (s *sessions) touch(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.living[id]
	if !ok || l.expired(s.idle) {
		return false
	}
	l.lastSeen = time.Now()
	return true
}

// stream notes an open stream of a session: the context ends with the session, and closed has to be called at the end.
func (s *sessions) stream(id string) (ended context.Context, closed func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.living[id]
	if !ok {
		return nil, nil, false
	}
	l.streams++
	return l.ended, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		l.streams--
		l.lastSeen = time.Now()
	}, true
}

// Generate begins a session. The id is visible ASCII with at least 128 random bits (MCP 2025-11-25, session management).
func (s *sessions) Generate() string {
	id := rand.Text()
	ended, end := context.WithCancel(context.Background())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.living[id] = &session{ended: ended, end: end, lastSeen: time.Now()}
	return id
}

// Validate fails for the id of no living session.
func (s *sessions) Validate(id string) (terminated bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.living[strings.TrimSuffix(id, callsSuffix)]; !ok {
		return false, errUnknownSession
	}
	return false, nil
}

// Terminate ends a session and its stream. To end one that is gone is no error.
func (s *sessions) Terminate(id string) (notAllowed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l, ok := s.living[id]; ok {
		l.end()
		delete(s.living, id)
	}
	return false, nil
}
