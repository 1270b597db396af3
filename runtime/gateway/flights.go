// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"sync"
	"time"
)

// flights are the HTTP requests under way, and the calls of backends among them.
type flights struct {
	mu       sync.Mutex
	closed   bool
	requests int
	calls    int
	first    *flight       // a list of the calls
	quiet    chan struct{} // closed when the last request has ended; nil if nobody waits for that
}

// flight is a call of a backend.
type flight struct {
	cancel     context.CancelFunc
	next, prev *flight
}

// begin counts a request in, unless the gateway is closing.
func (f *flights) begin() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	f.requests++
	return true
}

// join counts a request in that has to do with one under way, which may end while the gateway is closing.
func (f *flights) join() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed && f.requests == 0 {
		return false
	}
	f.requests++
	return true
}

func (f *flights) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests--
	f.tellQuiet()
}

// calm is closed as soon as there is no request: for a moment, or after close for good.
func (f *flights) calm() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.quiet == nil {
		f.quiet = make(chan struct{})
	}
	calm := f.quiet
	f.tellQuiet()
	return calm
}

// tellQuiet needs the lock.
func (f *flights) tellQuiet() {
	if f.requests == 0 && f.quiet != nil {
		close(f.quiet)
		f.quiet = nil
	}
}

// start counts a call in, unless there are limit of them.
func (f *flights) start(c *flight, limit int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.calls >= limit {
		return false
	}
	f.calls++
	c.next = f.first
	if c.next != nil {
		c.next.prev = c
	}
	f.first = c
	return true
}

func (f *flights) stop(c *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls--
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		f.first = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
}

// close lets no request begin any more.
func (f *flights) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
}

func (f *flights) isClosed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closed
}

// cancel ends all calls.
func (f *flights) cancel() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := f.first; c != nil; c = c.next {
		c.cancel()
	}
}

// debounce runs a function some time after it was asked to, once for all that asked meanwhile, and never twice at a time.
type debounce struct {
	delay time.Duration
	f     func()

	running sync.Mutex // held while f runs

	mu      sync.Mutex // guards the fields below
	pending *time.Timer
	closed  bool
}

func newDebounce(delay time.Duration, f func()) *debounce { return &debounce{delay: delay, f: f} }

func (d *debounce) ask() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed && d.pending == nil {
		d.pending = time.AfterFunc(d.delay, d.run)
	}
}

func (d *debounce) run() {
	d.running.Lock()
	defer d.running.Unlock()
	d.mu.Lock()
	closed := d.closed
	d.pending = nil
	d.mu.Unlock()
	if !closed {
		d.f()
	}
}

// close waits for a run under way and prevents further ones.
func (d *debounce) close() {
	d.mu.Lock()
	d.closed = true
	if d.pending != nil {
		d.pending.Stop()
	}
	d.mu.Unlock()
	d.running.Lock() // a run under way ends first
	defer d.running.Unlock()
}
