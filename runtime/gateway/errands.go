// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"time"
)

// What a client sets at one replica the others tell their backends, too. A backend may be long about it, and a replica that is asked must
// not be: whoever does not answer in time is taken for dead, by all sessions of the one that asks.

// hearPatience is how long a replica is kept waiting until backends have been told, so that mostly they have when the client hears that
// something is set. It is a part of how long it waits (peer.Options.Patience).
const hearPatience = 300 * time.Millisecond

// errand is how backends are told about one thing, the log level or a resource, what was set at other replicas: one setting after another,
// in their order. Of those that come meanwhile the last one counts.
type errand struct {
	next func(context.Context) // guarded by client.mu; nil if nothing came
	done chan struct{}         // closed when all is told
}

// hearSet takes over what was set at another replica. note is called with mu; what it returns, if not nil, tells the backends, and is waited
// for no longer than hearPatience.
func (c *client) hearSet(about string, note func() func(context.Context)) {
	c.mu.Lock()
	tell := note()
	e, underWay := c.errands[about]
	tooMany := !underWay && len(c.errands) > c.g.limits.Subscriptions // those, and the log level
	if tell == nil || tooMany {
		c.mu.Unlock()
		if tooMany {
			c.g.log.Debug("Backends are not told what was set at another replica: they are long about too much else", "about", about)
		}
		return
	}
	if !underWay {
		e = &errand{done: make(chan struct{})}
		if c.errands == nil {
			c.errands = map[string]*errand{}
		}
		c.errands[about] = e
	}
	e.next = tell
	c.mu.Unlock()
	if !underWay {
		c.g.background(func() { c.run(about, e) })
	}
	patience := time.NewTimer(hearPatience)
	defer patience.Stop()
	select {
	case <-e.done:
	case <-patience.C:
	}
}

// run tells backends until there is nothing left to tell, or the session ends.
func (c *client) run(about string, e *errand) {
	for {
		c.mu.Lock()
		tell := e.next
		e.next = nil
		if tell == nil || c.closed {
			delete(c.errands, about)
			c.mu.Unlock()
			close(e.done)
			return
		}
		c.mu.Unlock()
		ctx, cancel := context.WithTimeout(c.life, setupTimeout)
		tell(ctx)
		cancel()
	}
}

// supersede is called before backends are told what was set here: it comes after what they are being told of the same thing, and in the
// place of what they would be told next.
func (c *client) supersede(ctx context.Context, about string) {
	c.mu.Lock()
	e, underWay := c.errands[about]
	if underWay {
		e.next = nil
	}
	c.mu.Unlock()
	if !underWay {
		return
	}
	select {
	case <-e.done:
	case <-ctx.Done():
	}
}

// hearLevel takes over a log level.
func (c *client) hearLevel(level string, severity int) {
	c.hearSet(methodSetLevel, func() func(context.Context) {
		c.level, c.severity = level, severity
		if len(c.bonds) == 0 {
			return nil
		}
		return c.tellLevel
	})
}

// follow takes over a subscription. Where the session has its stream or uses the backend anyway, the backend is told at once.
func (c *client) follow(uri string) {
	entry, _ := c.g.serving.Load().snapshot.Resource(uri)
	began := time.Now()
	c.hearSet(uri, func() func(context.Context) {
		if _, known := c.subscribed[uri]; known || len(c.subscribed) >= c.g.limits.Subscriptions {
			return nil
		}
		c.note(uri, entry.Backend)
		if c.standing == nil && c.bonds[entry.Backend] == nil {
			return nil
		}
		return func(ctx context.Context) {
			if c.subscribeAt(ctx, uri) && time.Since(began) >= hearPatience {
				c.heard(updatedUnheard(uri)) // the client was told before that it is subscribed
			}
		}
	})
}

// subscribeAt subscribes to a resource at the backend that has it now, and says whether that agreed.
func (c *client) subscribeAt(ctx context.Context, uri string) bool {
	serving := c.g.serving.Load()
	upstream, served := serving.upstreamOf(uri)
	if !served {
		return false // it is subscribed to when it is
	}
	entry, _ := serving.snapshot.Resource(uri)
	at, err := c.sessionBut(uri, entry.Backend, upstream)
	if err != nil {
		return false
	}
	if err := at.Subscribe(ctx, uri); err != nil {
		c.g.log.Debug("Subscribing to a resource failed that was subscribed to at another replica", "uri", uri, "error", err)
		return false
	}
	return true
}

// unfollow takes over the end of a subscription, and tells the backend if there is a session with it.
func (c *client) unfollow(uri string) {
	c.hearSet(uri, func() func(context.Context) {
		at, known := c.subscribed[uri]
		delete(c.subscribed, uri)
		if !known || c.bonds[at] == nil && c.errands[uri] == nil {
			return nil
		}
		return func(ctx context.Context) {
			c.mu.Lock()
			b := c.bonds[at]
			c.mu.Unlock()
			if b == nil {
				return
			}
			if err := b.session.Unsubscribe(ctx, uri); err != nil {
				c.g.log.Debug("Ending a subscription failed", "uri", uri, "error", err)
			}
		}
	})
}
