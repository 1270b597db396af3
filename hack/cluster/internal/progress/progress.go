// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package progress tells a person what is going on: one line when a step
// starts, one when it ends with the time it took, and a sign of life in between.
package progress

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// heartbeat is the time after which a step that still runs says so.
const heartbeat = 10 * time.Second

// Reporter writes progress lines. It is safe for concurrent use.
type Reporter struct {
	mu    sync.Mutex
	out   io.Writer
	start time.Time
}

// New returns a Reporter whose total starts now.
func New(out io.Writer) *Reporter { return &Reporter{out: out, start: time.Now()} }

// Step runs f and reports its start, every ten seconds of it, and its end.
func (r *Reporter) Step(name string, f func() error) error {
	start := time.Now()
	r.printf("==> %s …\n", name)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(heartbeat)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				r.printf("    %s … %.0fs\n", name, time.Since(start).Seconds())
			}
		}
	}()
	err := f()
	close(stop)
	<-stopped
	outcome := "done in"
	if err != nil {
		outcome = "failed after"
	}
	r.printf("    %s: %s %.1fs\n", name, outcome, time.Since(start).Seconds())
	return err
}

// Say writes a line that is not a step.
func (r *Reporter) Say(format string, args ...any) { r.printf("==> "+format+"\n", args...) }

// Total returns the time since the Reporter was made, for the last line.
func (r *Reporter) Total() string { return fmt.Sprintf("%.1fs", time.Since(r.start).Seconds()) }

func (r *Reporter) printf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	// Progress that cannot be shown is no reason to fail.
	_, _ = fmt.Fprintf(r.out, format, args...)
}
