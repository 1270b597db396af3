// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/vmcp-dev/vmcp-operator/runtime/era"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
)

// listens are the open streams of subscriptions/listen.
type listens struct {
	mu   sync.Mutex
	open map[*listen]struct{}
}

func (s *listens) add(l *listen) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[*listen]struct{}{}
	}
	s.open[l] = struct{}{}
}

func (s *listens) remove(l *listen) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, l)
}

func (s *listens) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.open {
		poke(l.news)
	}
}

// listen is one subscriptions/listen (MCP 2026-07-28, subscriptions).
type listen struct {
	id        []byte // of the request, as the client wrote it
	wanted    [changes]bool
	announced [changes]uint64
	news      chan struct{}
	watched   map[string]*watched // by URI; of the request's goroutine

	mu      sync.Mutex
	updates map[string][]byte // that have to be said, by URI: of several for one resource the last one says it all
	order   []string
}

// watched is a resource that a backend has agreed to watch.
type watched struct {
	upstream relay.Upstream
	stop     context.CancelFunc
}

// filter is params.notifications.
type filter struct {
	Tools     bool     `json:"toolsListChanged,omitempty"`
	Prompts   bool     `json:"promptsListChanged,omitempty"`
	Resources bool     `json:"resourcesListChanged,omitempty"`
	URIs      []string `json:"resourceSubscriptions,omitempty"`
}

// listen serves subscriptions/listen: it is acknowledged when the backends have agreed, and goes on until the client, or the gateway, ends it.
func (c *call) listen() {
	var f filter
	raw := c.m.Raw
	at := rpc.Find(raw, c.m.Params, "notifications")[0]
	if !at.Exists() || raw[at.Start] != '{' || json.Unmarshal(at.Of(raw), &f) != nil {
		c.fail(invalidParams("params.notifications is no filter"))
		return
	}
	slices.Sort(f.URIs)
	f.URIs = slices.Compact(f.URIs)
	if len(f.URIs) > c.g.limits.Subscriptions {
		c.fail(invalidParams("params.notifications has more resources than one subscription may have"))
		return
	}
	if !c.out.canStream() {
		c.fail(&era.Refusal{Status: http.StatusNotAcceptable, Code: mcp.INVALID_REQUEST, Message: "the answer is a stream of events"})
		return
	}
	if c.g.streams.Add(1) > int64(c.g.limits.Streams) {
		c.g.streams.Add(-1)
		c.fail(&era.Refusal{Status: http.StatusServiceUnavailable, Code: mcp.INTERNAL_ERROR, Message: tooManyStreams})
		return
	}
	defer c.g.streams.Add(-1)

	l := &listen{
		id: append([]byte(nil), c.id()...), wanted: [changes]bool{f.Tools, f.Prompts, f.Resources},
		announced: c.g.serving.Load().revisions, news: make(chan struct{}, 1), updates: map[string][]byte{},
	}
	ctx, stop := context.WithCancel(c.r.Context())
	defer stop()
	f.URIs = c.watch(ctx, l, f.URIs)
	c.g.listens.add(l)
	defer c.g.listens.remove(l)
	if c.out.event(l.notification(mcp.MethodNotificationSubscriptionsAcknowledged, `,"notifications":`+string(encodeAny(f)))) != nil {
		return
	}
	poke(l.news) // for what changed before it was listed
	c.attend(ctx, l)
}

// attend says what there is to say until the end.
func (c *call) attend(ctx context.Context, l *listen) {
	quiet := time.NewTimer(c.g.limits.Heartbeat)
	defer quiet.Stop()
	for {
		select {
		case <-l.news:
			c.rewatch(ctx, l)
			for _, message := range l.take(c.g.serving.Load()) {
				if c.out.event(message) != nil {
					return
				}
			}
			quiet.Reset(c.g.limits.Heartbeat)
		case <-quiet.C:
			if c.out.comment() != nil {
				return
			}
			quiet.Reset(c.g.limits.Heartbeat)
		case <-ctx.Done():
			return
		case <-c.g.closing:
			meta := `"_meta":{"` + mcp.MetaKeySubscriptionID + `":` + string(l.id) + `,"` + mcp.MetaKeyServerInfo + `":` + string(c.g.texts.serverInfo) + `}`
			c.result([]byte(`{` + completeText + `,` + meta + `}`))
			return
		}
	}
}

// watch asks the backends to tell of updates of resources, and returns those of which they have agreed to.
func (c *call) watch(ctx context.Context, l *listen, uris []string) (agreed []string) {
	l.watched = c.watchAt(ctx, l, uris, c.edition)
	for _, uri := range uris {
		if l.watched[uri] != nil {
			agreed = append(agreed, uri)
		}
	}
	return agreed
}

// rewatch goes on watching where backends were replaced, or a resource is another one's now. What happened meanwhile nobody knows.
func (c *call) rewatch(ctx context.Context, l *listen) {
	serving := c.g.serving.Load()
	var moved []string
	for uri, w := range l.watched {
		if upstream, ok := serving.upstreamOf(uri); ok && upstream != w.upstream {
			moved = append(moved, uri)
		}
	}
	for uri, w := range c.watchAt(ctx, l, moved, serving) {
		l.watched[uri].stop()
		l.watched[uri] = w
		l.updated(uri, updatedUnheard(uri))
	}
}

// upstreamOf is the backend that has a resource, and false while it is not served.
func (e *edition) upstreamOf(uri string) (relay.Upstream, bool) {
	entry, known := e.snapshot.Resource(uri)
	if !known {
		return nil, false
	}
	return e.upstreams.Upstream(entry.Backend)
}

// watchAt asks the backends, side by side, and returns those that have agreed.
func (c *call) watchAt(ctx context.Context, l *listen, uris []string, serving *edition) map[string]*watched {
	var mu sync.Mutex
	agreed := map[string]*watched{}
	var asking sync.WaitGroup
	for _, uri := range uris {
		upstream, ok := serving.upstreamOf(uri)
		if !ok {
			continue
		}
		asking.Go(func() {
			watching, stop := context.WithCancel(ctx)
			patience := time.AfterFunc(setupTimeout, stop)
			err := upstream.WatchResource(watching, uri, func(m rpc.Message) { l.updated(uri, m) })
			if err != nil || !patience.Stop() {
				stop()
				c.g.log.Debug("A backend did not agree to watch a resource", "uri", uri, "error", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			agreed[uri] = &watched{upstream, stop}
		})
	}
	asking.Wait()
	return agreed
}

// updatedUnheard is a notification of the gateway's own: what is known of a resource may be old.
func updatedUnheard(uri string) rpc.Message {
	m, err := rpc.Parse([]byte(`{"jsonrpc":"2.0","method":"` + methodResourceUpdated + `","params":{"uri":` + string(encodeAny(uri)) + `}}`))
	if err != nil {
		panic(err) // it was just written
	}
	return m
}

// maxUpdates bounds the updates that wait for a client. Of more the client hears that what it watches changed, rather than which parts.
const maxUpdates = 1024

// updated takes a backend's word that a resource changed, or a part of it.
func (l *listen) updated(watched string, m rpc.Message) {
	uri, message := updatedURI(m), l.stamp(m)
	l.mu.Lock()
	if len(l.updates) >= maxUpdates {
		uri, message = watched, l.stamp(updatedUnheard(watched))
	}
	if _, waits := l.updates[uri]; !waits {
		l.order = append(l.order, uri)
	}
	l.updates[uri] = message
	l.mu.Unlock()
	poke(l.news)
}

// stamp puts the id of the subscription into a notification.
func (l *listen) stamp(m rpc.Message) []byte {
	raw := m.Raw
	if !m.Params.Exists() {
		return l.notification(m.Method, "")
	}
	meta := rpc.Find(raw, m.Params, "_meta")[0]
	if !meta.Exists() || raw[meta.Start] != '{' {
		text := append(append([]byte(`{"`+mcp.MetaKeySubscriptionID+`":`), l.id...), '}')
		return rpc.Splice(nil, raw, rpc.SetMember(raw, m.Params, meta, "_meta", text))
	}
	theirs := rpc.Find(raw, meta, mcp.MetaKeySubscriptionID)[0]
	return rpc.Splice(nil, raw, rpc.SetMember(raw, meta, theirs, mcp.MetaKeySubscriptionID, l.id))
}

// notification is one of the gateway's own.
func (l *listen) notification(method, more string) []byte {
	return []byte(`{"jsonrpc":"2.0","method":"` + method + `","params":{"_meta":{"` + mcp.MetaKeySubscriptionID + `":` + string(l.id) + `}` + more + `}}`)
}

// take returns what there is to say.
func (l *listen) take(serving *edition) (messages [][]byte) {
	for kind, revision := range serving.revisions {
		if l.announced[kind] < revision {
			l.announced[kind] = revision
			if l.wanted[kind] {
				messages = append(messages, l.notification(changeMethods[kind], ""))
			}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, uri := range l.order {
		messages = append(messages, l.updates[uri])
		delete(l.updates, uri)
	}
	l.order = l.order[:0]
	return messages
}
