// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package runtime_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// A configuration that is not valid changes nothing of what is served; the status and the metrics say so until it is mended.
func TestCluster_RefusesABadConfiguration(t *testing.T) {
	alpha := startMCPServer(t, "echo")
	good := configv1alpha1.RuntimeConfiguration{Generation: 1, Group: "team"}
	o := provision(t, good)
	o.createBackend(t, "alpha", "team", alpha)
	r := o.start(t)
	o.expectPhase(t, v1alpha1.PhaseReady)
	session, _ := r.connect(t)

	o.configure(t, marshal(t, configv1alpha1.RuntimeConfiguration{Generation: 2, Group: "others"})+"colour: red\n")
	s := o.expect(t, func(s *v1alpha1.VirtualMCPServerStatus) string {
		for _, part := range []string{"generation 1 is served", "colour"} {
			if !strings.Contains(s.Message, part) {
				return "the message does not say " + part
			}
		}
		return ""
	})
	if i := slices.IndexFunc(s.Conditions, func(c metav1.Condition) bool { return c.Type == v1alpha1.ConditionReady }); i < 0 ||
		s.Phase != v1alpha1.PhaseDegraded || s.Conditions[i].Reason != v1alpha1.ReasonConfigurationRefused || s.Runtime.ObservedGeneration != 1 {
		t.Errorf("status is %+v", s)
	}
	expectTools(t, session, soon, "alpha_echo")
	expectMetrics(t, r, "vmcp_configuration_generation 1", "vmcp_configuration_refused 1")

	o.configure(t, marshal(t, good))
	o.expectPhase(t, v1alpha1.PhaseReady)
	expectMetrics(t, r, "vmcp_configuration_refused 0")
}

// Where the ConfigMap cannot be watched the mounted file is followed, which the kubelet writes without the runtime's rights.
func TestCluster_FollowsTheFile(t *testing.T) {
	alpha, beta := startMCPServer(t, "echo"), startMCPServer(t, "sum")
	o := provision(t, configv1alpha1.RuntimeConfiguration{Generation: 1, Group: "team"})
	o.createBackend(t, "alpha", "team", alpha)
	o.createBackend(t, "beta", "others", beta)
	role := &rbacv1.Role{}
	if err := o.Get(t.Context(), client.ObjectKey{Namespace: o.namespace, Name: v1alpha1.OperandName(o.name)}, role); err != nil {
		t.Fatal(err)
	}
	role.Rules = slices.DeleteFunc(role.Rules, func(rule rbacv1.PolicyRule) bool {
		return slices.Contains(rule.Resources, string(corev1.ResourceConfigMaps))
	})
	if err := o.Update(t.Context(), role); err != nil {
		t.Fatal(err)
	}
	r := o.start(t)
	o.expectPhase(t, v1alpha1.PhaseReady)
	session, _ := r.connect(t)
	expectTools(t, session, soon, "alpha_echo")

	next := marshal(t, configv1alpha1.RuntimeConfiguration{Generation: 2, Group: "others"})
	if err := os.WriteFile(o.file, []byte(next), 0o600); err != nil {
		t.Fatal(err)
	}
	expectTools(t, session, soon, "beta_sum")
	o.expect(t, func(s *v1alpha1.VirtualMCPServerStatus) string {
		if s.Runtime.ObservedGeneration != 2 {
			return "want generation 2"
		}
		return ""
	})
}

// expectMetrics waits until the metrics hold the lines.
func expectMetrics(t *testing.T, r *started, lines ...string) {
	t.Helper()
	eventually(t, soon, func() string {
		_, metrics := r.get(t, "/metrics")
		for _, line := range lines {
			if !strings.Contains(metrics, "\n"+line+"\n") {
				return "/metrics lacks " + line
			}
		}
		return ""
	})
}
