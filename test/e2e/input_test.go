//go:build e2e

// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// TestUnknownGroup follows a gateway whose group comes later, and whose deletion takes everything with it.
func TestUnknownGroup(t *testing.T) {
	const name = "late"
	apply(t, `
apiVersion: vmcp.dev/v1alpha1
kind: VirtualMCPServer
metadata: {name: late}
spec: {groupRef: {name: comes-later}}
`)
	eventually(t, changeLimit, "waiting for GroupRefValid", func(ctx context.Context) error {
		s, err := getGateway(ctx, name)
		if err != nil {
			return err
		}
		c := findCondition(s, v1alpha1.ConditionGroupRefValid)
		if c == nil || c.Status != metav1.ConditionFalse || c.Reason != v1alpha1.ReasonGroupNotFound || !strings.Contains(c.Message, "comes-later") {
			return fmt.Errorf("condition GroupRefValid is %+v", c)
		}
		if c := findCondition(s, v1alpha1.ConditionStalled); c == nil || c.Status != metav1.ConditionTrue {
			return fmt.Errorf("condition Stalled is %+v", c)
		}
		return nil
	})
	if out := operandOf(t, name); out != "" {
		t.Errorf("objects were provisioned for an unknown group:\n%s", out)
	}

	apply(t, "{apiVersion: vmcp.dev/v1alpha1, kind: MCPGroup, metadata: {name: comes-later}}")
	s := awaitPhase(t, name, startLimit, v1alpha1.PhaseDegraded)
	if s.Status.Backends == nil || s.Status.Backends.Total != 0 {
		t.Errorf("status.backends is %+v, want an empty group", s.Status.Backends)
	}
	if c := findCondition(s, v1alpha1.ConditionReady); c == nil || c.Reason != v1alpha1.ReasonNoBackends {
		t.Errorf("condition Ready is %+v, want reason NoBackends", c)
	}

	must(t, "delete", "virtualmcpserver", name)
	eventually(t, 90*time.Second, "waiting for everything to be gone", func(ctx context.Context) error {
		out, err := kubectl.Run(ctx, operandArgs(name)...)
		if err != nil {
			return err
		}
		if out != "" {
			return errors.New("still there:\n" + out)
		}
		return nil
	})
}

// operandArgs lists everything that was provisioned for a gateway, pods included.
func operandArgs(name string) []string {
	return []string{"--namespace", namespace, "get", "--output=name", "--selector", v1alpha1.VirtualMCPServerLabel + "=" + name,
		"deployments,replicasets,pods,services,endpointslices,serviceaccounts,roles,rolebindings,configmaps,leases"}
}

func operandOf(t *testing.T, name string) string {
	t.Helper()
	out, err := kubectl.Run(t.Context(), operandArgs(name)...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestMalformedBackend sees the API server refuse, with a sentence, what no controller should have to look at.
func TestMalformedBackend(t *testing.T) {
	tests := map[string]struct {
		spec string
		want string
	}{
		"no place":               {"", "exactly one of workload, service and remote must be set"},
		"two places":             {"remote: {url: http://example.test/mcp}, service: {name: a, port: 80}", "exactly one of workload, service and remote must be set"},
		"stdio without command":  {"transport: stdio, workload: {image: a:1}", "workload.command is required with transport stdio"},
		"stdio behind a Service": {"transport: stdio, service: {name: a, port: 80}", "transport stdio is for workload only"},
		"not a URL":              {"remote: {url: 'ftp://example.test/mcp'}", "url must be an absolute http or https URL"},
		"password in the URL":    {"remote: {url: 'https://user:secret@example.test/mcp'}", "url must not contain user information"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			manifest := "{apiVersion: vmcp.dev/v1alpha1, kind: MCPBackend, metadata: {name: malformed}, spec: {groupRef: {name: demo}, " + test.spec + "}}"
			_, err := kubectl.RunInput(t.Context(), manifest, "--namespace", namespace, "apply", "--server-side", "-f", "-")
			if err == nil {
				must(t, "delete", "mcpbackend", "malformed")
				t.Fatal("the API server accepted it")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("the API server says %q, want %q", err, test.want)
			}
		})
	}
}

// TestNotMCP puts a server that answers 404 to everything into the group: it is isolated, and the others are served.
func TestNotMCP(t *testing.T) {
	awaitPhase(t, gateway, startLimit, v1alpha1.PhaseReady)
	// The gateway itself answers 404 to any path but /mcp.
	apply(t, `
apiVersion: vmcp.dev/v1alpha1
kind: MCPBackend
metadata: {name: not-mcp}
spec:
  groupRef: {name: demo}
  service: {name: vmcp-demo, port: 80, path: /elsewhere}
`)
	s := awaitPhase(t, gateway, changeLimit, v1alpha1.PhaseDegraded)
	b, err := verdict(s, "not-mcp")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, changeLimit, "waiting for the verdict on not-mcp", func(ctx context.Context) error {
		if s, err = getGateway(ctx, gateway); err != nil {
			return err
		}
		if b, err = verdict(s, "not-mcp"); err != nil {
			return err
		}
		if b.Status != v1alpha1.BackendUnavailable || b.Reason != v1alpha1.ReasonNotMCP || !strings.Contains(b.Message, "404") {
			return fmt.Errorf("not-mcp is reported as %+v", b)
		}
		return nil
	})
	t.Logf("the runtime says: %s", b.Message)
	session, _ := connect(t, gateway)
	callEach(t, session)
	must(t, "delete", "mcpbackend", "not-mcp")
	awaitPhase(t, gateway, changeLimit, v1alpha1.PhaseReady)
}
