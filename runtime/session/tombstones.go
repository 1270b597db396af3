// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"sync"
	"time"
)

// Tombstones are the sessions that their clients have ended before their age did: their ids can still be opened. It is safe for
// concurrent use, and its zero value with a Limit is empty.
type Tombstones struct {
	// Limit bounds how many are kept, at 40 bytes each. Beyond it the oldest is forgotten, and its id works again until its age ends it,
	// for its own client only.
	Limit int

	mu    sync.Mutex
	ended map[[16]byte]struct{}
	order []tombstone // a ring once it has Limit elements
	first int         // the oldest of them
	count int
}

type tombstone struct {
	serial  [16]byte
	expires time.Time
}

// Bury notes that a session has ended. It returns false if that was known.
func (t *Tombstones) Bury(i Info, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.ended[i.Serial]; known {
		return false
	}
	for t.count > 0 && now.After(t.order[t.first].expires) {
		t.forgetFirst()
	}
	if t.count == t.Limit {
		t.forgetFirst()
	}
	if t.ended == nil {
		t.ended = map[[16]byte]struct{}{}
	}
	t.ended[i.Serial] = struct{}{}
	t.push(tombstone{i.Serial, i.Expires()})
	return true
}

// Buried says whether a session has ended.
func (t *Tombstones) Buried(i Info) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, known := t.ended[i.Serial]
	return known
}

// Len is how many are kept.
func (t *Tombstones) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.count
}

func (t *Tombstones) push(s tombstone) {
	if t.count == len(t.order) { // grow, up to Limit
		grown := make([]tombstone, min(max(2*len(t.order), 16), t.Limit))
		for i := range t.count {
			grown[i] = t.order[(t.first+i)%len(t.order)]
		}
		t.order, t.first = grown, 0
	}
	t.order[(t.first+t.count)%len(t.order)] = s
	t.count++
}

func (t *Tombstones) forgetFirst() {
	delete(t.ended, t.order[t.first].serial)
	t.first = (t.first + 1) % len(t.order)
	t.count--
}
