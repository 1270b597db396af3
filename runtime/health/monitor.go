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
	// loadTimeout bounds the wait for each answer while a backend's lists are read, which may be large and take many pages.
	loadTimeout = 30 * time.Second
	// reloadInterval is how often the lists of a backend that announces nothing are read again.
	reloadInterval = 5 * time.Minute
)

// Backend is what a Monitor needs of a backend.
type Backend interface {
	// Probe asks for a sign of life, which may take several requests. It ends with its context. It calls answered, which may be called at any
	// time, whenever the backend answered one of them: the time without any answer begins anew then.
	Probe(ctx context.Context, answered func()) error
	// Load reads what the backend offers and keeps it, so that it is there when the verdict says that the backend is served. It ends with its
	// context, and calls answered as Probe does.
	Load(ctx context.Context, answered func()) error
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
	// Confirmed is called when the verdict rests on a probe again after Recheck, whether it changed or not.
	Confirmed func()
	// Probed is called after each probe; err is nil when it was answered.
	Probed func(took time.Duration, err error)
}

// Monitor watches one backend: it probes, one probe at a time, and listens to the outcome of real calls.
type Monitor struct {
	backend  Backend
	observer Observer
	resumed  func() time.Time

	mu      sync.Mutex
	machine *Machine
	stale   bool // the lists are to be read with the next probe
	standby bool
	asked   bool      // Confirmed is to be called
	probed  time.Time // when the verdict was last found to be true by a probe

	wake    chan struct{} // the verdict may have changed
	now     chan struct{} // a probe is wanted at once
	recheck chan struct{} // the verdict is to be confirmed
}

// NewMonitor makes the monitor of a backend of which nothing is known. It does nothing before Run. resumed says when this process
// went on after its last pause: a probe that was open then proves nothing. It may be nil, and is safe for concurrent use.
func NewMonitor(p Policy, b Backend, o Observer, resumed func() time.Time) *Monitor {
	return &Monitor{
		backend:  b,
		observer: o,
		resumed:  resumed,
		machine:  NewMachine(p, time.Now()),
		stale:    true,
		wake:     make(chan struct{}, 1),
		now:      make(chan struct{}, 1),
		recheck:  make(chan struct{}, 1),
	}
}

// Verdict is the present verdict. It is safe for concurrent use.
func (m *Monitor) Verdict() Verdict {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.machine.Verdict()
}

// Policy is the present policy. It is safe for concurrent use.
func (m *Monitor) Policy() Policy {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.machine.Policy()
}

// SetPolicy judges by another policy from now on, and asks for a probe, after which its times are those of the policy. It is safe for
// concurrent use and does not block.
func (m *Monitor) SetPolicy(p Policy) {
	m.mu.Lock()
	changed := m.machine.Policy() != p
	if changed {
		m.machine.SetPolicy(p)
	}
	m.mu.Unlock()
	if changed {
		m.Check()
	}
}

// Probed is when a probe last confirmed the verdict, or changed it; zero before the first one. A verdict that the next probes have
// to decide about is not confirmed. It is safe for concurrent use.
func (m *Monitor) Probed() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.probed
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
	m.setStale()
	m.Check()
}

// Recheck asks for a probe at once, and for a call of Observer.Confirmed when the verdict rests on one that ended after now. It is
// safe for concurrent use and does not block.
func (m *Monitor) Recheck() {
	m.mu.Lock()
	m.asked = true
	m.mu.Unlock()
	signal(m.recheck)
}

// Standby says whether another replica reports, so that this one probes at Policy.StandbyInterval unless something is wrong. It
// takes effect after the next probe. It is safe for concurrent use and does not block.
func (m *Monitor) Standby(standby bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.standby = standby
}

// probe asks the backend for a sign of life, and for its lists when they are not known, or may have changed.
func (m *Monitor) probe(ctx context.Context, began time.Time) result {
	err := m.bounded(ctx, m.Policy().NoAnswerAfter, m.backend.Probe)
	took := time.Since(began)
	if err != nil {
		return result{began: began, outcome: m.judge(err, took), err: err, took: took}
	}
	r := result{began: began, outcome: Outcome{Event: ProbeSucceeded, Took: took}, took: took}
	m.mu.Lock()
	load := m.stale || !m.machine.Verdict().Status.Served()
	m.stale = false // a change that is announced from here on is read by the next probe
	m.mu.Unlock()
	if !load {
		return r
	}
	if err := m.bounded(ctx, loadTimeout, m.backend.Load); err != nil {
		m.setStale()
		return result{began: began, outcome: m.judge(err, time.Since(began)), err: err, took: took}
	}
	r.loaded = true
	return r
}

// errNoAnswer is the cause of a context that ends because the backend was given up.
var errNoAnswer = errors.New("no answer")

// bounded ends do when there was no answer for a time.
func (m *Monitor) bounded(ctx context.Context, limit time.Duration, do func(ctx context.Context, answered func()) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	patience := time.AfterFunc(limit, func() { cancel(errNoAnswer) })
	defer patience.Stop()
	err := do(ctx, func() { patience.Reset(limit) })
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
	if !m.suspect() {
		m.confirm()
	}
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
		return m.machine.Policy().RetryInterval
	}
	p := m.machine.Policy()
	interval := p.Interval
	if m.standby {
		interval = max(interval, p.StandbyInterval)
	}
	spread := (2*rand.Float64() - 1) * p.Jitter //nolint:gosec // Jitter needs no secret.
	return interval + time.Duration(spread*float64(interval))
}

// settle is the time that a probe has to wait although it is wanted at once: the errors of a suspect backend must be spread over
// some time, or a burst of failing calls would use them up within the moment that a restart takes.
func (m *Monitor) settle(ended time.Time) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ended.IsZero() || !m.machine.Suspect() {
		return 0
	}
	return max(0, m.machine.Policy().RetryInterval-time.Since(ended))
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

// confirm notes that the verdict is true at this moment.
func (m *Monitor) confirm() {
	m.mu.Lock()
	m.probed = time.Now()
	asked := m.asked
	m.asked = false
	m.mu.Unlock()
	if asked && m.observer.Confirmed != nil {
		m.observer.Confirmed()
	}
}

func (m *Monitor) suspect() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.machine.Suspect()
}

// void says that the process was paused since: what began before, such as a deadline, says nothing about the backend.
func (m *Monitor) void(began time.Time) bool {
	return m.resumed != nil && m.resumed().After(began)
}

func (m *Monitor) setStale() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stale = true
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
