// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package bridge

import "sync"

// queue holds messages from the server until the stream that they belong to takes them. It never blocks the writer: one
// client that does not read must not stop the server's other calls.
type queue struct {
	maxItems, maxBytes int
	// wake receives a value after a push; a reader that got it reads until the queue is empty.
	wake chan struct{}

	mu    sync.Mutex
	items [][]byte
	bytes int
}

func newQueue(maxItems, maxBytes int) *queue {
	return &queue{maxItems: maxItems, maxBytes: maxBytes, wake: make(chan struct{}, 1)}
}

// push appends a message, or says that the queue is full. A message always fits into an empty queue.
func (q *queue) push(raw []byte) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) > 0 && (len(q.items) >= q.maxItems || q.bytes+len(raw) > q.maxBytes) {
		return false
	}
	q.items = append(q.items, raw)
	q.bytes += len(raw)
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return true
}

// peek is the oldest message. There is one reader, so drop removes the same.
func (q *queue) peek() ([]byte, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) == 0 {
		return nil, false
	}
	return q.items[0], true
}

// drop removes the oldest message.
func (q *queue) drop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.bytes -= len(q.items[0])
	q.items[0] = nil
	q.items = q.items[1:]
}
