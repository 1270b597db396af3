// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"bytes"
	"testing"

	. "github.com/onsi/gomega"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// statusFields is what a manager owns of an object's status.
func statusFields(g Gomega, o metav1.Object, manager string) *fieldpath.Set {
	set := fieldpath.NewSet()
	for _, entry := range o.GetManagedFields() {
		if entry.Manager != manager || entry.Subresource != "status" {
			continue
		}
		g.Expect(entry.Operation).To(Equal(metav1.ManagedFieldsOperationApply))
		owned := &fieldpath.Set{}
		g.Expect(owned.FromJSON(bytes.NewReader(entry.FieldsV1.GetRawBytes()))).To(Succeed())
		set = set.Union(owned)
	}
	return set
}

// expectDisjoint expects that both writers own something of a status and that they share nothing: phase, backends and what belongs to
// them is the runtime's alone.
func expectDisjoint(g Gomega, s *v1alpha1.VirtualMCPServer) {
	operator := statusFields(g, s, v1alpha1.OperatorFieldManager)
	runtime := statusFields(g, s, v1alpha1.RuntimeFieldManager)
	g.Expect(operator.Size()).To(BeNumerically(">", 0))
	g.Expect(runtime.Size()).To(BeNumerically(">", 0))
	g.Expect(operator.Leaves().Intersection(runtime.Leaves()).Empty()).To(BeTrue(), "shared: %s",
		operator.Leaves().Intersection(runtime.Leaves()))
	for _, field := range []string{"phase", "message", "discoveredBackends", "backends", "catalog", "runtime"} {
		path := fieldpath.MakePathOrDie("status", field)
		g.Expect(operator.WithPrefix(path[0]).Has(path[1:])).To(BeFalse(), field)
		g.Expect(operator.WithPrefix(path[0]).WithPrefix(path[1]).Empty()).To(BeTrue(), field)
	}
	for _, condition := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionBackendsDiscovered, v1alpha1.ConditionCatalogReady} {
		item := fieldpath.MakePathOrDie("status", "conditions", fieldpath.KeyByFields("type", condition))
		g.Expect(operator.Has(item)).To(BeFalse(), condition)
	}
}

// Two writers share the status; neither owns, changes or drops a field of the other.
func TestStatusHasTwoDisjointWriters(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(f.group("team"))
	f.converge("gateway")
	s, err := get[v1alpha1.VirtualMCPServer](f, "gateway")
	f.Expect(err).NotTo(HaveOccurred())

	expectDisjoint(f, s)
	runtime := statusFields(f, s, v1alpha1.RuntimeFieldManager)

	// The operator writes again, and what the runtime reported stays.
	edit(f, "gateway", func(s *v1alpha1.VirtualMCPServer) { s.Spec.GroupRef.Name = "missing" })
	s = f.eventually("gateway",
		haveCondition(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonGroupNotFound),
		haveCondition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonAllBackendsReady),
	)
	f.Expect(s.Status.Phase).To(Equal(v1alpha1.PhaseReady))
	f.Expect(s.Status.DiscoveredBackends).To(HaveLen(1))
	f.Expect(s.Status.Catalog).NotTo(BeNil())
	f.Expect(statusFields(f, s, v1alpha1.RuntimeFieldManager).Equals(runtime)).To(BeTrue())
}

// The time of a transition moves with the status alone, not with the message, the generation or a restart.
func TestTransitionTimesAreStable(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(f.group("team"), f.group("other"))
	f.converge("gateway")
	// A time that a new condition could not get by chance.
	long := metav1.NewTime(reportTime.Time)
	f.Eventually(func(g Gomega) {
		s, err := get[v1alpha1.VirtualMCPServer](f, "gateway")
		g.Expect(err).NotTo(HaveOccurred())
		for i := range s.Status.Conditions {
			s.Status.Conditions[i].LastTransitionTime = long
		}
		g.Expect(admin.Status().Update(f.ctx, s)).To(Succeed())
	}).Should(Succeed())

	edit(f, "gateway", func(s *v1alpha1.VirtualMCPServer) { s.Spec.GroupRef.Name = "other" })
	f.restart()
	s := f.eventually("gateway", WithTransform(func(conditions []metav1.Condition) string {
		for _, c := range conditions {
			if c.Type == v1alpha1.ConditionGroupRefValid {
				return c.Message
			}
		}
		return ""
	}, ContainSubstring("other")))
	for _, c := range s.Status.Conditions {
		f.Expect(c.LastTransitionTime.Time).To(BeTemporally("==", long.Time), c.Type)
	}
	edit(f, "gateway", func(s *v1alpha1.VirtualMCPServer) { s.Spec.GroupRef.Name = "missing" })
	s = f.eventually("gateway", haveCondition(v1alpha1.ConditionGroupRefValid, metav1.ConditionFalse, v1alpha1.ReasonGroupNotFound))
	for _, c := range s.Status.Conditions {
		if c.Type == v1alpha1.ConditionGroupRefValid {
			f.Expect(c.LastTransitionTime.Time).To(BeTemporally(">", long.Time))
		}
	}
}
