// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// book is where the run writes down what it did and what it saw.
type book struct {
	began time.Time
	out   io.Writer

	mu       sync.Mutex
	truth    truth
	history  history
	faults   map[faultKind]int
	resource uint64 // the newest resource version of the status
	told     int    // lies that were printed
}

func newBook(out io.Writer) *book {
	return &book{out: out, truth: truth{backends: map[string][]change{}}, faults: map[faultKind]int{}}
}

// begin begins the run: what is known is what was so before it.
func (b *book) begin() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.began = time.Now()
}

func (b *book) now() time.Duration { return time.Since(b.began) }

func (b *book) say(format string, values ...any) {
	fmt.Fprintf(b.out, "%6.1f s  %s\n", b.now().Seconds(), fmt.Sprintf(format, values...))
}

// before writes down what is so before the run.
func (b *book) before(backend, tools string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.truth.backends[backend] = []change{{event: beforeTheRun, tools: tools}}
}

// change makes something else true of a backend by do, and writes it down: from before do on, for do may show before it returns.
func (b *book) change(backend string, e event, tools string, busy bool, do func() error) error {
	b.mu.Lock()
	if b.truth.backends[backend] == nil {
		b.truth.backends[backend] = []change{{event: left}}
	}
	i := len(b.truth.backends[backend])
	b.truth.backends[backend] = append(b.truth.backends[backend], change{event: e, from: b.now(), at: forever, tools: tools, busy: busy})
	b.mu.Unlock()
	err := do()
	b.mu.Lock()
	b.truth.backends[backend][i].at = b.now()
	b.mu.Unlock()
	b.say("%s: %s", backend, e)
	return err
}

// away writes down that a process does not run, by stop, until the function that it returns, which makes it run again by another.
func (b *book) away(list *[]outage, fresh bool, stop func() error) (back func(start func() error) error, err error) {
	b.mu.Lock()
	i := len(*list)
	*list = append(*list, outage{from: b.now(), to: forever, fresh: fresh})
	b.mu.Unlock()
	if err := stop(); err != nil {
		return nil, err
	}
	return func(start func() error) error {
		err := start()
		b.mu.Lock()
		defer b.mu.Unlock()
		(*list)[i].to = b.now()
		return err
	}, nil
}

// report writes down the status as it was read at a resource version. What is older than what was read before tells nothing.
func (b *book) report(r reported, resource uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.began.IsZero() || r.sent < 0 || resource < b.resource {
		return
	}
	if n := len(b.history.reports); n == 0 || b.history.reports[n-1].written != r.written {
		b.truth.writes = append(b.truth.writes, r.received)
	}
	if n := len(b.history.reports); n == 0 || b.history.reports[n-1].phase != r.phase {
		fmt.Fprintf(b.out, "%6.1f s      phase %s: %s\n", r.received.Seconds(), r.phase, r.message)
	}
	b.resource = resource
	b.history.reports = append(b.history.reports, r)
}

// list writes down a list of tools.
func (b *book) list(l listed) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.began.IsZero() || l.sent < 0 {
		return
	}
	b.history.lists = append(b.history.lists, l)
}

// judge judges what was seen so far, and says what lies there are that were not there before.
func (b *book) judge() []lie {
	b.mu.Lock()
	defer b.mu.Unlock()
	lies := judge(&b.truth, &b.history)
	for _, l := range lies[min(b.told, len(lies)):] {
		fmt.Fprintf(b.out, "%6.1f s  LIE: %s\n", b.now().Seconds(), l)
	}
	b.told = max(b.told, len(lies))
	return lies
}
