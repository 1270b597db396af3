// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// What a stream keeps for a client that lost its connection, and how long after its end.
const (
	keptEvents = 256
	keptBytes  = 1 << 20
	keptFor    = 2 * time.Minute
	// ahead is how many events a call may be ahead of a connection that has resumed its stream.
	ahead = 64
	// retryMillis is how long a client waits before it resumes a stream that ended.
	retryMillis = "1000"
)

// stream is one stream of events of a session: that of one POST, or the one that GET opens. It keeps its last events, so that a client
// that lost the connection can have what it missed (MCP 2025-11-25, transports, resumability). At most one connection reads it.
type stream struct {
	name string // how ids of its events begin
	kept *kept

	mu     sync.Mutex
	events []event // the last ones
	size   int     // of their bytes
	last   uint64  // number of the last event; the first has 1, and 0 is the priming event
	ended  time.Time
	reader *reader

	discarded bool // keeps no events any more
}

// kept counts the bytes that the streams of all sessions keep.
type kept struct {
	limit int64
	bytes atomic.Int64
}

func (k *kept) isFull() bool { return k.bytes.Load() > k.limit }

type event struct {
	frame []byte
	final bool // an answer, which is never given up for others
	seq   uint64
}

// reader is a connection that reads a stream. One that takes it over ends it.
type reader struct {
	sent uint64
	wake chan struct{} // there is something to send
	room chan struct{} // something was sent
	gone chan struct{} // closed when another has taken over
}

func newReader() *reader {
	return &reader{wake: make(chan struct{}, 1), room: make(chan struct{}, 1), gone: make(chan struct{})}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// push adds an event. It returns the event's bytes if direct reads the stream and so has to send them itself; another reader is told.
func (s *stream) push(direct *reader, final bool, pieces ...[]byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if direct != nil && s.reader != direct {
		s.awaitRoom()
	}
	s.last++
	frame := appendEvent(nil, s.name, s.last, pieces...)
	if s.reader != nil && s.reader == direct {
		direct.sent = s.last
		if !s.kept.isFull() {
			s.keep(event{frame, final, s.last})
		}
		return frame
	}
	s.keep(event{frame, final, s.last})
	if s.reader != nil {
		poke(s.reader.wake)
	}
	return nil
}

// keep adds an event to those that are kept. It is called with mu, as are trim and forget.
func (s *stream) keep(e event) {
	if s.discarded {
		return
	}
	s.events = append(s.events, e)
	s.count(len(e.frame))
	s.trim()
}

func (s *stream) count(bytes int) {
	s.size += bytes
	s.kept.bytes.Add(int64(bytes))
}

// awaitRoom lets a call wait for a connection that has resumed its stream, so that nothing is lost for a slow one. It is called with mu.
func (s *stream) awaitRoom() {
	for s.reader != nil && s.last-s.reader.sent >= ahead {
		r := s.reader
		s.mu.Unlock()
		select {
		case <-r.room:
		case <-r.gone:
		}
		s.mu.Lock()
	}
}

// trim forgets what is too much: the oldest first, and answers last.
func (s *stream) trim() {
	for len(s.events) > 1 {
		oldest := 0
		for oldest < len(s.events)-1 && s.events[oldest].final {
			oldest++
		}
		e := s.events[oldest]
		isWaiting := s.reader != nil && e.seq > s.reader.sent
		if len(s.events) <= keptEvents && s.size <= keptBytes && (isWaiting || !s.kept.isFull()) {
			return
		}
		s.count(-len(e.frame))
		s.events = slices.Delete(s.events, oldest, oldest+1)
	}
}

// discard forgets all events, for good.
func (s *stream) discard() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count(-s.size)
	s.events, s.discarded = nil, true
}

// primingAt is the event by which a client knows the stream before anything happened on it, for a connection that begins behind the
// event of that number. It tells how soon to come back.
func (s *stream) primingAt(after uint64) []byte {
	return priming(appendEventID(nil, s.name, after))
}

// priming is an event of that id without a message.
func priming(id []byte) []byte {
	frame := append([]byte("id: "), id...)
	return append(frame, "\nretry: "+retryMillis+"\ndata: \n\n"...)
}

func (s *stream) position() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// take makes a connection the one that reads the stream from behind an event on.
func (s *stream) take(r *reader, after uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release()
	r.sent = min(after, s.last)
	s.reader = r
}

// leave is for a connection that ends.
func (s *stream) leave(r *reader) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reader == r {
		s.release()
	}
}

func (s *stream) release() {
	if s.reader != nil {
		close(s.reader.gone)
		s.reader = nil
	}
}

// next returns an event that a connection has not sent yet, nil if there is none, and whether none will come.
func (s *stream) next(r *reader) (frame []byte, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reader != r {
		return nil, true
	}
	for _, e := range s.events {
		if e.seq > r.sent {
			r.sent = e.seq
			poke(r.room)
			return e.frame, false
		}
	}
	return nil, !s.ended.IsZero()
}

// end says that no event will come.
func (s *stream) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = time.Now()
	if s.reader != nil {
		poke(s.reader.wake)
	}
}

// isOver says that the stream has ended.
func (s *stream) isOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.ended.IsZero()
}

// stale says that the stream ended so long ago that nobody will ask for it.
func (s *stream) stale(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.ended.IsZero() && now.Sub(s.ended) > keptFor
}
