// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
)

// watches are the resource subscriptions that the gateway holds at the backend for its clients: one for each URI, whoever and how many
// want it.
type watches struct {
	mu         sync.Mutex
	next       int
	by         map[string]*watch
	generation int // grows with every change of the set of URIs
}

// watch is the subscription of one resource.
type watch struct {
	uri       string
	callbacks map[int]func(rpc.Message)
	// held says that a session of the legacy era has been told of it, so that the next one has to be.
	held bool
	// agreed says that the backend once agreed; lapsed, that there is no subscription at present, though it did.
	agreed, lapsed bool
	// latest is what the backend was asked last.
	latest *agreement
}

// agreement is what a backend says to a subscription.
type agreement struct {
	reached chan struct{} // closed once the backend has answered, with err
	err     error
}

// add registers a callback. fresh says that the backend has to be asked: the resource was not watched before, or the watch has lapsed.
func (w *watches) add(uri string, updated func(rpc.Message)) (entry *watch, id int, asked *agreement, fresh bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.by == nil {
		w.by = map[string]*watch{}
	}
	entry = w.by[uri]
	if entry == nil {
		entry = &watch{uri: uri, callbacks: map[int]func(rpc.Message){}}
		w.by[uri] = entry
		w.generation++
	}
	if fresh = entry.latest == nil || entry.lapsed; fresh {
		entry.latest, entry.lapsed = &agreement{reached: make(chan struct{})}, false
	}
	w.next++
	entry.callbacks[w.next] = updated
	return entry, w.next, entry.latest, fresh
}

// remove takes a callback out, and says whether that was the last one.
func (w *watches) remove(entry *watch, id int) (last bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(entry.callbacks, id)
	if len(entry.callbacks) > 0 || w.by[entry.uri] != entry {
		return false
	}
	delete(w.by, entry.uri)
	w.generation++
	return true
}

// settle takes what the backend said to a watch, and says whether it has agreed anew. A watch that it never agreed to ends; one that it did is
// tried again when the session is opened anew, or somebody else wants it.
func (w *watches) settle(entry *watch, asked *agreement, err error) (again bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer close(asked.reached)
	asked.err = err
	again = entry.agreed && err == nil
	switch {
	case err == nil:
		entry.agreed, entry.lapsed = true, false
	case entry.agreed:
		entry.lapsed = true
	case w.by[entry.uri] == entry:
		delete(w.by, entry.uri)
		w.generation++
	}
	return again
}

// lapse notes whether a watch could not be made again.
func (w *watches) lapse(uri string, lapsed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if entry := w.by[uri]; entry != nil {
		entry.lapsed = lapsed
	}
}

// hold notes that a session is told of a watch, and says whether there is still one.
func (w *watches) hold(uri string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	entry := w.by[uri]
	if entry == nil {
		return false
	}
	entry.held = true
	return true
}

// held are the URIs that the session before had been told of.
func (w *watches) held() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var uris []string
	for uri, entry := range w.by {
		if entry.held {
			uris = append(uris, uri)
		}
	}
	return uris
}

// wanted are the URIs, and the generation of their set.
func (w *watches) wanted() ([]string, int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.by)), w.generation
}

// tell gives an update to whom it concerns. It may be of a part of the resource that was subscribed to (MCP 2025-11-25, resources,
// subscriptions).
func (w *watches) tell(m rpc.Message) {
	if m.Method != methodUpdated {
		return
	}
	uri, ok := rpc.Text(rpc.Find(m.Raw, m.Params, "uri")[0].Of(m.Raw))
	if !ok {
		return
	}
	for _, f := range w.concerned(uri) {
		f(m)
	}
}

func (w *watches) concerned(uri string) []func(rpc.Message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []func(rpc.Message)
	add := func(entry *watch) {
		for _, f := range entry.callbacks {
			all = append(all, f)
		}
	}
	if entry := w.by[uri]; entry != nil {
		add(entry)
		return all
	}
	for watched, entry := range w.by {
		if strings.HasPrefix(uri, watched) {
			add(entry)
		}
	}
	return all
}

// tellAll tells everybody that their resource may have changed.
func (w *watches) tellAll() {
	uris, _ := w.wanted()
	for _, uri := range uris {
		w.tell(resourceUpdated(uri))
	}
}

// resourceUpdated is a notification that the gateway makes itself.
func resourceUpdated(uri string) rpc.Message {
	return parse(encodeNotification(nil, methodUpdated, uriParams(uri)))
}

// WatchResource implements relay.Upstream.
func (c *Client) WatchResource(ctx context.Context, uri string, updated func(m rpc.Message)) error {
	return c.watch(ctx, ctx, uri, updated)
}

// watch subscribes until life ends. ctx is that of the subscribing itself.
func (c *Client) watch(ctx, life context.Context, uri string, updated func(m rpc.Message)) error {
	if c.target.Refused != (Refusal{}) {
		return &refusedError{c.target.Refused}
	}
	v, err := c.era(ctx)
	if err != nil {
		return err
	}
	entry, id, asked, fresh := c.watches.add(uri, updated)
	if fresh && !c.inBackground(func() { c.subscribe(v, entry, asked) }) {
		c.watches.settle(entry, asked, errClosed)
	}
	remove := func() {
		if c.watches.remove(entry, id) {
			c.inBackground(func() { c.unsubscribe(uri) })
		}
	}
	select {
	case <-asked.reached:
		if asked.err != nil {
			remove()
			return asked.err
		}
	case <-ctx.Done():
		remove()
		return ctx.Err()
	}
	context.AfterFunc(life, remove)
	return nil
}

// follow brings the subscriptions to a backend of another era than before.
func (c *Client) follow(v *verdict) {
	ctx, cancel := context.WithTimeout(c.life, c.limits.Timeout)
	defer cancel()
	if v.era == relay.Modern {
		c.mu.Lock()
		sessions := slices.Collect(maps.Keys(c.sessions))
		c.mu.Unlock()
		for _, s := range sessions {
			s.follow(ctx)
		}
		c.listening.nudge()
		return
	}
	uris, _ := c.watches.wanted()
	for _, uri := range uris {
		err := c.syncSubscription(ctx, uri)
		c.watches.lapse(uri, err != nil)
		if err != nil {
			c.log.Warn("a subscription was lost when the backend changed the era", "error", c.Classify(err).Message)
		}
	}
	c.watches.tellAll()
}

// errNotWatched is a backend that has no subscriptions, or none of a resource.
var errNotWatched = &RPCError{Code: CodeMethodNotFound, Message: "the backend does not tell of changes of this resource"}

// subscribe has the backend agree to a watch. Those who had it before may have missed something.
func (c *Client) subscribe(v *verdict, entry *watch, asked *agreement) {
	ctx, cancel := context.WithTimeout(c.life, subscribeTimeout)
	defer cancel()
	var err error
	if v.era == relay.Modern {
		err = c.listening.cover(ctx, entry.uri)
	} else {
		err = c.syncSubscription(ctx, entry.uri)
	}
	if c.watches.settle(entry, asked, err) {
		c.watches.tell(resourceUpdated(entry.uri))
	}
}

// unsubscribe ends the subscription that nobody needs any more.
func (c *Client) unsubscribe(uri string) {
	if v := c.verdict.Load(); v.era == relay.Modern {
		c.listening.nudge()
		return
	}
	ctx, cancel := context.WithTimeout(c.life, subscribeTimeout)
	defer cancel()
	if err := c.syncSubscription(ctx, uri); err != nil && !errors.Is(err, errClosed) {
		c.log.Debug("ending a subscription failed", "error", c.Classify(err).Message)
	}
}

// syncSubscription brings what the backend of the legacy era knows of a subscription in line with what is wanted. One at a time: a
// subscription that ends and begins anew must not arrive the other way round.
func (c *Client) syncSubscription(ctx context.Context, uri string) error {
	select {
	case c.subscribing <- struct{}{}:
		defer func() { <-c.subscribing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	// A new session is told of what the one before held, of which this is not yet one.
	if _, _, err := c.service.acquire(ctx); err != nil {
		return err
	}
	method := methodUnsubscribe
	if c.watches.hold(uri) {
		method = methodSubscribe
	}
	return c.service.inSession(ctx, method, uriParams(uri))
}
