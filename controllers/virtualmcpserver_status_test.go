// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"errors"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

const generation = 5

func rolledOut() *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Generation: 2},
		Spec:       appsv1.DeploymentSpec{Replicas: ptr.To[int32](1)},
		Status: appsv1.DeploymentStatus{
			ObservedGeneration: 2, Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1, AvailableReplicas: 1,
		},
	}
}

func deploymentWith(change func(*appsv1.Deployment)) *appsv1.Deployment {
	d := rolledOut()
	change(d)
	return d
}

func TestVirtualMCPServerStatus(t *testing.T) {
	t.Parallel()
	addressed := &corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: "10.0.0.1"}}
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "roles"}, "vmcp-gateway", errors.New("no"))
	gaveUp := deploymentWith(func(d *appsv1.Deployment) {
		d.Status.AvailableReplicas = 0
		d.Status.Conditions = []appsv1.DeploymentCondition{{
			Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded", Message: "gave up",
		}}
	})
	for name, c := range map[string]struct {
		facts virtualMCPServerFacts
		// reported is the generation that the runtime says it serves.
		reported int64
		want     map[string]string
		// observed is the generation in the status; 3 is what stands there before.
		observed int64
	}{
		"all is well": {
			facts:    virtualMCPServerFacts{groupFound: true, deployment: rolledOut(), service: addressed},
			reported: generation,
			want: map[string]string{
				"GroupRefValid": "True/GroupFound", "OperandRendered": "True/Rendered", "RBACReady": "True/Applied",
				"ConfigReady": "True/Applied", "DeploymentReady": "True/Available", "ServiceReady": "True/AddressAssigned",
			},
			observed: generation,
		},
		"the runtime serves an earlier generation": {
			facts:    virtualMCPServerFacts{groupFound: true, deployment: rolledOut(), service: addressed},
			reported: generation - 1,
			want:     map[string]string{"DeploymentReady": "True/Available", "Stalled": ""},
			observed: 3,
		},
		"an old pod still runs": {
			facts: virtualMCPServerFacts{groupFound: true, service: addressed, deployment: deploymentWith(func(d *appsv1.Deployment) {
				d.Status.Replicas = 2
			})},
			reported: generation,
			want:     map[string]string{"DeploymentReady": "False/Progressing", "Stalled": ""},
			observed: 3,
		},
		"the Deployment's change is not seen yet": {
			facts: virtualMCPServerFacts{groupFound: true, service: addressed, deployment: deploymentWith(func(d *appsv1.Deployment) {
				d.Generation = 3
			})},
			reported: generation,
			want:     map[string]string{"DeploymentReady": "False/Progressing"},
			observed: 3,
		},
		"the Deployment gave up": {
			facts:    virtualMCPServerFacts{groupFound: true, service: addressed, deployment: gaveUp},
			want:     map[string]string{"DeploymentReady": "False/ProgressDeadlineExceeded", "Stalled": "True/ProgressDeadlineExceeded"},
			observed: generation,
		},
		"the Service has no address": {
			facts:    virtualMCPServerFacts{groupFound: true, deployment: rolledOut(), service: &corev1.Service{}},
			reported: generation,
			want:     map[string]string{"ServiceReady": "False/NoAddress", "Stalled": ""},
			observed: generation,
		},
		"unknown group, nothing runs": {
			facts: virtualMCPServerFacts{},
			want: map[string]string{
				"GroupRefValid": "False/GroupNotFound", "OperandRendered": "Unknown/Blocked", "RBACReady": "Unknown/Blocked",
				"ConfigReady": "Unknown/Blocked", "DeploymentReady": "False/Blocked", "ServiceReady": "False/Blocked",
				"Stalled": "True/GroupNotFound",
			},
			observed: generation,
		},
		"unknown group, something runs": {
			facts:    virtualMCPServerFacts{deployment: rolledOut(), service: addressed},
			want:     map[string]string{"DeploymentReady": "True/Available", "ServiceReady": "True/AddressAssigned", "Stalled": "True/GroupNotFound"},
			observed: generation,
		},
		"invalid spec": {
			facts: virtualMCPServerFacts{invalid: field.ErrorList{field.Required(field.NewPath("spec", "groupRef", "name"), "name it")}},
			want: map[string]string{
				"GroupRefValid": "Unknown/Blocked", "OperandRendered": "False/InvalidSpec", "Stalled": "True/InvalidSpec",
			},
			observed: generation,
		},
		"rendering failed": {
			facts:    virtualMCPServerFacts{groupFound: true, renderErr: errors.New("no such field")},
			want:     map[string]string{"OperandRendered": "False/RenderFailed", "RBACReady": "Unknown/Blocked", "Stalled": "True/RenderFailed"},
			observed: generation,
		},
		"the API server refuses the Role": {
			facts: virtualMCPServerFacts{groupFound: true, failed: "RBACReady", failedErr: forbidden},
			want: map[string]string{
				"OperandRendered": "True/Rendered", "RBACReady": "False/ApplyFailed", "ConfigReady": "Unknown/Blocked",
				"DeploymentReady": "False/Blocked", "Stalled": "True/ApplyFailed",
			},
			observed: generation,
		},
		"the API server is away": {
			facts:    virtualMCPServerFacts{groupFound: true, failed: "ConfigReady", failedErr: errors.New("connection refused")},
			want:     map[string]string{"RBACReady": "True/Applied", "ConfigReady": "False/ApplyFailed", "DeploymentReady": "False/Blocked", "Stalled": ""},
			observed: 3,
		},
		"a foreign Service is in the way": {
			facts: virtualMCPServerFacts{
				groupFound: true, deployment: rolledOut(), failed: "ServiceReady", failedErr: &notOwnedError{kind: "Service", name: "vmcp-gateway"},
			},
			reported: generation,
			want:     map[string]string{"DeploymentReady": "True/Available", "ServiceReady": "False/NotOwned", "Stalled": "True/NotOwned"},
			observed: generation,
		},
		"a predecessor's object waits for the garbage collector": {
			facts: virtualMCPServerFacts{groupFound: true, failed: "ConfigReady", failedErr: &notOwnedError{
				kind: "Lease", name: "vmcp-gateway", predecessor: true, controller: &metav1.OwnerReference{Kind: "VirtualMCPServer"},
			}},
			want:     map[string]string{"ConfigReady": "False/NotOwned", "Stalled": ""},
			observed: 3,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			s := &v1alpha1.VirtualMCPServer{
				ObjectMeta: metav1.ObjectMeta{Name: "gateway", Namespace: "tools", Generation: generation},
				Spec:       v1alpha1.VirtualMCPServerSpec{GroupRef: v1alpha1.LocalReference{Name: "team"}},
				Status:     v1alpha1.VirtualMCPServerStatus{ObservedGeneration: 3},
			}
			if c.reported > 0 {
				s.Status.Runtime = &v1alpha1.RuntimeInfo{ObservedGeneration: c.reported}
			}
			c.facts.reported, c.facts.runtimeHolds = true, true
			status := newVirtualMCPServerStatus(s, c.facts, time.Now())

			got := map[string]string{}
			for _, condition := range status.Conditions {
				got[*condition.Type] = string(*condition.Status) + "/" + *condition.Reason
				g.Expect(*condition.ObservedGeneration).To(BeEquivalentTo(generation))
				g.Expect(*condition.Message).NotTo(BeEmpty(), *condition.Type)
			}
			for conditionType, want := range c.want {
				g.Expect(got[conditionType]).To(Equal(want), conditionType)
			}
			g.Expect(status.ObservedGeneration).To(HaveValue(Equal(c.observed)))
			g.Expect(status.URL).To(HaveValue(Equal("http://vmcp-gateway.tools.svc/mcp")))
			// What is the runtime's never appears.
			g.Expect(status.Phase).To(BeNil())
			g.Expect(status.Message).To(BeNil())
			g.Expect(status.DiscoveredBackends).To(BeNil())
			g.Expect(status.Backends).To(BeNil())
			g.Expect(status.Catalog).To(BeNil())
			g.Expect(status.Runtime).To(BeNil())
		})
	}
}

func TestLongMessagesAreCutBetweenCharacters(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	for _, unit := range []string{"a", "ä", "…", "🙂"} {
		s := truncate(strings.Repeat(unit, maxMessage), maxMessage)
		g.Expect(len(s)).To(BeNumerically("<=", maxMessage))
		g.Expect(strings.ToValidUTF8(s, "?")).To(Equal(s))
	}
	g.Expect(truncate("short", maxMessage)).To(Equal("short"))
}
