// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package health_test

import (
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/health"
)

func TestPolicy_With(t *testing.T) {
	base := health.DefaultPolicy()
	with := func(change func(*health.Policy)) health.Policy {
		p := base
		change(&p)
		return p
	}
	for name, c := range map[string]struct {
		health v1alpha1.Health
		want   health.Policy
	}{
		"nothing said": {v1alpha1.Health{}, base},
		"the defaults": {v1alpha1.Health{}.Complete(), base},
		"everything": {
			v1alpha1.Health{IntervalSeconds: 60, FailureThreshold: 1, SlowSeconds: 10, TimeoutSeconds: 30},
			with(func(p *health.Policy) {
				p.Interval, p.Threshold, p.SlowAfter, p.NoAnswerAfter = time.Minute, 1, 10*time.Second, 30*time.Second
			}),
		},
	} {
		if got := base.With(c.health); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// A policy that changes is heeded by the next probe, which comes at once.
func TestMonitor_SetPolicy(t *testing.T) {
	monitored(t, &fake{answer: takes(3 * time.Second)}, func(t *testing.T, m *health.Monitor) {
		expect := func(want v1alpha1.BackendStatus) {
			t.Helper()
			if got := m.Verdict().Status; got != want {
				t.Errorf("the backend is %s, want %s", got, want)
			}
		}
		pass(4 * time.Second)
		expect(v1alpha1.BackendDegraded)
		m.SetPolicy(health.DefaultPolicy().With(v1alpha1.Health{SlowSeconds: 5, TimeoutSeconds: 6}))
		pass(4 * time.Second)
		expect(v1alpha1.BackendReady)
		m.SetPolicy(health.DefaultPolicy().With(v1alpha1.Health{SlowSeconds: 1, TimeoutSeconds: 2}))
		pass(3 * time.Second)
		expect(v1alpha1.BackendUnavailable)
	})
}
