// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

const (
	// loadTimeout bounds the reading of a backend's lists, which may take many pages.
	loadTimeout = 30 * time.Second
	// reloadInterval is how often the lists of a backend that announces nothing are read again.
	reloadInterval = 5 * time.Minute
)

// Backend is what a Monitor needs of a backend.
type Backend interface {
	// Probe asks for a sign of life. It ends with its context.
	Probe(ctx context.Context) error
	// Load reads what the backend offers and keeps it, so that it is there when the verdict says that the backend is served.
	Load(ctx context.Context) error
	// Classify says what an error of Probe or Load means.
	Classify(err error) Fault
}

// Fault is what an error says about a backend.
type Fault struct {
	// Reason and Message are in the terms of status.discoveredBackends.
	Reason, Message string
	// Unauthorized says that the backend is there and wants other credentials.
	Unauthorized bool
}

// Observer hears about probes and verdicts. It is called by one goroutine and must not block.
type Observer struct {
	// Verdict is called when the verdict changed.
	Verdict func(Verdict)
	// Loaded is called when the lists of a backend were read.
	Loaded func()
	// Probed is called after each probe; err is nil when it was answered.
	Probed func(took time.Duration, err error)
}

// Monitor watches one backend: it probes, one probe at a time, and listens to the outcome of real calls.
type Monitor struct {
	policy   Policy
	backend  Backend
	observer Observer

	mu      sync.Mutex
	machine *Machine
	stale   bool // the lists are to be read with the next probe

	wake chan struct{} // the verdict may have changed
	now  chan struct{} // a probe is wanted at once
}

// NewMonitor makes the monitor of a backend of which nothing is known. It does nothing before Run.
func NewMonitor(p Policy, b Backend, o Observer) *Monitor {
	return &Monitor{
		policy:   p,
		backend:  b,
		observer: o,
		machine:  NewMachine(p, time.Now()),
		stale:    true,
		wake:     make(chan struct{}, 1),
		now:      make(chan struct{}, 1),
	}
}

// Verdict is the present verdict. It is safe for concurrent use.
func (m *Monitor) Verdict() Verdict {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.machine.Verdict()
}

// CallSucceeded says that a real call was answered. It is safe for concurrent use and does not block.
func (m *Monitor) CallSucceeded() { m.observe(Outcome{Event: CallSucceeded}) }

// CallFailed says that a real call found no MCP server at the address; a probe follows at once. It is safe for concurrent use and
// does not block.
func (m *Monitor) CallFailed(f Fault) {
	m.observe(Outcome{Event: CallFailed, Reason: f.Reason, Message: f.Message})
	m.Check()
}

// Check asks for a probe at once. It is safe for concurrent use and does not block.
func (m *Monitor) Check() { signal(m.now) }

// Reload asks for a probe that reads the lists of the backend anew, at once. It is safe for concurrent use and does not block.
func (m *Monitor) Reload() {
	m.setStale(true)
	m.Check()
}

// result is the outcome of a probe and of the reading of lists that may follow it.
type result struct {
	outcome Outcome
	loaded  bool
	err     error
	took    time.Duration
}

// Run probes until ctx ends. It returns when the last probe ended.
func (m *Monitor) Run(ctx context.Context) {
	var (
		next    = time.NewTimer(0)
		slow    = time.NewTimer(time.Hour)
		reload  = time.NewTicker(reloadInterval)
		results = make(chan result)
		open    bool // a probe is under way
		again   bool // another one is wanted when it ends
		ended   time.Time
		told    = m.Verdict()
	)
	defer next.Stop()
	defer slow.Stop()
	defer reload.Stop()
	slow.Stop()
	start := func() {
		next.Stop()
		open, again = true, false
		slow.Reset(m.policy.SlowAfter)
		go func() { results <- m.probe(ctx) }()
	}
	for {
		select {
		case <-ctx.Done():
			if open {
				<-results
			}
			return
		case <-next.C:
			if !open {
				start()
			}
		case <-m.now:
			if open {
				again = true
			} else if wait := m.settle(ended); wait > 0 {
				next.Reset(wait)
			} else {
				start()
			}
		case <-reload.C:
			m.setStale(true)
		case <-slow.C:
			m.observe(Outcome{Event: ProbeSlow})
		case r := <-results:
			open = false
			slow.Stop()
			if ctx.Err() != nil {
				return // the probe ended because we did
			}
			ended = time.Now()
			m.finish(r)
			if again && m.settle(ended) == 0 {
				start()
			} else {
				next.Reset(m.pause())
			}
		case <-m.wake:
		}
		if v := m.Verdict(); v != told {
			told = v
			m.observer.Verdict(v)
		}
	}
}

// probe asks the backend for a sign of life, and for its lists when they are not known, or may have changed.
func (m *Monitor) probe(ctx context.Context) result {
	began := time.Now()
	err := m.bounded(ctx, m.policy.NoAnswerAfter, m.backend.Probe)
	took := time.Since(began)
	if err != nil {
		return result{outcome: m.judge(err, took), err: err, took: took}
	}
	r := result{outcome: Outcome{Event: ProbeSucceeded, Took: took}, took: took}
	m.mu.Lock()
	load := m.stale || !m.machine.Verdict().Status.Served()
	m.stale = false // a change that is announced from here on is read by the next probe
	m.mu.Unlock()
	if !load {
		return r
	}
	if err := m.bounded(ctx, loadTimeout, m.backend.Load); err != nil {
		m.setStale(true)
		return result{outcome: m.judge(err, time.Since(began)), err: err, took: took}
	}
	r.loaded = true
	return r
}

// errNoAnswer is the cause of a context that ends because the backend was given up.
var errNoAnswer = errors.New("no answer")

func (m *Monitor) bounded(ctx context.Context, limit time.Duration, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errNoAnswer)
	defer cancel()
	err := do(ctx)
	if err != nil && errors.Is(context.Cause(ctx), errNoAnswer) {
		return fmt.Errorf("%w within %s", errNoAnswer, limit)
	}
	return err
}

func (m *Monitor) judge(err error, took time.Duration) Outcome {
	if errors.Is(err, errNoAnswer) {
		return Outcome{
			Event: ProbeTimedOut, Took: took, Reason: v1alpha1.ReasonTimeout,
			Message: fmt.Sprintf("The backend gave %v.", err),
		}
	}
	f := m.backend.Classify(err)
	o := Outcome{Event: ProbeFailed, Took: took, Reason: f.Reason, Message: f.Message}
	if f.Unauthorized {
		o.Event = ProbeUnauthorized
	}
	return o
}

func (m *Monitor) finish(r result) {
	m.observe(r.outcome)
	if m.observer.Probed != nil {
		m.observer.Probed(r.took, r.err)
	}
	if r.loaded && m.observer.Loaded != nil {
		m.observer.Loaded()
	}
}

// pause is the time until the next probe.
func (m *Monitor) pause() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.machine.Suspect() {
		return m.policy.RetryInterval
	}
	spread := (2*rand.Float64() - 1) * m.policy.Jitter //nolint:gosec // Jitter needs no secret.
	return m.policy.Interval + time.Duration(spread*float64(m.policy.Interval))
}

// settle is the time that a probe has to wait although it is wanted at once: the errors of a suspect backend must be spread over
// some time, or a burst of failing calls would use them up within the moment that a restart takes.
func (m *Monitor) settle(ended time.Time) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ended.IsZero() || !m.machine.Suspect() {
		return 0
	}
	return max(0, m.policy.RetryInterval-time.Since(ended))
}

func (m *Monitor) observe(o Outcome) {
	m.mu.Lock()
	before := m.machine.Verdict()
	changed := m.machine.Observe(time.Now(), o) != before
	m.mu.Unlock()
	if changed {
		signal(m.wake)
	}
}

func (m *Monitor) setStale(stale bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stale = stale
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
