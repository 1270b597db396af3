// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package health decides whether a backend is alive. Machine is the decision, pure and without a clock of its own; Monitor feeds
// it with probes and with the outcome of real calls. The verdict is the only one there is: it decides the phase that is reported,
// what is in the catalog, and what is called.
package health

import (
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// Policy holds the times and counts by which a backend is judged.
type Policy struct {
	// Interval is the time from the answer to a probe to the next probe.
	Interval time.Duration
	// StandbyInterval takes the place of Interval in a replica that does not report.
	StandbyInterval time.Duration
	// Jitter is the share, from 0 to 1, by which both vary at random in both directions, so that many backends are not
	// probed in step.
	Jitter float64
	// RetryInterval is the time to the next probe after an error, while the errors are too few to give the backend up.
	RetryInterval time.Duration
	// Threshold is the number of errors in a row that make a backend unavailable.
	Threshold int
	// SlowAfter is the time after which an unanswered probe makes a backend degraded.
	SlowAfter time.Duration
	// NoAnswerAfter is the time without any answer, to a probe or to a call, that makes a backend unavailable.
	NoAnswerAfter time.Duration
}

// DefaultPolicy is the policy of a gateway that names none.
func DefaultPolicy() Policy {
	return Policy{
		Interval:        5 * time.Second,
		StandbyInterval: 30 * time.Second,
		Jitter:          0.1,
		RetryInterval:   time.Second,
		Threshold:       3,
		SlowAfter:       2 * time.Second,
		NoAnswerAfter:   12 * time.Second,
	}
}

// With is the policy with what a configuration says of it.
func (p Policy) With(h v1alpha1.Health) Policy {
	set := func(d *time.Duration, seconds int32) {
		if seconds > 0 {
			*d = time.Duration(seconds) * time.Second
		}
	}
	set(&p.Interval, h.IntervalSeconds)
	set(&p.SlowAfter, h.SlowSeconds)
	set(&p.NoAnswerAfter, h.TimeoutSeconds)
	if h.FailureThreshold > 0 {
		p.Threshold = int(h.FailureThreshold)
	}
	p.RetryInterval = min(p.RetryInterval, p.Interval)
	return p
}

// Event is what happened to a probe or to a call.
type Event int

// The events that a Machine observes.
const (
	// ProbeSucceeded: the backend answered, and what it offers is known. Took says how long the answer took.
	ProbeSucceeded Event = iota
	// ProbeSlow: a probe is unanswered for Policy.SlowAfter, and stays open.
	ProbeSlow
	// ProbeTimedOut: a probe is given up unanswered. Took says how long it was open.
	ProbeTimedOut
	// ProbeFailed: a probe met an error, or the lists of the backend could not be read.
	ProbeFailed
	// ProbeUnauthorized: the backend refused a probe for want of good credentials.
	ProbeUnauthorized
	// CallSucceeded: a real call was answered, be it with an MCP error.
	CallSucceeded
	// CallFailed: a real call found no MCP server at the address.
	CallFailed
)

// Outcome is an event with what is known about it.
type Outcome struct {
	Event Event
	// Took is the time from the probe to its answer or end.
	Took time.Duration
	// Reason and Message say what went wrong, in the terms of status.discoveredBackends.
	Reason, Message string
}

// Verdict is what the gateway thinks of a backend.
type Verdict struct {
	Status v1alpha1.BackendStatus
	// Reason and Message say why, in the terms of status.discoveredBackends.
	Reason, Message string
	// Since is when Status began.
	Since time.Time
}

// Messages of the verdicts that are not an error's.
const (
	messageProbing = "The backend has not answered yet."
	messageReady   = "The backend answers."
	messageSlow    = "The backend answers slowly."
)

// Machine judges one backend from what is observed of it. It is not safe for concurrent use.
type Machine struct {
	policy  Policy
	verdict Verdict
	// errors counts the errors since the last answer.
	errors int
	// lastError and lastAnswer are when the last error and the last answer were observed.
	lastError, lastAnswer time.Time
	// pending is a reason other than the one in the verdict, seen pendingCount times in a row while the backend is unavailable.
	pending      string
	pendingCount int
}

// NewMachine makes the machine of a backend of which nothing is known.
func NewMachine(p Policy, now time.Time) *Machine {
	return &Machine{policy: p, verdict: Verdict{
		Status: v1alpha1.BackendUnknown, Reason: v1alpha1.ReasonProbing, Message: messageProbing, Since: now,
	}}
}

// Policy is the present policy.
func (m *Machine) Policy() Policy { return m.policy }

// SetPolicy judges by another policy from now on. The verdict stays until something is observed.
func (m *Machine) SetPolicy(p Policy) { m.policy = p }

// Verdict is the present verdict.
func (m *Machine) Verdict() Verdict { return m.verdict }

// Suspect says that something is wrong that the next probes decide about.
func (m *Machine) Suspect() bool {
	return m.errors > 0 && m.errors < m.policy.Threshold || m.verdict.Reason == v1alpha1.ReasonProbeFailing
}

// Observe takes an outcome into account and returns the verdict.
func (m *Machine) Observe(now time.Time, o Outcome) Verdict {
	switch o.Event {
	case ProbeSucceeded:
		m.answered(now)
		if o.Took >= m.policy.SlowAfter {
			m.decide(now, v1alpha1.BackendDegraded, v1alpha1.ReasonSlow, messageSlow)
		} else {
			m.decide(now, v1alpha1.BackendReady, v1alpha1.ReasonProbeSucceeded, messageReady)
		}
	case ProbeSlow:
		if m.verdict.Status == v1alpha1.BackendReady {
			m.decide(now, v1alpha1.BackendDegraded, v1alpha1.ReasonSlow, messageSlow)
		}
	case ProbeTimedOut:
		m.timedOut(now, o)
	case ProbeFailed:
		m.failed(now, o)
	case ProbeUnauthorized:
		m.answered(now)
		m.decide(now, v1alpha1.BackendUnauthenticated, o.Reason, o.Message)
	case CallSucceeded:
		m.callSucceeded(now)
	case CallFailed:
		// Calls that fail together, as when a shared connection is reset, are one error.
		if m.verdict.Status.Served() && now.Sub(m.lastError) >= m.policy.RetryInterval {
			m.failed(now, o)
		}
	}
	return m.verdict
}

func (m *Machine) answered(now time.Time) {
	m.errors = 0
	m.lastAnswer = now
}

// callSucceeded keeps a backend that is served from being given up. Only a probe ends degraded or brings a backend back: a
// backend that answers calls and fails probes would change its state with each of them, and the lists of one that was away must
// be read anew.
func (m *Machine) callSucceeded(now time.Time) {
	if m.verdict.Status.Served() {
		m.answered(now)
	}
}

func (m *Machine) failed(now time.Time, o Outcome) {
	m.lastError = now
	m.errors++
	switch {
	case m.errors >= m.policy.Threshold:
		m.unavailable(now, o)
	case m.verdict.Status.Served():
		m.decide(now, v1alpha1.BackendDegraded, v1alpha1.ReasonProbeFailing, o.Message)
	}
}

// timedOut gives the backend up: a probe that stays open for so long has waited as long as several errors would have taken. A
// backend that answers calls meanwhile is slow, not dead.
func (m *Machine) timedOut(now time.Time, o Outcome) {
	if m.verdict.Status.Served() && now.Sub(m.lastAnswer) < o.Took {
		m.decide(now, v1alpha1.BackendDegraded, v1alpha1.ReasonSlow, messageSlow)
		return
	}
	m.lastError = now
	m.errors = m.policy.Threshold
	m.unavailable(now, o)
}

// unavailable takes a new reason over only when it came Threshold times in a row: a backend that fails in turns must not make a
// report of each turn.
func (m *Machine) unavailable(now time.Time, o Outcome) {
	if m.verdict.Status == v1alpha1.BackendUnavailable && m.verdict.Reason != o.Reason {
		if m.pending != o.Reason {
			m.pending, m.pendingCount = o.Reason, 0
		}
		m.pendingCount++
		if m.pendingCount < m.policy.Threshold {
			return
		}
	}
	m.pending, m.pendingCount = "", 0
	m.decide(now, v1alpha1.BackendUnavailable, o.Reason, o.Message)
}

// decide sets the verdict. The message of a status and reason that did not change stays: what differs in it is of no weight.
func (m *Machine) decide(now time.Time, status v1alpha1.BackendStatus, reason, message string) {
	if m.verdict.Status == status && m.verdict.Reason == reason {
		return
	}
	since := m.verdict.Since
	if m.verdict.Status != status {
		since = now
	}
	m.verdict = Verdict{Status: status, Reason: reason, Message: message, Since: since}
}
