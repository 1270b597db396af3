// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"sync"
	"time"
)

// announceDelay merges a burst of announcements into one: servers send one for every tool that they add.
const announceDelay = 100 * time.Millisecond

// announcer calls a function some time after it was asked to, once for all requests made meanwhile, and never twice at a time.
type announcer struct {
	running sync.Mutex // held while f runs

	mu      sync.Mutex // guards the fields below
	f       func()
	pending *time.Timer
	closed  bool
}

func (a *announcer) set(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.f = f
}

func (a *announcer) announce() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || a.pending != nil {
		return
	}
	a.pending = time.AfterFunc(announceDelay, a.run)
}

func (a *announcer) run() {
	a.running.Lock()
	defer a.running.Unlock()
	a.mu.Lock()
	f := a.f
	a.pending = nil
	if a.closed {
		f = nil
	}
	a.mu.Unlock()
	if f != nil {
		f()
	}
}

// close waits for a call under way and prevents further ones.
func (a *announcer) close() {
	a.mu.Lock()
	a.closed = true
	if a.pending != nil {
		a.pending.Stop()
	}
	a.mu.Unlock()
	a.running.Lock()
	defer a.running.Unlock()
}
