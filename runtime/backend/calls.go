// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
)

// calls are those under way in one session over streamable HTTP whose clients want to hear something. Most servers send what belongs to a
// call on the call's own stream, as the specification has it (MCP 2025-11-25, transports, sending messages). Others have one queue for a session,
// and put what is in it on any of its streams; or they ask on the stream that belongs to no call.
type calls struct {
	mu sync.Mutex
	by map[int64]*exchange
}

// begin notes a call, unless there is nothing that it could miss, and returns what ends it.
func (c *calls) begin(x *exchange) (end func()) {
	x.neighbours = c
	if x.sink == nil || !x.progress && x.asks == (asks{}) {
		return func() {}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = map[int64]*exchange{}
	}
	c.by[x.id] = x
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.by, x.id)
	}
}

// deliver gives a call the news of its progress that came elsewhere.
func (c *calls) deliver(id int64, m rpc.Message) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if x := c.by[id]; x != nil && x.progress {
		x.stray(m)
	}
}

// take gives a message that came on the stream of no call to the call that it is for, and says whether there is one. What a backend asks is for
// one of the calls, which are all of one client; the session of several clients cannot be asked.
func (c *calls) take(m rpc.Message) bool {
	switch {
	case m.Method == methodProgress:
		c.deliver(progressOf(m), m)
		return true
	case m.Kind != rpc.Request:
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(c.by)) {
		if x := c.by[id]; x.asks.allow(m.Method) {
			x.stray(m)
			return true
		}
	}
	return false
}

// progressOf is the id of the request that a notification tells the progress of: tokens are ids. It is 0, which is no id, for any other token.
func progressOf(m rpc.Message) int64 {
	id, err := strconv.ParseInt(string(rpc.Find(m.Raw, m.Params, memberToken)[0].Of(m.Raw)), 10, 64)
	if err != nil {
		return 0
	}
	return id
}

// stray has the sink take a message that came on another stream. Who reads that stream does not wait for it.
func (x *exchange) stray(m rpc.Message) {
	x.over.Lock()
	defer x.over.Unlock()
	if x.isOver {
		return
	}
	if x.strays == nil {
		x.strays, x.settled = newInbox(), make(chan struct{})
		go x.takeStrays(x.strays, x.settled)
	}
	if !x.strays.put(m) {
		x.leaveOut(m)
	}
}

// takeStrays has the sink take what comes until the exchange is settled, which waits for it.
func (x *exchange) takeStrays(strays *inbox, settled chan<- struct{}) {
	defer close(settled)
	for more := true; more; {
		<-strays.ready
		var messages [][]byte
		messages, more = strays.take()
		for _, raw := range messages {
			if x.take(parse(raw)) != nil {
				x.end() // whoever reads the stream of the call need not go on
			}
		}
	}
}

// leaveOut does without a message for which there is no room. What the backend asks is refused, so that it does not wait for the client.
func (x *exchange) leaveOut(m rpc.Message) {
	x.client.dropped(m)
	if m.Kind == rpc.Request && x.reply != nil {
		x.client.answerWith(tooMuch, m, x.reply)
	}
}

func (c *Client) dropped(m rpc.Message) {
	c.log.Debug("a client is slower than the backend sends: a message was dropped", "method", m.Method)
}
