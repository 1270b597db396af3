// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"testing"

	. "github.com/onsi/gomega"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

func TestForeignObjectsAreNotTakenOver(t *testing.T) {
	t.Parallel()
	// As other tools make them: some carry our label by accident, most do not, so that no cache of ours shows them.
	ours := map[string]string{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue}
	for name, c := range map[string]struct {
		foreign   func(metav1.ObjectMeta) client.Object
		condition string
	}{
		"ServiceAccount": {func(m metav1.ObjectMeta) client.Object { return &corev1.ServiceAccount{ObjectMeta: m} }, v1alpha1.ConditionRBACReady},
		"Role":           {func(m metav1.ObjectMeta) client.Object { return &rbacv1.Role{ObjectMeta: m} }, v1alpha1.ConditionRBACReady},
		"ConfigMap":      {func(m metav1.ObjectMeta) client.Object { return &corev1.ConfigMap{ObjectMeta: m} }, v1alpha1.ConditionConfigReady},
		"labelled ConfigMap": {func(m metav1.ObjectMeta) client.Object {
			m.Labels = ours
			return &corev1.ConfigMap{ObjectMeta: m}
		}, v1alpha1.ConditionConfigReady},
		"Lease":      {func(m metav1.ObjectMeta) client.Object { return &coordinationv1.Lease{ObjectMeta: m} }, v1alpha1.ConditionConfigReady},
		"Deployment": {func(m metav1.ObjectMeta) client.Object { return foreignDeployment(m) }, v1alpha1.ConditionDeploymentReady},
		"Service": {func(m metav1.ObjectMeta) client.Object {
			return &corev1.Service{ObjectMeta: m, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
		}, v1alpha1.ConditionServiceReady},
		kindPeers: {func(m metav1.ObjectMeta) client.Object {
			return &corev1.Service{ObjectMeta: m, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
		}, v1alpha1.ConditionServiceReady},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			o := c.foreign(f.meta(nameOf(name, "gateway")))
			f.create(o, f.group("team"), f.server("gateway", "team"))
			f.eventually("gateway",
				haveCondition(c.condition, metav1.ConditionFalse, v1alpha1.ReasonNotOwned),
				haveCondition(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonNotOwned),
			)
			before := o.GetResourceVersion()
			f.Expect(admin.Get(f.ctx, client.ObjectKeyFromObject(o), o)).To(Succeed())
			f.Expect(o.GetResourceVersion()).To(Equal(before))
		})
	}
}

// A VirtualMCPServer that is deleted and made again waits until the garbage collector has removed what the first one left. There is no
// garbage collector in these tests; the test is it.
func TestSuccessorWaitsForTheGarbageCollector(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(f.group("team"))
	f.converge("gateway")
	left := f.operand(f, "gateway")
	f.Expect(admin.Delete(f.ctx, f.server("gateway", "team"))).To(Succeed())
	s := f.server("gateway", "team")
	f.create(s)
	f.eventually("gateway",
		haveCondition(v1alpha1.ConditionRBACReady, metav1.ConditionFalse, v1alpha1.ReasonNotOwned),
		lackCondition(v1alpha1.ConditionStalled),
	)
	for kind, o := range left {
		f.Expect(admin.Delete(f.ctx, o)).To(Succeed(), kind)
	}
	f.eventually("gateway", haveCondition(v1alpha1.ConditionServiceReady, metav1.ConditionTrue, v1alpha1.ReasonAddressAssigned))
	for kind, o := range f.operand(f, "gateway") {
		f.Expect(metav1.IsControlledBy(o, s)).To(BeTrue(), kind)
	}
}

// Deletion is left to the garbage collector: every object names its owner, nothing holds the owner back, and the operator makes
// nothing again for what is gone.
func TestDeletionNeedsNoOperator(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(f.group("team"))
	s := f.converge("gateway")
	for kind, o := range f.operand(f, "gateway") {
		f.Expect(o.GetFinalizers()).To(BeEmpty(), kind)
		f.Expect(o.GetOwnerReferences()).To(HaveLen(1), kind)
		f.Expect(o.GetOwnerReferences()[0].UID).To(Equal(s.UID), kind)
	}
	f.Expect(admin.Delete(f.ctx, s)).To(Succeed())
	_, err := get[v1alpha1.VirtualMCPServer](f, "gateway")
	f.Expect(client.IgnoreNotFound(err)).To(Succeed())
	f.Expect(err).To(HaveOccurred(), "no finalizer holds it back")
	f.Eventually(func() error {
		return f.manager.GetCache().Get(f.ctx, f.requestFor("gateway").NamespacedName, &v1alpha1.VirtualMCPServer{})
	}).Should(MatchError(ContainSubstring("not found")))
	service, err := get[corev1.Service](f, "vmcp-gateway")
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(admin.Delete(f.ctx, service)).To(Succeed())
	f.Consistently(func() error {
		_, err := get[corev1.Service](f, "vmcp-gateway")
		return err
	}).Should(MatchError(ContainSubstring("not found")))
}

func foreignDeployment(m metav1.ObjectMeta) *appsv1.Deployment {
	labels := map[string]string{"app": "other"}
	return &appsv1.Deployment{ObjectMeta: m, Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "other", Image: "other"}}},
		},
	}}
}
