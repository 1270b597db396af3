//go:build e2e

// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package e2e tells the demo's story as assertions, on a real cluster, from outside: with kubectl, with an MCP client that is
// not ours, and with the audit log of the API server. "make e2e" starts the cluster and loads the images.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/test/harness"
)

const (
	operatorNamespace = "vmcp-system"
	namespace         = "vmcp-e2e"
	gateway           = "demo"

	// What takes long is the start of pods on a busy machine.
	startLimit = 3 * time.Minute
	// A dead backend is reported within 15 s when idle (DESIGN, numbers to beat); pods need time to stop, too.
	changeLimit = 45 * time.Second
)

var kubectl harness.Kubectl

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctx := context.Background()
	var err error
	if kubectl, err = harness.FromEnvironment(); err == nil {
		err = install(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e: setting up:", err)
		diagnose(ctx)
		return 1
	}
	code := m.Run()
	if code != 0 {
		diagnose(ctx)
	}
	if _, err := kubectl.Run(ctx, "delete", "-k", "testdata/demo", "--ignore-not-found", "--wait", "--timeout=2m"); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: cleaning up:", err)
		return 1
	}
	return code
}

// install applies the operator and the demo. A namespace of an interrupted run is removed first.
func install(ctx context.Context) error {
	if _, err := kubectl.Run(ctx, "delete", "namespace", namespace, "--ignore-not-found", "--wait", "--timeout=2m"); err != nil {
		return err
	}
	for _, dir := range []string{"../../config/default", "testdata/demo"} {
		err := harness.WaitFor(ctx, 30*time.Second, "applying "+dir, func(ctx context.Context) error {
			_, err := kubectl.Run(ctx, "apply", "--server-side", "--force-conflicts", "-k", dir)
			return err
		})
		if err != nil {
			return err
		}
	}
	// The image of a tag may have changed since an earlier run on the same cluster.
	if _, err := kubectl.Run(ctx, "--namespace", operatorNamespace, "rollout", "restart", "deployment/vmcp-operator"); err != nil {
		return err
	}
	_, err := kubectl.Run(ctx, "--namespace", operatorNamespace, "rollout", "status", "deployment/vmcp-operator", "--timeout="+startLimit.String())
	return err
}

// diagnose prints what a person needs to see why a test failed.
func diagnose(ctx context.Context) {
	if kubectl.Path == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, args := range [][]string{
		{"get", "pods", "--all-namespaces", "--output=wide"},
		{"--namespace", namespace, "get", "vmcp,mcpg,mcpb", "--output=yaml"},
		{"--namespace", namespace, "get", "events", "--sort-by=.lastTimestamp"},
		{"--namespace", operatorNamespace, "logs", "deployment/vmcp-operator", "--tail=100"},
		{"--namespace", namespace, "logs", "--selector=" + v1alpha1.ManagedByLabel + "=" + v1alpha1.ManagedByValue, "--all-containers", "--prefix", "--tail=60"},
	} {
		fmt.Fprintf(os.Stderr, "\n--- kubectl %v\n", args)
		if err := kubectl.Stream(ctx, os.Stderr, args...); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}

// must runs kubectl in the tests' namespace and fails the test when kubectl fails.
func must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := kubectl.Run(t.Context(), append([]string{"--namespace", namespace}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// apply applies manifests in the tests' namespace and removes them when the test ends.
func apply(t *testing.T, manifests string) {
	t.Helper()
	if _, err := kubectl.RunInput(t.Context(), manifests, "--namespace", namespace, "apply", "--server-side", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, err := kubectl.RunInput(context.Background(), manifests, "--namespace", namespace, "delete", "--ignore-not-found", "-f", "-")
		if err != nil {
			t.Error(err)
		}
	})
}

// eventually fails the test when a condition does not come to hold in time.
func eventually(t *testing.T, limit time.Duration, what string, condition func(context.Context) error) {
	t.Helper()
	if err := harness.WaitFor(t.Context(), limit, what, condition); err != nil {
		t.Fatal(err)
	}
}

func getGateway(ctx context.Context, name string) (*v1alpha1.VirtualMCPServer, error) {
	s := &v1alpha1.VirtualMCPServer{}
	return s, kubectl.GetJSON(ctx, s, "--namespace", namespace, "virtualmcpserver", name, "--show-managed-fields")
}

// awaitPhase waits until the runtime reports a phase.
func awaitPhase(t *testing.T, name string, limit time.Duration, want v1alpha1.Phase) *v1alpha1.VirtualMCPServer {
	t.Helper()
	var found *v1alpha1.VirtualMCPServer
	eventually(t, limit, fmt.Sprintf("waiting for phase %s of %s", want, name), func(ctx context.Context) error {
		s, err := getGateway(ctx, name)
		if err != nil {
			return err
		}
		if s.Status.Phase != want {
			return fmt.Errorf("phase is %q: %s", s.Status.Phase, s.Status.Message)
		}
		found = s
		return nil
	})
	return found
}

// awaitVerdict waits until the runtime reports a status of one backend, with its cause.
func awaitVerdict(t *testing.T, backend string, limit time.Duration, want v1alpha1.BackendStatus) *v1alpha1.VirtualMCPServer {
	t.Helper()
	var found *v1alpha1.VirtualMCPServer
	eventually(t, limit, fmt.Sprintf("waiting for backend %s to be %s", backend, want), func(ctx context.Context) error {
		s, err := getGateway(ctx, gateway)
		if err != nil {
			return err
		}
		b, err := verdict(s, backend)
		if err != nil {
			return err
		}
		if b.Status != want || b.Reason == "" || b.Message == "" {
			return fmt.Errorf("it is reported as %+v", b)
		}
		found = s
		return nil
	})
	return found
}

// verdict is the runtime's verdict on one MCPBackend.
func verdict(s *v1alpha1.VirtualMCPServer, name string) (v1alpha1.DiscoveredBackend, error) {
	for _, b := range s.Status.DiscoveredBackends {
		if b.Kind == "MCPBackend" && b.Name == name {
			return b, nil
		}
	}
	return v1alpha1.DiscoveredBackend{}, errors.New("no entry for MCPBackend " + name)
}
