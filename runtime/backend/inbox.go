// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"slices"
	"sync"

	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
)

// maxInbox is how many bytes of notifications may wait for one call. A client that lags behind further misses some. One request, which may be
// large, is taken while there are fewer.
const maxInbox = 1 << 20

// inbox holds the messages for one call that come on a stream which others read as well: whoever puts something in does not wait. It
// belongs to the goroutine of the call.
type inbox struct {
	// ready has something in it after put, or close.
	ready chan struct{}

	mu       sync.Mutex // guards the fields below
	queue    [][]byte
	bytes    int
	answered bool // the response was put in
	closed   bool
}

func newInbox() *inbox { return &inbox{ready: make(chan struct{}, 1)} }

// put takes a copy of a message, and says whether there is room. For the response there always is, because the call cannot end without it;
// what comes after it is of no use any more.
func (i *inbox) put(m rpc.Message) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.answered || !i.hasRoom(m) {
		return false
	}
	i.answered = m.Kind.IsResponse()
	i.queue = append(i.queue, slices.Clone(m.Raw))
	i.bytes += len(m.Raw)
	i.signal()
	return true
}

// hasRoom says whether a message may be put in; mu is held.
func (i *inbox) hasRoom(m rpc.Message) bool {
	switch m.Kind {
	case rpc.Notification: // one of many
		return i.bytes+len(m.Raw) <= maxInbox
	case rpc.Request:
		return i.bytes < maxInbox
	default:
		return true
	}
}

// close says that nothing is put in any more.
func (i *inbox) close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closed = true
	i.signal()
}

func (i *inbox) signal() {
	select {
	case i.ready <- struct{}{}:
	default:
	}
}

// take takes the messages that there are out. more says that others may come.
func (i *inbox) take() (messages [][]byte, more bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	messages, i.queue, i.bytes = i.queue, nil, 0
	return messages, !i.closed
}
