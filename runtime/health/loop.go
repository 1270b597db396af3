// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// result is the outcome of a probe and of the reading of lists that may follow it.
type result struct {
	began   time.Time
	outcome Outcome
	loaded  bool
	err     error
	took    time.Duration
}

// loop is a Monitor that runs. One goroutine owns it.
type loop struct {
	*Monitor
	next, slow *time.Timer
	results    chan result

	open   bool // a probe is under way
	began  time.Time
	cancel context.CancelFunc
	late   bool // it is unanswered for Policy.SlowAfter
	again  bool // another one is wanted when it ends
	ended  time.Time
}

// Run probes until ctx ends. It returns when the last probe ended.
func (m *Monitor) Run(ctx context.Context) {
	l := &loop{Monitor: m, next: time.NewTimer(0), slow: time.NewTimer(time.Hour), results: make(chan result)}
	defer l.next.Stop()
	defer l.slow.Stop()
	l.slow.Stop()
	reload := time.NewTicker(reloadInterval)
	defer reload.Stop()
	told := m.Verdict()
	for {
		select {
		case <-ctx.Done():
			if l.open {
				l.cancel()
				<-l.results
			}
			return
		case <-l.next.C:
			if !l.open {
				l.start(ctx)
			}
		case <-m.now:
			l.probeNow(ctx)
		case <-m.recheck:
			l.confirmNow(ctx)
		case <-reload.C:
			m.setStale()
		case <-l.slow.C:
			l.slowed()
		case r := <-l.results:
			l.close()
			if ctx.Err() != nil {
				return // the probe ended because we did
			}
			l.conclude(ctx, r)
		case <-m.wake:
		}
		if v := m.Verdict(); v != told {
			told = v
			m.observer.Verdict(v)
		}
	}
}

func (l *loop) start(ctx context.Context) {
	l.next.Stop()
	l.open, l.began, l.late, l.again = true, time.Now(), false, false
	l.slow.Reset(l.Policy().SlowAfter)
	ctx, l.cancel = context.WithCancel(ctx)
	go func(began time.Time) { l.results <- l.probe(ctx, began) }(l.began)
}

func (l *loop) close() {
	l.cancel()
	l.slow.Stop()
	l.open, l.ended = false, time.Now()
}

// probeNow begins a probe that is wanted at once, as soon as it may.
func (l *loop) probeNow(ctx context.Context) {
	if l.open {
		l.again = true
	} else if wait := l.settle(l.ended); wait > 0 {
		l.next.Reset(wait)
	} else {
		l.start(ctx)
	}
}

// confirmNow sees to it that a probe confirms the verdict. One that is open will do, unless it was open while the process paused.
func (l *loop) confirmNow(ctx context.Context) {
	switch {
	case !l.open:
		l.probeNow(ctx)
	case l.void(l.began):
		l.cancel()
	case l.late:
		l.confirmSlow()
	}
}

func (l *loop) slowed() {
	if l.void(l.began) {
		return // it had no time to be answered in
	}
	l.late = true
	l.observe(Outcome{Event: ProbeSlow})
	l.confirmSlow()
}

// confirmSlow takes a probe that stays unanswered for what it tells of the verdict: that it is true, unless an answer would have
// been needed to tell.
func (l *loop) confirmSlow() {
	if s := l.Verdict().Status; s.Served() || s == v1alpha1.BackendUnavailable {
		l.confirm()
	}
}

// conclude draws the conclusion from a probe and arranges for the next one.
func (l *loop) conclude(ctx context.Context, r result) {
	if l.void(r.began) {
		l.setStale() // it may have read the lists in part
		l.start(ctx)
		return
	}
	l.finish(r)
	if l.again && l.settle(l.ended) == 0 {
		l.start(ctx)
	} else {
		l.next.Reset(l.pause())
	}
}
