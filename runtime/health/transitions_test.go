// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package health_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/runtime/health"
)

// evidence is something that a machine in any state can be told. It begins some time after the state was reached.
type evidence struct {
	name     string
	after    time.Duration
	outcomes []health.Outcome
}

var (
	answer       = health.Outcome{Event: health.ProbeSucceeded, Took: 2*time.Second - 1}
	slowAnswer   = health.Outcome{Event: health.ProbeSucceeded, Took: 2 * time.Second}
	unanswered   = health.Outcome{Event: health.ProbeSlow}
	givenUp      = health.Outcome{Event: health.ProbeTimedOut, Took: 12 * time.Second, Reason: "Timeout"}
	refusal      = health.Outcome{Event: health.ProbeFailed, Reason: "Refused", Message: "refused"}
	garbage      = health.Outcome{Event: health.ProbeFailed, Reason: "Garbage", Message: "garbage"}
	unauthorized = health.Outcome{Event: health.ProbeUnauthorized, Reason: "Denied", Message: "denied"}
	callAnswered = health.Outcome{Event: health.CallSucceeded}
	callRefused  = health.Outcome{Event: health.CallFailed, Reason: "Refused", Message: "refused"}
)

// TestMachine_Transitions has each state of a machine meet each kind of evidence. A state is written as status, reason and how many more
// errors it takes until the backend is unavailable — of one that is, until another reason is believed — and "?" when the next probe is
// to follow soon.
func TestMachine_Transitions(t *testing.T) {
	kinds := []evidence{
		{"an answer", 0, []health.Outcome{answer}},
		{"a slow answer", 0, []health.Outcome{slowAnswer}},
		{"a probe unanswered for 2 s", 0, []health.Outcome{unanswered}},
		{"no answer for 12 s", 12 * time.Second, []health.Outcome{givenUp}},
		{"no answer for 12 s to a probe that began before", 12*time.Second - 1, []health.Outcome{givenUp}},
		{"no answer for 12 s, but to a call", 12 * time.Second, []health.Outcome{callAnswered, givenUp}},
		{"a refused probe", 0, []health.Outcome{refusal}},
		{"refused credentials", 0, []health.Outcome{unauthorized}},
		{"an answered call", 0, []health.Outcome{callAnswered}},
		{"a refused call", time.Second, []health.Outcome{callRefused}},
		{"a refused call, a moment after the last error", time.Second - 1, []health.Outcome{callRefused}},
	}
	const (
		ready   = "ready ProbeSucceeded 3"
		slow    = "degraded Slow 3"
		denied  = "unauthenticated Denied 3"
		timeout = "unavailable Timeout 3"
		refused = "unavailable Refused 3"
	)
	for _, state := range []struct {
		name    string
		reached []health.Outcome
		is      string
		then    []string // by kind of evidence
	}{
		{"new", nil, "unknown Probing 3", []string{
			ready, slow, "unknown Probing 3", timeout, timeout, timeout, "unknown Probing 2?",
			denied, "unknown Probing 3", "unknown Probing 3", "unknown Probing 3",
		}},
		{"new, one error", []health.Outcome{refusal}, "unknown Probing 2?", []string{
			ready, slow, "unknown Probing 2?", timeout, timeout, timeout, "unknown Probing 1?",
			denied, "unknown Probing 2?", "unknown Probing 2?", "unknown Probing 2?",
		}},
		{"new, two errors", []health.Outcome{refusal, garbage}, "unknown Probing 1?", []string{
			ready, slow, "unknown Probing 1?", timeout, timeout, timeout, refused,
			denied, "unknown Probing 1?", "unknown Probing 1?", "unknown Probing 1?",
		}},
		{"ready", []health.Outcome{answer}, ready, []string{
			ready, slow, slow, timeout, slow, slow, "degraded ProbeFailing 2?",
			denied, ready, "degraded ProbeFailing 2?", "degraded ProbeFailing 2?",
		}},
		{"slow", []health.Outcome{slowAnswer}, slow, []string{
			ready, slow, slow, timeout, slow, slow, "degraded ProbeFailing 2?",
			denied, slow, "degraded ProbeFailing 2?", "degraded ProbeFailing 2?",
		}},
		{"unanswered", []health.Outcome{answer, unanswered}, slow, []string{
			ready, slow, slow, timeout, slow, slow, "degraded ProbeFailing 2?",
			denied, slow, "degraded ProbeFailing 2?", "degraded ProbeFailing 2?",
		}},
		{"failing, one error", []health.Outcome{answer, refusal}, "degraded ProbeFailing 2?", []string{
			ready, slow, "degraded ProbeFailing 2?", timeout, "degraded Slow 2?", slow, "degraded ProbeFailing 1?",
			denied, "degraded ProbeFailing 3?", "degraded ProbeFailing 1?", "degraded ProbeFailing 2?",
		}},
		{"failing, two errors", []health.Outcome{answer, refusal, garbage}, "degraded ProbeFailing 1?", []string{
			ready, slow, "degraded ProbeFailing 1?", timeout, "degraded Slow 1?", slow, refused,
			denied, "degraded ProbeFailing 3?", refused, "degraded ProbeFailing 1?",
		}},
		{"failing, kept by a call", []health.Outcome{answer, refusal, callAnswered}, "degraded ProbeFailing 3?", []string{
			ready, slow, "degraded ProbeFailing 3?", timeout, slow, slow, "degraded ProbeFailing 2?",
			denied, "degraded ProbeFailing 3?", "degraded ProbeFailing 2?", "degraded ProbeFailing 3?",
		}},
		{"unauthenticated", []health.Outcome{unauthorized}, denied, []string{
			ready, slow, denied, timeout, timeout, timeout, "unauthenticated Denied 2?",
			denied, denied, denied, denied,
		}},
		{"unauthenticated, two errors", []health.Outcome{unauthorized, refusal, refusal}, "unauthenticated Denied 1?", []string{
			ready, slow, "unauthenticated Denied 1?", timeout, timeout, timeout, refused,
			denied, "unauthenticated Denied 1?", "unauthenticated Denied 1?", "unauthenticated Denied 1?",
		}},
		{"refused", []health.Outcome{refusal, refusal, refusal}, refused, []string{
			ready, slow, refused, "unavailable Refused 3", "unavailable Refused 3", "unavailable Refused 3", refused,
			denied, refused, refused, refused,
		}},
		{"refused, once for another reason", []health.Outcome{refusal, refusal, refusal, other}, "unavailable Refused 2", []string{
			ready, slow, "unavailable Refused 2", "unavailable Refused 3", "unavailable Refused 3", "unavailable Refused 3", refused,
			denied, "unavailable Refused 2", "unavailable Refused 2", "unavailable Refused 2",
		}},
		{"refused, twice for another reason", []health.Outcome{refusal, refusal, refusal, other, other}, "unavailable Refused 1", []string{
			ready, slow, "unavailable Refused 1", "unavailable Refused 3", "unavailable Refused 3", "unavailable Refused 3", refused,
			denied, "unavailable Refused 1", "unavailable Refused 1", "unavailable Refused 1",
		}},
		{"given up", []health.Outcome{answer, {Event: health.ProbeTimedOut, Took: 0, Reason: "Timeout"}}, timeout, []string{
			ready, slow, timeout, timeout, timeout, timeout, timeout,
			denied, timeout, timeout, timeout,
		}},
	} {
		for i, e := range kinds {
			t.Run(state.name+"/"+e.name, func(t *testing.T) {
				s := newSequence()
				s.observe(state.reached...)
				if got := s.state(); got != state.is {
					t.Fatalf("it begins as %s, want %s", got, state.is)
				}
				s.pass(e.after)
				s.observe(e.outcomes...)
				if got := s.state(); got != state.then[i] {
					t.Errorf("%s becomes %s, want %s", state.is, got, state.then[i])
				}
				s.expectSince(t)
			})
		}
	}
}

// other is an error of a reason that nothing else has.
var other = health.Outcome{Event: health.ProbeFailed, Reason: "Other", Message: "other"}

// sequence is what a machine observed, so that it can be told to another one.
type sequence struct {
	machine *health.Machine
	now     time.Time
	told    []told
	since   time.Time // when the status began
}

type told struct {
	at time.Time
	health.Outcome
}

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func newSequence() *sequence {
	return &sequence{machine: health.NewMachine(health.DefaultPolicy(), epoch), now: epoch, since: epoch}
}

func (s *sequence) pass(d time.Duration) { s.now = s.now.Add(d) }

func (s *sequence) observe(outcomes ...health.Outcome) {
	for _, o := range outcomes {
		before := s.machine.Verdict().Status
		s.told = append(s.told, told{s.now, o})
		if s.machine.Observe(s.now, o).Status != before {
			s.since = s.now
		}
	}
}

// state puts the state into words. It looks for what is to come on a copy.
func (s *sequence) state() string {
	v, suspect := s.machine.Verdict(), ""
	if s.machine.Suspect() {
		suspect = "?"
	}
	copied := health.NewMachine(health.DefaultPolicy(), epoch)
	for _, o := range s.told {
		copied.Observe(o.at, o.Outcome)
	}
	left := 0
	for copied.Verdict().Reason != other.Reason && left < 10 {
		copied.Observe(s.now, other)
		left++
	}
	return fmt.Sprintf("%s %s %d%s", v.Status, v.Reason, left, suspect)
}

func (s *sequence) expectSince(t *testing.T) {
	t.Helper()
	if got := s.machine.Verdict().Since; !got.Equal(s.since) {
		t.Errorf("the status is said to last since %s, want %s", got, s.since)
	}
}

// TestMachine_SaysWhy: the message is the evidence's own, or says what was seen.
func TestMachine_SaysWhy(t *testing.T) {
	for _, c := range []struct {
		observed []health.Outcome
		want     string
	}{
		{nil, "The backend has not answered yet."},
		{[]health.Outcome{answer}, "The backend answers."},
		{[]health.Outcome{slowAnswer}, "The backend answers slowly."},
		{[]health.Outcome{answer, unanswered}, "The backend answers slowly."},
		{[]health.Outcome{answer, callAnswered, givenUp}, "The backend answers slowly."},
		{[]health.Outcome{answer, refusal}, "refused"},
		{[]health.Outcome{answer, callRefused}, "refused"},
		{[]health.Outcome{refusal, refusal, garbage}, "garbage"},
		{[]health.Outcome{refusal, refusal, refusal, garbage, garbage, garbage}, "garbage"},
		{[]health.Outcome{unauthorized}, "denied"},
	} {
		s := newSequence()
		s.observe(c.observed...)
		if got := s.machine.Verdict().Message; got != c.want {
			t.Errorf("after %+v it says %q, want %q", c.observed, got, c.want)
		}
	}
}
