// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
	"github.com/vmcp-dev/vmcp-operator/runtime/sse"
)

// Pace of the streams that are reopened.
const (
	streamBackoff = time.Second
	maxBackoff    = time.Minute
	stableStream  = 30 * time.Second
)

// backoff doubles with every failure up to a minute; half of it is random, so that gateways do not come back in step.
func backoff(failures int) time.Duration {
	whole := min(streamBackoff<<min(failures-1, 10), maxBackoff)
	return whole/2 + rand.N(whole/2) //nolint:gosec // G404: jitter is no secret
}

// pace remembers how a stream fared, and says how long to wait before it is opened again.
type pace struct {
	failures int
	openedAt time.Time
}

func (p *pace) opened() { p.openedAt = time.Now() }

func (p *pace) ended() {
	if !p.openedAt.IsZero() && time.Since(p.openedAt) >= stableStream {
		p.failures = 0
	}
	p.failures++
	p.openedAt = time.Time{}
}

func (p *pace) pause() time.Duration {
	if p.failures == 0 {
		return 0
	}
	return backoff(p.failures)
}

// notifications is the stream of a legacy session for what belongs to no request (MCP 2025-11-25, transports, listening for messages). It
// is opened again as long as the session lives.
type notifications struct {
	session *streamable
	settled chan struct{} // closed when the stream first opened or was refused
	once    sync.Once
}

func newNotifications(s *streamable) *notifications {
	return &notifications{session: s, settled: make(chan struct{})}
}

func (n *notifications) settle() { n.once.Do(func() { close(n.settled) }) }

// run holds the stream open until the session ends, or the backend says that it has none.
func (n *notifications) run() {
	defer n.settle()
	var (
		rate   pace
		lastID string
		opened bool
		retry  time.Duration
	)
	s := n.session
	for {
		if wait(s.life, max(rate.pause(), retry)) != nil {
			return
		}
		response, err := s.get(s.life, lastID)
		if err != nil {
			rate.ended()
			continue
		}
		if response.StatusCode != http.StatusOK || mediaType(response) != contentStream {
			body := readError(response)
			n.settle()
			if !n.mayComeBack(response.StatusCode, body, opened) {
				return
			}
			rate.ended()
			continue
		}
		s.hears.opened(opened)
		opened = true
		rate.opened()
		n.settle()
		lastID, retry = n.read(response.Body, lastID)
		_ = response.Body.Close() // read to its end, or given up
		rate.ended()
	}
}

// mayComeBack says whether a refused stream is worth another try. One that was there before is refused with the session.
func (n *notifications) mayComeBack(status int, body []byte, opened bool) bool {
	switch {
	case status >= 500, status == http.StatusTooManyRequests, aboutCredentials(status):
		return true
	case opened && status == http.StatusConflict: // the server has not noticed yet that the stream before is gone
		return true
	case opened && (status == http.StatusNotFound || forgotSession(status, body)):
		n.session.forgotten.Store(true)
		n.session.hears.lost()
	}
	return false
}

// read hands on what comes, and returns the place to take the stream up again.
func (n *notifications) read(body io.Reader, lastID string) (string, time.Duration) {
	s := n.session
	r := sse.NewReader(body, int(s.client.limits.ResponseBytes))
	for {
		event, err := r.Next()
		if id := r.LastID(); id != "" {
			lastID = id
		}
		if err != nil {
			if errors.Is(err, sse.ErrTooLarge) {
				s.client.log.Warn("the backend sent a notification that is larger than the gateway takes", "bytes", s.client.limits.ResponseBytes)
				lastID = "" // it would come again
			}
			return lastID, r.Retry()
		}
		s.hear(event.Data)
	}
}

// hear hands on one message, or a batch of them, that came outside of requests.
func (s *streamable) hear(raw []byte) {
	m, err := rpc.Parse(raw)
	switch {
	case errors.Is(err, rpc.ErrBatch):
		for _, each := range elements(raw) {
			if _, err := rpc.Parse(each); !errors.Is(err, rpc.ErrBatch) { // there is no batch in a batch
				s.hear(each)
			}
		}
	case err == nil && !s.calls.take(m):
		s.client.hear(m, s.hears, s.post)
	}
}

// hear hands on a message that belongs to no call.
func (c *Client) hear(m rpc.Message, l listener, reply replyFunc) {
	switch {
	case m.Kind == rpc.Request:
		c.answerServer(m, reply)
	case m.Kind != rpc.Notification: // a response to nobody
	case isListChanged(m.Method):
		c.changes.announce()
	default:
		l.hear(m)
	}
}
