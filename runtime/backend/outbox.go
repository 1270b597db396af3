// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"context"
	"sync"
	"time"
)

const (
	// replyTimeout bounds how long it may take until the backend has accepted the reply to something that it asked.
	replyTimeout = 10 * time.Second
	// maxPosts is how many messages that are no requests may be on their way to a backend at a time.
	maxPosts = 64
	// maxOutbox is how many bytes of them may be held. One more message is taken while there are fewer, however large it is.
	maxOutbox = 16 << 20
)

// outbox holds messages to a backend that are no requests: replies to what it asks, and notifications. How many those are is up to the
// backend, and whether it accepts them, too. Beyond maxPosts they wait, so that many sessions may be asked at once; what is then too much is
// dropped: a backend that did not accept so many does not wait for one more. Nobody waits for room, for who replies reads a stream that other
// calls may depend on.
type outbox struct {
	mu      sync.Mutex
	queue   []outgoing
	posting int  // goroutines that do
	bytes   int  // held by the queue, and by what is on its way
	lacks   bool // something was dropped since nothing was held
}

// outgoing is a message and what posts it, not later than until.
type outgoing struct {
	*buffer
	size  int
	post  replyFunc
	until time.Time
}

// put takes a message if there is room for it. another says that one more goroutine has to post.
func (o *outbox) put(m outgoing) (taken, another bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.bytes >= maxOutbox {
		return false, false
	}
	o.queue = append(o.queue, m)
	o.bytes += m.size
	if another = o.posting < maxPosts; another {
		o.posting++
	}
	return true, another
}

// take gives back the room of a message that was posted, and takes the next one out. If there is none, the goroutine ends.
func (o *outbox) take(posted outgoing) (next outgoing, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.bytes -= posted.size
	if len(o.queue) == 0 {
		o.posting--
		o.queue, o.lacks = nil, o.lacks && o.posting > 0
		return outgoing{}, false
	}
	next = o.queue[0]
	o.queue[0] = outgoing{}
	o.queue = o.queue[1:]
	return next, true
}

// drop notes that there was no room, and says whether that is news.
func (o *outbox) drop() (news bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	news, o.lacks = !o.lacks, true
	return news
}

// send posts what a client says in the background. Whether it arrives, the backend shows by what it does next.
func (c *Client) send(b *buffer, post replyFunc) { c.sendBy(&c.outbox, b, post) }

func (c *Client) sendBy(o *outbox, b *buffer, post replyFunc) {
	// The buffer itself is held, whatever is in it.
	taken, another := o.put(outgoing{buffer: b, size: cap(b.b), post: post, until: time.Now().Add(replyTimeout)})
	switch {
	case another:
		c.inBackground(func() { c.empty(o) }) // or the client is closed
	case !taken:
		b.release()
		if o.drop() {
			c.log.Warn("the backend does not accept the replies to what it asks: some are dropped", "bytes", maxOutbox)
		}
	}
}

// empty posts what is in an outbox until nothing is left.
func (c *Client) empty(o *outbox) {
	for m, ok := o.take(outgoing{}); ok; m, ok = o.take(m) {
		if err := c.post(m); err != nil {
			c.log.Debug("a message to the backend was lost", "error", c.Classify(err).Message)
		}
	}
}

func (c *Client) post(m outgoing) error {
	p := newPayload(m.buffer)
	defer p.release()
	ctx, cancel := context.WithDeadline(c.life, m.until)
	defer cancel()
	return m.post(ctx, p)
}
