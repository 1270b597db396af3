//go:build e2e

// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/test/faulty"
	"github.com/vmcp-dev/vmcp-operator/test/harness"
)

const (
	// slowness is how long the slow backend takes for each answer.
	slowness = 10 * time.Second
	// degradedWithin is within what time it is reported (DESIGN, numbers to beat).
	degradedWithin = 10 * time.Second
	// initializeWithin bounds each handshake of a client, which no backend takes part in.
	initializeWithin = 50 * time.Millisecond
	// slowlyFor is how long a backend is watched being slow: two probes.
	slowlyFor = 24 * time.Second
)

// TestSlowBackend has one of six backends take ten seconds for each answer. It is degraded and served, it is never asked twice at a time
// whether it is alive, and nobody else notices. The test has the machine for itself, for it measures milliseconds.
func TestSlowBackend(t *testing.T) {
	slow := newFaultyServer(t, "slow-server")
	members := []member{{name: "slow", service: "slow-server", port: 80}, kubernetesServer.as("fast-1"), filesServer.as("fast-2")}
	for n := 3; n <= 5; n++ {
		members = append(members, everythingServer.as(fmt.Sprintf("fast-%d", n)))
	}
	// The three that are one server offer the same resources.
	x := over(t, "slow", v1alpha1.PhaseDegraded, members...)
	session, err := harness.Connect(t.Context(), clusterEndpoint(t, "slow"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = session.Close() }()
	before, err := harness.ToolNames(t.Context(), session)
	if err != nil {
		t.Fatal(err)
	}

	began := time.Now()
	slow.behave(t, faulty.Behaviour{Delay: slowness})
	degraded := x.await(t, began, startLimit, "the slow backend to be degraded", func(s *v1alpha1.VirtualMCPServer) error {
		return slowAlone(s, v1alpha1.BackendDegraded)
	})
	measure(t, "backend takes 10 s to answer", "it is degraded", degradedWithin, degraded.At.Sub(began))

	gateway := &keyedPod{name: "slow", endpoint: clusterEndpoint(t, "slow")}
	var longest, sum time.Duration
	const handshakes = 20
	for range handshakes {
		start := time.Now()
		if _, err := gateway.begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		took := time.Since(start)
		longest, sum = max(longest, took), sum+took
	}
	t.Logf("initialize beside a slow backend: %d in a row, mean %.1f ms, max %.1f ms, bound %d ms",
		handshakes, milliseconds(sum/handshakes), milliseconds(longest), initializeWithin.Milliseconds())
	if longest > initializeWithin {
		t.Errorf("an initialize took %s beside a slow backend, want %s at most", longest, initializeWithin)
	}

	ctx, cancel := context.WithTimeout(t.Context(), slowlyFor)
	defer cancel()
	start := time.Now()
	if _, err := harness.CallText(ctx, session, "slow_"+faulty.BaseTool, map[string]any{}); err != nil {
		t.Errorf("the slow backend is not served: %v", err)
	}
	t.Logf("a call of the slow backend was answered after %.1f s", time.Since(start).Seconds())
	<-ctx.Done()

	for _, s := range x.status.Since(degraded.At) {
		if err := slowAlone(s.Object, v1alpha1.BackendDegraded); err != nil {
			t.Errorf("%s after it was degraded: %v", s.At.Sub(degraded.At).Round(time.Millisecond), err)
		}
	}
	now, err := harness.ToolNames(t.Context(), session)
	if err != nil {
		t.Fatal(err)
	}
	if len(now) != len(before) {
		t.Errorf("%d tools are listed beside a slow backend, want the %d of before", len(now), len(before))
	}
	counts := slow.counts(t)
	t.Logf("the slow backend was asked %v, at most %d at a time but for calls", counts.Requests, counts.Most)
	if counts.Most != 1 {
		t.Errorf("the slow backend was asked %d things at a time, want one probe", counts.Most)
	}

	again := time.Now()
	slow.behave(t, faulty.Behaviour{})
	recovered := x.await(t, again, startLimit, "the backend to be ready again", func(s *v1alpha1.VirtualMCPServer) error {
		return slowAlone(s, v1alpha1.BackendReady)
	})
	measure(t, "backend answers at once again", "it is ready", degradedWithin, recovered.At.Sub(again))
}

// slowAlone says that the slow backend has a status, and that all others are ready.
func slowAlone(s *v1alpha1.VirtualMCPServer, want v1alpha1.BackendStatus) error {
	for _, b := range s.Status.DiscoveredBackends {
		expected := v1alpha1.BackendReady
		if b.Name == "slow" {
			expected = want
		}
		if b.Status != expected {
			return fmt.Errorf("backend %s is %s, want %s: %s: %s", b.Name, b.Status, expected, b.Reason, b.Message)
		}
	}
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
