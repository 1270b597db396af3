// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package pause notices that this process stood still: it was stopped and continued (SIGSTOP, a frozen cgroup), its machine was
// suspended, or it got no time to run. What it knew before it may have become false meanwhile without its noticing.
package pause

import (
	"context"
	"sync"
	"time"
)

const (
	// Interval is how often a Detector looks at the clock.
	Interval = time.Second
	// Limit is how long after the last look a look tells of a pause. It is far from what a busy machine or a long collection of
	// garbage makes of Interval, and shorter than any time after which somebody else takes our silence for our end.
	Limit = 5 * time.Second
)

// Detector notices pauses of the process by a look at the clock that comes much too late. It needs no help from the system, which
// does not tell a process that it was stopped by SIGSTOP. The zero value notices nothing before Run.
type Detector struct {
	mu      sync.Mutex
	looked  *reading // nil while Run does not run
	resumed time.Time
	notify  []func()
}

// Resumed is when the process went on after its last pause, as far as it is known: the time of the first look at the clock; zero
// when there was no pause. It looks by itself, so that whoever asks before he acts cannot overtake Run. It is safe for concurrent use.
func (d *Detector) Resumed() time.Time {
	d.look(read())
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.resumed
}

// OnResume has a function called after each pause, once. It must not block, nor call back.
func (d *Detector) OnResume(do func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.notify = append(d.notify, do)
}

// Run looks at the clock until ctx ends.
func (d *Detector) Run(ctx context.Context) {
	now := read()
	d.begin(&now)
	defer d.begin(nil)
	ticker := time.NewTicker(Interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			d.look(read())
		}
	}
}

func (d *Detector) begin(now *reading) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.looked = now
}

func (d *Detector) look(now reading) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.looked == nil {
		return
	}
	paused := now.since(*d.looked) >= Limit
	d.looked = &now
	if !paused {
		return
	}
	d.resumed = time.Now()
	for _, do := range d.notify {
		do()
	}
}

// reading is one of both clocks. The monotonic clock goes on while a process is stopped but stands still while its machine is
// suspended; the wall clock has gone on when the machine is back, or is set right soon after.
type reading struct {
	monotonic time.Duration // since the process began
	wall      time.Time
}

var began = time.Now()

func read() reading {
	now := time.Now()
	return reading{monotonic: now.Sub(began), wall: now.Round(0)}
}

// since is the time from an earlier reading, by the clock that counted more of it. A wall clock that somebody sets to a later time
// looks like a pause, which costs a round of probes and nothing else; one that is set back looks like nothing.
func (r reading) since(earlier reading) time.Duration {
	return max(r.monotonic-earlier.monotonic, r.wall.Sub(earlier.wall))
}
