// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"sync"
	"time"

	"github.com/vmcp-dev/vmcp-operator/runtime/session"
)

// clients are the sessions of the legacy era of which this replica remembers something.
type clients struct {
	g *Gateway

	mu     sync.Mutex
	byID   map[string]*client
	sweep  *time.Timer // runs while there are any
	closed bool

	cleanup sync.WaitGroup // sessions with backends that are being closed
}

func (s *clients) init(g *Gateway) {
	s.g, s.byID = g, map[string]*client{}
}

// find returns the client of an id, noted as active, nil if nothing is remembered of it.
func (s *clients) find(id, principal string, now time.Time) *client {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.byID[id]
	if !ok || c.principal != principal || now.After(c.info.Expires()) || !c.acquire(now) {
		return nil
	}
	return c
}

// remember makes the client of an id that was opened, noted as active. It is nil if there are too many, or if the session has ended;
// full tells the two apart.
func (s *clients) remember(id, principal string, info session.Info, now time.Time) (c *client, full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.byID[id]; ok {
		if c.principal == principal && c.acquire(now) {
			return c, false
		}
		return nil, false
	}
	if s.closed || s.g.tombstones.Buried(info) {
		return nil, false
	}
	if len(s.byID) >= s.g.limits.Sessions {
		s.forgetIdle(now, true)
		if len(s.byID) >= s.g.limits.Sessions {
			return nil, true
		}
	}
	c = newClient(s.g, id, principal, info, now)
	c.acquire(now)
	s.byID[id] = c
	s.schedule()
	return c, false
}

// end ends a session for good. It returns false if that was known.
func (s *clients) end(id string, info session.Info, now time.Time) bool {
	s.mu.Lock()
	fresh := s.g.tombstones.Bury(info, now)
	c := s.byID[id]
	delete(s.byID, id)
	if c != nil {
		s.cleanup.Go(c.close)
	}
	s.mu.Unlock()
	return fresh
}

// all lists the clients.
func (s *clients) all() []*client {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*client, 0, len(s.byID))
	for _, c := range s.byID {
		list = append(list, c)
	}
	return list
}

// schedule is called with mu.
func (s *clients) schedule() {
	if s.sweep == nil && !s.closed && len(s.byID) > 0 {
		s.sweep = time.AfterFunc(min(s.g.limits.SessionIdle/2, time.Minute), func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.sweep = nil
			s.forgetIdle(time.Now(), false)
			s.schedule()
		})
	}
}

// forgetIdle is called with mu. It ends what sessions that nobody uses have open at backends, and what is over by its age. What is under way
// then goes on to its own end: nothing new begins, streams end by age, and calls have a deadline. What a session that nobody uses has set
// stays where there are other replicas, unless there is need of room: it may be used at one of them, which may end any time.
func (s *clients) forgetIdle(now time.Time, needRoom bool) {
	if s.closed {
		return
	}
	for id, c := range s.byID {
		isOver := now.After(c.info.Expires()) && !c.isActive()
		if isIdle := c.idleSince(now.Add(-s.g.limits.SessionIdle)); isIdle && !isOver && !needRoom && s.g.peers != nil && c.hasSettings() {
			s.cleanup.Go(c.rest)
			continue
		} else if isIdle || isOver {
			delete(s.byID, id)
			s.cleanup.Go(c.close)
			continue
		}
		c.mu.Lock()
		c.forgetStale(now)
		c.mu.Unlock()
	}
}

// background runs f, which has an end of its own. Close waits for it.
func (g *Gateway) background(f func()) {
	s := &g.clients
	s.mu.Lock()
	closed := s.closed
	if !closed {
		s.cleanup.Go(f)
	}
	s.mu.Unlock()
	if closed {
		f()
	}
}

// close ends what all sessions have open here. The sessions go on at other replicas.
func (s *clients) close() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		if s.sweep != nil {
			s.sweep.Stop()
		}
		for id, c := range s.byID {
			delete(s.byID, id)
			s.cleanup.Go(c.close)
		}
	}
	s.mu.Unlock()
	s.cleanup.Wait()
}
