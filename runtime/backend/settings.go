// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
)

// What a client sets in its session, beside calling: the level of log messages, the resources that it wants to hear of, its roots.

// lowerLevel sees to it that the log messages which a client wants are sent in a session that it shares with others.
func (s *session) lowerLevel(ctx context.Context, l *legacy, level string) {
	if !s.shared || level == "" || l.capabilities.Logging == nil {
		return
	}
	s.mu.Lock()
	lower := severityOf(level, nothing) < severityOf(s.level, nothing)
	if lower {
		s.level = level
	}
	s.mu.Unlock()
	if !lower {
		return
	}
	told := make(chan struct{})
	if !s.client.inBackground(func() { // the calls after this one count on it
		defer close(told)
		ctx, cancel := context.WithTimeout(s.client.life, subscribeTimeout)
		defer cancel()
		if _, err := l.request(ctx, methodSetLevel, levelParams(level)); err != nil {
			s.client.log.Debug("the backend did not take the log level", "error", s.client.Classify(err).Message)
		}
	}) {
		return
	}
	select {
	case <-told:
	case <-ctx.Done():
	}
}

func levelParams(level string) json.RawMessage { return fmt.Appendf(nil, `{"level":%q}`, level) }

// restore sets in a new session what the client had set in the one before, or, in a session that is shared, the clients. It ends with a
// setting that the backend leaves unanswered: calls wait for the session.
func (s *session) restore(l *legacy) {
	s.mu.Lock()
	level, uris := s.level, slices.Collect(maps.Keys(s.uris))
	s.mu.Unlock()
	if s.shared {
		uris = s.client.watches.held()
	}
	slices.Sort(uris)
	set := func(method string, params json.RawMessage) (done, answered bool) {
		ctx, cancel := context.WithTimeout(s.client.life, subscribeTimeout)
		defer cancel()
		_, err := l.request(ctx, method, params)
		if err != nil {
			s.client.log.Warn("a new session with the backend lacks something that the one before had", "method", method,
				"error", s.client.Classify(err).Message)
		}
		return err == nil, ctx.Err() == nil
	}
	goOn := true
	if level != "" && l.capabilities.Logging != nil {
		_, goOn = set(methodSetLevel, levelParams(level))
	}
	lapse := s.lapse
	if s.shared {
		lapse = s.client.watches.lapse
	}
	for _, uri := range uris {
		made := false
		if goOn {
			made, goOn = set(methodSubscribe, uriParams(uri))
		}
		lapse(uri, !made)
	}
}

// lapse notes whether a subscription could not be made again. The session goes on to try when it is opened anew, or the client does.
func (s *session) lapse(uri string, lapsed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.uris[uri]; !known || !lapsed {
		delete(s.lapsed, uri)
		return
	}
	if s.lapsed == nil {
		s.lapsed = map[string]struct{}{}
	}
	s.lapsed[uri] = struct{}{}
}

// isSubscribed says whether the client has subscribed to a resource, and the backend knows.
func (s *session) isSubscribed(uri string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	end, known := s.uris[uri]
	_, lapsed := s.lapsed[uri]
	return known && (end != nil || !lapsed)
}

func uriParams(uri string) json.RawMessage {
	return slices.Concat(json.RawMessage(`{"uri":`), encodeString(uri), []byte(`}`))
}

// SetLogLevel implements relay.Session.
func (s *session) SetLogLevel(ctx context.Context, level string) error {
	if severityOf(level, nothing) == nothing {
		return &RPCError{Code: CodeInvalidParams, Message: "unknown log level"}
	}
	s.mu.Lock()
	s.level = level
	l := s.current
	s.mu.Unlock()
	if l == nil || l.capabilities.Logging == nil {
		return nil // it is set when the session opens, or goes with each call
	}
	_, err := l.request(ctx, methodSetLevel, levelParams(level))
	if errors.Is(err, errSessionLost) {
		s.drop(l)
		return nil
	}
	return err
}

// Subscribe implements relay.Session.
func (s *session) Subscribe(ctx context.Context, uri string) error {
	v, err := s.client.era(ctx)
	if err != nil {
		return err
	}
	if s.isSubscribed(uri) {
		return nil
	}
	var end context.CancelFunc
	if v.era == relay.Modern {
		end, err = s.watch(ctx, uri)
	} else {
		err = s.inSession(ctx, methodSubscribe, uriParams(uri))
	}
	if err != nil {
		return err
	}
	s.lapse(uri, false)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.uris[uri] != nil { // meanwhile
		if end != nil {
			end()
		}
		return nil
	}
	if s.uris == nil {
		s.uris = map[string]context.CancelFunc{}
	}
	s.uris[uri] = end
	return nil
}

// watch subscribes to a resource of a backend of the modern era, until end is called.
func (s *session) watch(ctx context.Context, uri string) (end context.CancelFunc, err error) {
	life, end := context.WithCancel(s.client.life)
	if err := s.client.watch(ctx, life, uri, s.hear); err != nil {
		end()
		return nil, err
	}
	return end, nil
}

// follow brings the subscriptions of the session to a backend that has become one of the modern era.
func (s *session) follow(ctx context.Context) {
	s.mu.Lock()
	uris := slices.Sorted(maps.Keys(s.uris))
	s.mu.Unlock()
	for _, uri := range uris {
		end, err := s.watch(ctx, uri)
		s.lapse(uri, err != nil)
		if err != nil {
			s.client.log.Warn("a subscription was lost when the backend changed the era", "error", s.client.Classify(err).Message)
			continue
		}
		s.mu.Lock()
		if before, wanted := s.uris[uri]; wanted && before == nil {
			s.uris[uri] = end
		} else {
			end()
		}
		s.mu.Unlock()
		s.hear(resourceUpdated(uri)) // while it moved
	}
}

// Unsubscribe implements relay.Session.
func (s *session) Unsubscribe(ctx context.Context, uri string) error {
	s.mu.Lock()
	end := s.uris[uri]
	delete(s.uris, uri)
	delete(s.lapsed, uri)
	l := s.current
	s.mu.Unlock()
	if end != nil {
		end()
		return nil
	}
	if l == nil {
		return nil
	}
	_, err := l.request(ctx, methodUnsubscribe, uriParams(uri))
	if errors.Is(err, errSessionLost) {
		s.drop(l)
		return nil
	}
	return err
}

// inSession sends a request of the gateway's own in the legacy session, in a new one if the backend has forgotten the present one.
func (s *session) inSession(ctx context.Context, method string, params json.RawMessage) error {
	for attempt := 1; ; attempt++ {
		l, _, err := s.acquire(ctx)
		if err != nil {
			return err
		}
		_, err = l.request(ctx, method, params)
		if !errors.Is(err, errSessionLost) || attempt == 2 {
			return err
		}
		s.drop(l)
	}
}

// RootsChanged implements relay.Session.
func (s *session) RootsChanged(context.Context) {
	s.mu.Lock()
	l := s.current
	s.mu.Unlock()
	if l == nil || !l.asks.roots {
		return
	}
	b := newBuffer()
	b.b = encodeNotification(b.b, methodRootsChanged, nil)
	s.client.send(b, l.link.post)
}
