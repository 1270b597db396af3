//go:build e2e

// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"strings"
	"testing"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// TestRuntimeRights asks the API server what the runtime's ServiceAccount may do: its own objects by name, the backends of its
// namespace, and nothing else.
func TestRuntimeRights(t *testing.T) {
	awaitPhase(t, gateway, startLimit, v1alpha1.PhaseReady)
	account := "system:serviceaccount:" + namespace + ":" + v1alpha1.OperandName(gateway)
	tests := []struct {
		question string
		want     string
	}{
		{"patch virtualmcpservers.vmcp.dev/demo --subresource=status", "yes"},
		{"patch virtualmcpservers.vmcp.dev/sibling --subresource=status", "no"},
		{"patch virtualmcpservers.vmcp.dev/demo", "no"},
		{"get virtualmcpservers.vmcp.dev/demo", "yes"},
		{"get virtualmcpservers.vmcp.dev/sibling", "no"},
		{"get configmaps/vmcp-demo", "yes"},
		{"get configmaps/other", "no"},
		{"update leases.coordination.k8s.io/vmcp-demo", "yes"},
		{"update leases.coordination.k8s.io/other", "no"},
		{"delete leases.coordination.k8s.io/vmcp-demo", "no"},
		{"list mcpbackends.vmcp.dev", "yes"},
		{"update mcpbackends.vmcp.dev", "no"},
		{"get secrets", "no"},
		{"get secrets/vmcp-demo", "no"}, // its session keys are mounted
		{"list secrets", "no"},
		{"get pods", "no"},
		{"create pods", "no"},
	}
	for _, test := range tests {
		t.Run(test.question, func(t *testing.T) {
			args := append([]string{"--namespace", namespace, "auth", "can-i", "--as", account}, strings.Fields(test.question)...)
			// kubectl ends with 1 to say no.
			out, err := kubectl.Run(t.Context(), args...)
			if got := strings.TrimSpace(out); got != test.want {
				t.Errorf("can-i %s: %q (%v), want %s", test.question, got, err, test.want)
			}
		})
	}
}
