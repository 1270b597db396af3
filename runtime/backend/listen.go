// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
	"github.com/vmcp-dev/vmcp-operator/runtime/sse"
)

const (
	// subscribeTimeout bounds how long a backend may take to agree to a subscription.
	subscribeTimeout = 10 * time.Second
	// unlistenable is how long a backend that knows no subscriptions/listen is left alone.
	unlistenable = 10 * time.Minute
)

// listening holds the one stream of subscriptions/listen (MCP 2026-07-28, utilities, subscriptions) on which a backend of the modern era
// tells of changes: of its lists, and of the resources that somebody watches. The stream is opened anew when it ends, and when the set of
// resources changes; then the old one ends only after the new one was agreed on, so that nothing falls between.
type listening struct {
	client *Client
	wake   chan struct{} // capacity 1

	mu      sync.Mutex
	running bool
	covered coverage
	changed chan struct{} // closed, and replaced, when covered changes
}

// coverage is what the backend agreed to, or did not.
type coverage struct {
	generation int // of the watches that were asked for; -1 at first
	uris       []string
	err        error
}

func newListening(c *Client) *listening {
	return &listening{client: c, wake: make(chan struct{}, 1), covered: coverage{generation: -1}, changed: make(chan struct{})}
}

// start has the stream opened, if that was not begun before.
func (l *listening) start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.running {
		l.running = l.client.inBackground(l.run)
	}
}

// nudge has the stream look at what is wanted now.
func (l *listening) nudge() {
	l.start()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// settle waits until the backend has agreed to something, or not, but not for long.
func (l *listening) settle(ctx context.Context, patience time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_ = l.await(ctx, func(c coverage) bool { return c.generation >= 0 })
}

// cover waits until the stream covers a resource. It fails if the backend does not agree to it.
func (l *listening) cover(ctx context.Context, uri string) error {
	_, generation := l.client.watches.wanted()
	l.nudge()
	var found coverage
	if err := l.await(ctx, func(c coverage) bool { found = c; return c.generation >= generation }); err != nil {
		return err
	}
	switch {
	case found.err != nil:
		return found.err
	case !slices.Contains(found.uris, uri):
		return errNotWatched
	}
	return nil
}

func (l *listening) await(ctx context.Context, enough func(coverage) bool) error {
	for {
		l.mu.Lock()
		covered, changed := l.covered, l.changed
		l.mu.Unlock()
		if enough(covered) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (l *listening) publish(c coverage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.covered = c
	close(l.changed)
	l.changed = make(chan struct{})
}

// run holds the stream until the client is closed.
func (l *listening) run() {
	c := l.client
	var (
		stream *listenStream // the one that is open
		rate   pace
		gap    bool // there was a stream before, which has ended
	)
	defer func() { stream.close() }()
	for {
		next, wanted, err := l.open(stream)
		switch {
		case c.life.Err() != nil:
			return
		case err != nil:
			rate.ended()
			l.publish(coverage{generation: wanted, err: err})
		case next == nil:
			stream = nil
			l.publish(coverage{generation: wanted})
		case next != stream:
			stream.close()
			stream = next
			rate.opened()
			l.publish(coverage{generation: wanted, uris: next.uris})
			if gap || c.hasRead.Load() && next.first {
				c.changes.announce()
				c.watches.tellAll()
			}
			gap = false
		default:
			l.publish(coverage{generation: wanted, uris: stream.uris})
		}
		if err != nil && stream == nil {
			pause := rate.pause()
			if rpcErr, ok := errors.AsType[*RPCError](err); ok && rpcErr.Code == CodeMethodNotFound {
				pause = unlistenable
			}
			if !l.rest(pause) {
				return
			}
			continue
		}
		select {
		case <-stream.ended():
			stream.close()
			stream, gap = nil, true
			rate.ended()
			if !l.rest(rate.pause()) {
				return
			}
		case <-l.wake:
		case <-c.life.Done():
			return
		}
	}
}

// rest waits for a while, or to be woken.
func (l *listening) rest(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.wake:
		return true
	case <-l.client.life.Done():
		return false
	}
}

// open opens a stream for what is wanted now, and returns the generation of that. The present one comes back if it is what is wanted, none if
// nothing is, or the backend is of another era.
func (l *listening) open(present *listenStream) (*listenStream, int, error) {
	c := l.client
	uris, generation := c.watches.wanted()
	v := c.verdict.Load()
	if v == nil || v.era != relay.Modern {
		return nil, generation, errNotWatched
	}
	filter := listenFilter(v.capabilities, uris)
	if present != nil && present.filter == filter {
		return present, generation, nil
	}
	if filter == noCapabilities {
		present.close()
		return nil, generation, nil
	}
	stream, err := c.openListen(v, filter)
	return stream, generation, err
}

// listenFilter is params.notifications of subscriptions/listen.
func listenFilter(has capabilities, uris []string) string {
	filter := struct {
		Tools     bool     `json:"toolsListChanged,omitempty"`
		Prompts   bool     `json:"promptsListChanged,omitempty"`
		Resources bool     `json:"resourcesListChanged,omitempty"`
		URIs      []string `json:"resourceSubscriptions,omitempty"`
	}{
		Tools: has.Tools.announces(), Prompts: has.Prompts.announces(), Resources: has.Resources.announces(), URIs: uris,
	}
	raw, err := json.Marshal(filter)
	if err != nil { // booleans and strings can be encoded
		return noCapabilities
	}
	return string(raw)
}

func (l *listCapability) announces() bool { return l != nil && l.ListChanged }

// listenStream is an open stream of subscriptions/listen.
type listenStream struct {
	filter string
	uris   []string // that the backend agreed to
	first  bool
	x      *exchange
	over   chan struct{}
}

// ended is closed at the end of the stream; where there is none, that never comes.
func (s *listenStream) ended() <-chan struct{} {
	if s == nil {
		return nil
	}
	return s.over
}

func (s *listenStream) close() {
	if s != nil {
		s.x.end()
		<-s.over
	}
}

// openListen opens a stream and waits until the backend has acknowledged it.
func (c *Client) openListen(v *verdict, filter string) (*listenStream, error) {
	r, err := ownRequest(methodListen, fmt.Appendf(nil, `{"notifications":%s}`, filter))
	if err != nil {
		return nil, err
	}
	x := c.newStreamExchange(methodListen)
	x.encode(r, v, nil)
	patience := time.AfterFunc(subscribeTimeout, x.end)
	stream, err := c.acknowledged(x, v, filter)
	if !patience.Stop() && err == nil {
		stream.close()
		err = context.DeadlineExceeded
	}
	if err != nil {
		x.finish()
		return nil, fmt.Errorf("%s: %w", methodListen, err)
	}
	return stream, nil
}

func (c *Client) acknowledged(x *exchange, v *verdict, filter string) (*listenStream, error) {
	response, err := c.do(x.ctx, http.MethodPost, c.url, c.modernHeader(v, methodListen, "", nil, true), x.body)
	switch {
	case err != nil:
		return nil, err
	case failed(response):
		answer, err := x.refused(response, false)
		_, err = resultOf(answer, err)
		return nil, err
	case response.StatusCode != http.StatusOK || mediaType(response) != contentStream:
		answer, err := x.answer(response)
		if _, err = resultOf(answer, err); err == nil {
			err = c.notMCP(methodListen, "a result instead of a stream")
		}
		return nil, err
	}
	r := sse.NewReader(response.Body, int(c.limits.ResponseBytes))
	stream := &listenStream{filter: filter, x: x, over: make(chan struct{})}
	for {
		event, err := r.Next()
		if err != nil {
			_ = response.Body.Close()
			return nil, x.broken(err)
		}
		m, err := rpc.Parse(event.Data)
		switch {
		case err != nil:
		case m.Kind == rpc.Failure && x.mayBeMine(m):
			_ = response.Body.Close()
			_, err = resultOf(x.message(event.Data))
			return nil, err
		case m.Method == methodAcknowledged:
			var params struct {
				Notifications struct {
					URIs []string `json:"resourceSubscriptions"`
				} `json:"notifications"`
			}
			_ = json.Unmarshal(m.Params.Of(m.Raw), &params) // what cannot be read is not agreed to
			stream.uris = params.Notifications.URIs
			stream.first = c.listens.Add(1) == 1
			if !c.inBackground(func() { c.hearListen(stream, r, response.Body) }) {
				close(stream.over)
				_ = response.Body.Close()
				return nil, errClosed
			}
			return stream, nil
		}
	}
}

// hearListen hands on what comes on a stream until it ends.
func (c *Client) hearListen(s *listenStream, r *sse.Reader, body io.Closer) {
	defer close(s.over)
	defer s.x.finish()
	defer body.Close()
	for {
		event, err := r.Next()
		if err != nil {
			return
		}
		m, err := rpc.Parse(event.Data)
		switch {
		case err != nil:
		case m.Kind.IsResponse():
			if s.x.isMine(m) {
				return // the server ends it
			}
		case isListChanged(m.Method):
			c.changes.announce()
		case m.Kind == rpc.Notification:
			c.watches.tell(m)
		}
	}
}
