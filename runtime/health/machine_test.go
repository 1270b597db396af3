// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package health_test

import (
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/health"
)

// step is an event some time after the one before, and the verdict that it is to lead to.
type step struct {
	after   time.Duration
	outcome health.Outcome
	status  v1alpha1.BackendStatus
	reason  string
}

func TestMachine(t *testing.T) {
	var (
		success      = health.Outcome{Event: health.ProbeSucceeded, Took: 10 * time.Millisecond}
		slowAnswer   = health.Outcome{Event: health.ProbeSucceeded, Took: 3 * time.Second}
		slow         = health.Outcome{Event: health.ProbeSlow}
		timeout      = health.Outcome{Event: health.ProbeTimedOut, Took: 12 * time.Second, Reason: v1alpha1.ReasonTimeout}
		refused      = health.Outcome{Event: health.ProbeFailed, Reason: v1alpha1.ReasonConnectionRefused, Message: "nothing listens"}
		reset        = health.Outcome{Event: health.ProbeFailed, Reason: v1alpha1.ReasonConnectionFailed}
		unauthorized = health.Outcome{Event: health.ProbeUnauthorized, Reason: v1alpha1.ReasonUnauthorized}
		denied       = health.Outcome{Event: health.ProbeFailed, Reason: v1alpha1.ReasonUnauthorized}
		called       = health.Outcome{Event: health.CallSucceeded}
		callFailed   = health.Outcome{Event: health.CallFailed, Reason: v1alpha1.ReasonConnectionRefused}
	)
	const (
		ready           = v1alpha1.BackendReady
		degraded        = v1alpha1.BackendDegraded
		unavailable     = v1alpha1.BackendUnavailable
		unauthenticated = v1alpha1.BackendUnauthenticated
		unknown         = v1alpha1.BackendUnknown
	)
	for name, steps := range map[string][]step{
		"an answer makes it ready": {
			{0, success, ready, v1alpha1.ReasonProbeSucceeded},
		},
		"three errors make it unavailable, and it is served until then": {
			{0, success, ready, v1alpha1.ReasonProbeSucceeded},
			{5 * time.Second, refused, degraded, v1alpha1.ReasonProbeFailing},
			{time.Second, refused, degraded, v1alpha1.ReasonProbeFailing},
			{time.Second, refused, unavailable, v1alpha1.ReasonConnectionRefused},
		},
		"an answer between errors starts the count anew": {
			{0, success, ready, v1alpha1.ReasonProbeSucceeded},
			{time.Second, refused, degraded, v1alpha1.ReasonProbeFailing},
			{time.Second, refused, degraded, v1alpha1.ReasonProbeFailing},
			{time.Second, success, ready, v1alpha1.ReasonProbeSucceeded},
			{time.Second, refused, degraded, v1alpha1.ReasonProbeFailing},
			{time.Second, refused, degraded, v1alpha1.ReasonProbeFailing},
		},
		"one that never answered is unknown until three errors": {
			{0, refused, unknown, v1alpha1.ReasonProbing},
			{time.Second, refused, unknown, v1alpha1.ReasonProbing},
			{time.Second, refused, unavailable, v1alpha1.ReasonConnectionRefused},
		},
		"one answer brings it back": {
			{0, timeout, unavailable, v1alpha1.ReasonTimeout},
			{5 * time.Second, success, ready, v1alpha1.ReasonProbeSucceeded},
		},
		"slow is degraded, not dead": {
			{0, success, ready, v1alpha1.ReasonProbeSucceeded},
			{7 * time.Second, slow, degraded, v1alpha1.ReasonSlow},
			{time.Second, slowAnswer, degraded, v1alpha1.ReasonSlow},
			{5 * time.Second, success, ready, v1alpha1.ReasonProbeSucceeded},
		},
		"slow does not serve what is not served": {
			{0, slow, unknown, v1alpha1.ReasonProbing},
			{10 * time.Second, timeout, unavailable, v1alpha1.ReasonTimeout},
			{5 * time.Second, slow, unavailable, v1alpha1.ReasonTimeout},
		},
		"no answer at all makes it unavailable at once": {
			{0, success, ready, v1alpha1.ReasonProbeSucceeded},
			{7 * time.Second, slow, degraded, v1alpha1.ReasonSlow},
			{10 * time.Second, timeout, unavailable, v1alpha1.ReasonTimeout},
		},
		"a call that is answered while the probe is not keeps it": {
			{0, success, ready, v1alpha1.ReasonProbeSucceeded},
			{7 * time.Second, slow, degraded, v1alpha1.ReasonSlow},
			{5 * time.Second, called, degraded, v1alpha1.ReasonSlow},
			{5 * time.Second, timeout, degraded, v1alpha1.ReasonSlow},
			{13 * time.Second, timeout, unavailable, v1alpha1.ReasonTimeout},
		},
		"refused credentials are a verdict of their own": {
			{0, unauthorized, unauthenticated, v1alpha1.ReasonUnauthorized},
			{5 * time.Second, success, ready, v1alpha1.ReasonProbeSucceeded},
			{5 * time.Second, unauthorized, unauthenticated, v1alpha1.ReasonUnauthorized},
			{5 * time.Second, refused, unauthenticated, v1alpha1.ReasonUnauthorized},
			{time.Second, refused, unauthenticated, v1alpha1.ReasonUnauthorized},
			{time.Second, refused, unavailable, v1alpha1.ReasonConnectionRefused},
		},
		"failed calls count": {
			{0, success, ready, v1alpha1.ReasonProbeSucceeded},
			{time.Second, callFailed, degraded, v1alpha1.ReasonProbeFailing},
			{0, refused, degraded, v1alpha1.ReasonProbeFailing},
			{time.Second, refused, unavailable, v1alpha1.ReasonConnectionRefused},
		},
		"calls that fail together are one error": {
			{0, success, ready, v1alpha1.ReasonProbeSucceeded},
			{time.Second, callFailed, degraded, v1alpha1.ReasonProbeFailing},
			{time.Millisecond, callFailed, degraded, v1alpha1.ReasonProbeFailing},
			{time.Millisecond, callFailed, degraded, v1alpha1.ReasonProbeFailing},
			{time.Millisecond, callFailed, degraded, v1alpha1.ReasonProbeFailing},
		},
		"a call cannot bring back what a probe gave up": {
			{0, timeout, unavailable, v1alpha1.ReasonTimeout},
			{time.Millisecond, called, unavailable, v1alpha1.ReasonTimeout},
		},
		"calls keep one that fails its probes, and do not make it ready": {
			{0, success, ready, v1alpha1.ReasonProbeSucceeded},
			{time.Second, reset, degraded, v1alpha1.ReasonProbeFailing},
			{time.Second, reset, degraded, v1alpha1.ReasonProbeFailing},
			{time.Millisecond, called, degraded, v1alpha1.ReasonProbeFailing},
			{time.Second, reset, degraded, v1alpha1.ReasonProbeFailing},
			{time.Second, reset, degraded, v1alpha1.ReasonProbeFailing},
			{time.Second, reset, unavailable, v1alpha1.ReasonConnectionFailed},
		},
		"a call that fails with the probe that was given up is the same error": {
			{0, success, ready, v1alpha1.ReasonProbeSucceeded},
			{13 * time.Second, timeout, unavailable, v1alpha1.ReasonTimeout},
			{100 * time.Millisecond, success, ready, v1alpha1.ReasonProbeSucceeded},
			{100 * time.Millisecond, callFailed, ready, v1alpha1.ReasonProbeSucceeded},
		},
		"one that is given up for what it was refused with": {
			{0, unauthorized, unauthenticated, v1alpha1.ReasonUnauthorized},
			{0, denied, unauthenticated, v1alpha1.ReasonUnauthorized},
			{0, denied, unauthenticated, v1alpha1.ReasonUnauthorized},
			{0, denied, unavailable, v1alpha1.ReasonUnauthorized},
		},
		"another reason is taken over when it stays": {
			{0, timeout, unavailable, v1alpha1.ReasonTimeout},
			{5 * time.Second, refused, unavailable, v1alpha1.ReasonTimeout},
			{5 * time.Second, reset, unavailable, v1alpha1.ReasonTimeout},
			{5 * time.Second, refused, unavailable, v1alpha1.ReasonTimeout},
			{5 * time.Second, refused, unavailable, v1alpha1.ReasonTimeout},
			{5 * time.Second, refused, unavailable, v1alpha1.ReasonConnectionRefused},
		},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
			m := health.NewMachine(health.DefaultPolicy(), now)
			status, since := m.Verdict().Status, now
			for i, s := range steps {
				now = now.Add(s.after)
				got := m.Observe(now, s.outcome)
				if got.Status != s.status || got.Reason != s.reason {
					t.Fatalf("after step %d the verdict is %s (%s), want %s (%s)", i, got.Status, got.Reason, s.status, s.reason)
				}
				if got.Status != status {
					status, since = got.Status, now
				}
				if !got.Since.Equal(since) {
					t.Errorf("after step %d the status is said to last since %s, want %s", i, got.Since, since)
				}
				if got != m.Verdict() {
					t.Errorf("after step %d Verdict() differs from what Observe returned", i)
				}
			}
		})
	}
}

func TestMachine_KeepsTheMessageOfAnUnchangedVerdict(t *testing.T) {
	now := time.Now()
	m := health.NewMachine(health.DefaultPolicy(), now)
	for _, message := range []string{"first", "second", "third", "fourth", "fifth"} {
		m.Observe(now, health.Outcome{Event: health.ProbeFailed, Reason: v1alpha1.ReasonConnectionFailed, Message: message})
	}
	if got := m.Verdict().Message; got != "third" {
		t.Errorf("message is %q, want that of the error that made the backend unavailable", got)
	}
}
