//go:build e2e

// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	coordinationv1 "k8s.io/api/coordination/v1"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/test/faulty"
	"github.com/vmcp-dev/vmcp-operator/test/harness"
)

const (
	// rightWithin is within what time the status is right when the API server answers again.
	rightWithin = 10 * time.Second
	// callInterval is how often each client calls.
	callInterval = 100 * time.Millisecond
	// callsAfter is how long the clients go on calling when the API server is back.
	callsAfter = 30 * time.Second
	// operatorLimit is how long the operator may take to be back: the kubelet lets a container that fails wait for up to five minutes.
	operatorLimit = 6 * time.Minute
)

// absence takes the API server away for ten minutes. Clients of both eras call all the while, each time over a connection of its own; a
// backend dies and another one comes back, which the list of tools tells at once, and the status when there is somebody to tell.
func absence(t *testing.T) {
	long := lasting(t, "VMCP_ABSENCE", 10*time.Minute)
	dies, returns := newFaultyServer(t, "away-dies"), newFaultyServer(t, "away-returns")
	returns.behave(t, faulty.Behaviour{Down: true})
	x := over(t, "away", v1alpha1.PhaseDegraded,
		everythingServer.as("away-lives"), member{"away-dies", "away-dies", 80}, member{"away-returns", "away-returns", 80})
	x.await(t, time.Now().Add(-startLimit), 2*startLimit, "one of three backends to be down", x.verdicts(v1alpha1.BackendReady, v1alpha1.BackendUnavailable))

	var clients []*caller
	for _, version := range []string{"2025-11-25", "2026-07-28"} {
		clients = append(clients, newCaller(t, "away", version, "away-lives_test_simple_text"))
	}
	calling, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	defer group.Wait()
	defer stop()
	for _, c := range clients {
		group.Go(func() { c.run(calling) })
	}

	api, err := harness.FindDaemon(filepath.Dir(filepath.Dir(os.Getenv("VMCP_AUDIT_LOG"))), "kube-apiserver")
	if err != nil {
		t.Fatal(err)
	}
	left := time.Now()
	if err := api.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	back := false
	cleanUp(t, "starting the API server", func(ctx context.Context) error {
		if back {
			return nil
		}
		return errors.Join(api.Start(), harness.WaitFor(ctx, time.Minute, "waiting for the API server", apiServerAnswers))
	})
	until, cancel := context.WithDeadline(t.Context(), left.Add(long/2))
	defer cancel()
	<-until.Done()
	changed := time.Now()
	dies.behave(t, faulty.Behaviour{Down: true})
	returns.behave(t, faulty.Behaviour{})
	eventually(t, changeLimit, "waiting for the list of tools to follow without the API server", func(ctx context.Context) error {
		names, err := harness.ToolNames(ctx, clients[0].session)
		if err == nil && (harness.CountByPrefix(names, "away-dies_") > 0 || harness.CountByPrefix(names, "away-returns_") == 0) {
			err = fmt.Errorf("%q are listed", names)
		}
		return err
	})
	t.Logf("API server away: the list of tools follows one backend that dies and one that comes back within %.1f s", time.Since(changed).Seconds())
	until, cancel = context.WithDeadline(t.Context(), left.Add(long))
	defer cancel()
	<-until.Done()
	for _, c := range clients {
		t.Logf("API server away for %s: a client of %s: %s", time.Since(left).Round(time.Second), c.version, c)
	}

	started := time.Now()
	if err := api.Start(); err != nil {
		t.Fatal(err)
	}
	back = true
	eventually(t, time.Minute, "waiting for the API server", apiServerAnswers)
	answers := time.Now()
	t.Logf("the API server answers %.1f s after its start", answers.Sub(started).Seconds())
	if x.status, err = harness.Watch[v1alpha1.VirtualMCPServer](t.Context(), kubectl, namespace, "virtualmcpservers.vmcp.dev", "away"); err != nil {
		t.Fatal(err)
	}
	right := x.await(t, answers, startLimit, "the status to be right", x.verdicts(v1alpha1.BackendUnavailable, v1alpha1.BackendReady))
	measure(t, fmt.Sprintf("API server away for %s", long), "the status is right", rightWithin, right.At.Sub(answers))

	after, cancel := context.WithTimeout(t.Context(), callsAfter)
	defer cancel()
	<-after.Done()
	stop()
	group.Wait()
	for _, c := range clients {
		t.Logf("API server away for %s and back: a client of %s: %s", long, c.version, c)
		if c.failed != 0 {
			t.Errorf("%d calls of a client of %s failed", c.failed, c.version)
		}
	}
	eventually(t, operatorLimit, "waiting for the operator to work again", func(ctx context.Context) error {
		lease := &coordinationv1.Lease{}
		if err := kubectl.GetJSON(ctx, lease, "--namespace", operatorNamespace, "lease", "vmcp-operator.vmcp.dev"); err != nil {
			return err
		}
		if lease.Spec.RenewTime == nil || lease.Spec.RenewTime.Time.Before(answers) {
			return errors.New("nobody has renewed its Lease")
		}
		return nil
	})
	t.Logf("API server away for %s: the operator works again %.1f s after it answers", long, time.Since(answers).Seconds())
	always(t, x.status, right.At, func(s *v1alpha1.VirtualMCPServer) bool {
		return x.verdicts(v1alpha1.BackendUnavailable, v1alpha1.BackendReady)(s) == nil
	})
}

// verdicts says what two of the three backends are while the other one is ready.
func (x *subject) verdicts(dies, returns v1alpha1.BackendStatus) func(*v1alpha1.VirtualMCPServer) error {
	want := map[string]v1alpha1.BackendStatus{x.name + "-lives": v1alpha1.BackendReady, x.name + "-dies": dies, x.name + "-returns": returns}
	return func(s *v1alpha1.VirtualMCPServer) error {
		for name, status := range want {
			b, err := verdict(s, name)
			if err != nil {
				return err
			}
			if b.Status != status {
				return fmt.Errorf("%s is %s, want %s: %s", name, b.Status, status, b.Message)
			}
		}
		if s.Status.Phase != v1alpha1.PhaseDegraded {
			return fmt.Errorf("phase is %s, want Degraded", s.Status.Phase)
		}
		return nil
	}
}

func apiServerAnswers(ctx context.Context) error {
	_, err := kubectl.Run(ctx, "get", "--raw", "/readyz", "--request-timeout=2s")
	return err
}

// caller calls a tool again and again.
type caller struct {
	version, tool string
	session       *mcp.ClientSession

	mu            sync.Mutex
	calls, failed int
	longest       time.Duration
	why           []string // of the first failures
}

// newCaller connects a client of a revision to a gateway. Each of its calls has a connection of its own, so that nothing is tried again.
func newCaller(t *testing.T, name, version, tool string) *caller {
	t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "vmcp-e2e", Version: "1"}, nil)
	session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{
		Endpoint: clusterEndpoint(t, name), MaxRetries: -1, DisableStandaloneSSE: true,
		HTTPClient: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
	}, &mcp.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return &caller{version: version, tool: tool, session: session}
}

// run calls until ctx ends.
func (c *caller) run(ctx context.Context) {
	ticker := time.NewTicker(callInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		began := time.Now()
		once, cancel := context.WithTimeout(ctx, 10*time.Second)
		_, err := harness.CallText(once, c.session, c.tool, map[string]any{})
		cancel()
		if ctx.Err() != nil {
			return // the call was cut off
		}
		c.count(began, err)
	}
}

func (c *caller) count(began time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	c.longest = max(c.longest, time.Since(began))
	if err == nil {
		return
	}
	c.failed++
	if len(c.why) < 5 {
		c.why = append(c.why, began.Format(time.TimeOnly)+": "+err.Error())
	}
}

func (c *caller) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := fmt.Sprintf("%d calls, %d failed, the longest took %.0f ms", c.calls, c.failed, milliseconds(c.longest))
	if len(c.why) > 0 {
		s += "; " + strings.Join(c.why, "; ")
	}
	return s
}
