//go:build e2e

// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/test/audit"
	"github.com/vmcp-dev/vmcp-operator/test/faulty"
	"github.com/vmcp-dev/vmcp-operator/test/harness"
)

// Bounds of what is sent to the API server (DESIGN, numbers to beat).
const (
	// betweenReports is the least time between two reports of a runtime, but for the first change after a quiet time.
	betweenReports = 5 * time.Second
	// requestsPerMinute bounds all that the runtime of a gateway sends in a minute in which nothing happens.
	requestsPerMinute = 4
)

// TestEndurance is what "make endurance" runs: gateways over minutes in which much happens, or nothing, or the API server is away. What
// is counted is in the audit log of the API server.
func TestEndurance(t *testing.T) {
	t.Run("side by side", func(t *testing.T) {
		t.Run("a backend flaps", func(t *testing.T) { t.Parallel(); flaps(t, "flaps", time.Second, false) })
		t.Run("a backend flaps while it is called", func(t *testing.T) { t.Parallel(); flaps(t, "flaps-called", 500*time.Millisecond, true) })
		t.Run("nothing happens", func(t *testing.T) { t.Parallel(); steady(t) })
	})
	t.Run("the API server is away", absence)
}

// lasting is how long something goes on, or what a variable of the environment says.
func lasting(t *testing.T, variable string, otherwise time.Duration) time.Duration {
	t.Helper()
	value := os.Getenv(variable)
	if value == "" {
		return otherwise
	}
	d, err := time.ParseDuration(value)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return d
}

// flaps has a backend refuse connections every other turn, for five minutes, and counts what its runtime writes about that.
func flaps(t *testing.T, name string, turn time.Duration, called bool) {
	long := lasting(t, "VMCP_FLAPPING", 5*time.Minute)
	server := newFaultyServer(t, name+"-server")
	x := over(t, name, v1alpha1.PhaseReady, kubernetesServer.as(name+"-lives"), member{name + "-dies", name + "-server", 80})
	requests := newTally(t)
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	began := time.Now()
	server.behave(t, faulty.Behaviour{Flap: turn})
	if called {
		session, err := harness.Connect(t.Context(), clusterEndpoint(t, name))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = session.Close() }()
		c := &caller{session: session, tool: name + "-dies_" + faulty.BaseTool}
		c.run(ctx)
		t.Logf("flapping every %s: %d calls, of which %d failed", turn, c.calls, c.failed)
	}
	<-ctx.Done()
	server.behave(t, faulty.Behaviour{})
	sent := requests.until(t, func(e *audit.Event) bool { return e.Agent() == "vmcp-runtime/"+name })
	writes := 0
	for request, n := range sent {
		if strings.HasSuffix(request, " virtualmcpservers/status") {
			writes += n
		}
	}
	bound, states := int(long/betweenReports), map[string]int{}
	for _, s := range x.status.Since(began) {
		if b, err := verdict(s.Object, name+"-dies"); err == nil {
			states[string(b.Status)]++
		}
	}
	t.Logf("a backend goes and comes back every %s for %s: %d status writes by the runtime, bound %d; seen: %v; all its requests: %s",
		turn, long, writes, bound, states, sent)
	if writes > bound {
		t.Errorf("a runtime wrote the status %d times within %s, want %d at most", writes, long, bound)
	}
	if writes == 0 {
		t.Error("nothing was written about a backend that flaps, so this proves nothing")
	}
}

// steady leaves a gateway alone for ten minutes, and counts what its runtime and the operator send about it.
func steady(t *testing.T) {
	long := lasting(t, "VMCP_STEADY", 10*time.Minute)
	x := over(t, "steady", v1alpha1.PhaseReady, kubernetesServer.as("steady-one"), everythingServer.as("steady-two"))
	requests := newTally(t)
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	<-ctx.Done()
	changes := len(x.status.Since(began))
	if err := x.status.Err(); err != nil {
		t.Error(err)
	}
	var operator tally
	runtime := requests.until(t, func(e *audit.Event) bool { return e.Agent() == "vmcp-runtime/steady" }, func(e *audit.Event) {
		if strings.HasPrefix(e.Agent(), "vmcp-operator") && e.ObjectRef.Namespace == namespace && strings.Contains(e.ObjectRef.Name, "steady") {
			operator.add(e)
		}
	})
	perMinute := float64(runtime.sum()) / long.Minutes()
	t.Logf("nothing happens for %s: %d changes of the object; the runtime sent %d requests, %.1f a minute, bound %d: %s",
		long, changes, runtime.sum(), perMinute, requestsPerMinute, runtime)
	t.Logf("nothing happens for %s: the operator sent %d requests about it: %s", long, operator.sum(), operator)
	if changes != 0 {
		t.Errorf("the object changed %d times within %s in which nothing happened", changes, long)
	}
	if perMinute > requestsPerMinute {
		t.Errorf("the runtime sent %.1f requests a minute, want %d at most", perMinute, requestsPerMinute)
	}
	for request, n := range runtime {
		if strings.Contains(request, "virtualmcpservers") && !strings.HasPrefix(request, "watch ") {
			t.Errorf("the runtime sent %d times %s, want none about an object that does not change", n, request)
		}
	}
	for request, n := range operator {
		if !strings.HasPrefix(request, "watch ") {
			t.Errorf("the operator sent %d times %s, want none about an object that does not change", n, request)
		}
	}
	if runtime["update leases"] == 0 {
		t.Error("the audit log has no renewal of the Lease, so it proves nothing")
	}
}

// tally counts requests by verb and resource.
type tally map[string]int

func (y *tally) add(e *audit.Event) {
	if *y == nil {
		*y = tally{}
	}
	(*y)[e.Verb+" "+e.Resource()]++
}

func (y tally) sum() (n int) {
	for _, m := range y {
		n += m
	}
	return n
}

func (y tally) String() string {
	var parts []string
	for _, request := range slices.Sorted(maps.Keys(y)) {
		parts = append(parts, fmt.Sprintf("%d %s", y[request], request))
	}
	return strings.Join(parts, ", ")
}

// counting counts requests from a moment on.
type counting struct{ log *audit.Log }

// newTally begins to count.
func newTally(t *testing.T) counting {
	t.Helper()
	path := os.Getenv("VMCP_AUDIT_LOG")
	if path == "" {
		t.Fatal("VMCP_AUDIT_LOG is not set: bin/cluster env names the audit log of the API server")
	}
	c := counting{log: audit.Open(path)}
	if err := c.log.Next(func(*audit.Event) {}); err != nil {
		t.Fatal(err)
	}
	return c
}

// until returns the requests so far that are of a kind; others see them all.
func (c counting) until(t *testing.T, wanted func(*audit.Event) bool, others ...func(*audit.Event)) tally {
	t.Helper()
	var found tally
	err := c.log.Next(func(e *audit.Event) {
		if wanted(e) {
			found.add(e)
		}
		for _, other := range others {
			other(e)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
