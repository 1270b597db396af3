// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"testing"

	. "github.com/onsi/gomega"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// What an object from the cache is compared by tells the same differences as its managed fields.
func TestFingerprints(t *testing.T) {
	t.Parallel()
	const ours = `{"f:data":{"f:a":{},"f:b":{}},"f:metadata":{"f:labels":{"f:app":{}}}}`
	newConfigMap := func(data map[string]string, fields string) *corev1.ConfigMap {
		return &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{
				Name: "vmcp-team", Namespace: "tools", Labels: map[string]string{"app": "vmcp"}, Annotations: map[string]string{"example.com/foreign": "x"},
				ManagedFields: []metav1.ManagedFieldsEntry{
					{Manager: v1alpha1.OperatorFieldManager, Operation: metav1.ManagedFieldsOperationApply, APIVersion: "v1", FieldsV1: metav1.NewFieldsV1(fields)},
					{Manager: "kubectl", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", FieldsV1: metav1.NewFieldsV1(`{"f:metadata":{"f:annotations":{"f:example.com/foreign":{}}}}`)},
				},
			},
			Data: data,
		}
	}
	want := corev1ac.ConfigMap("vmcp-team", "tools").WithLabels(map[string]string{"app": "vmcp"}).WithData(map[string]string{"a": "1", "b": "2"})
	transform := fingerprinted(corev1ac.ExtractConfigMap, trimConfigMap)
	for name, c := range map[string]struct {
		live *corev1.ConfigMap
		want bool
	}{
		"as applied":         {newConfigMap(map[string]string{"a": "1", "b": "2"}, ours), true},
		"with foreign data":  {newConfigMap(map[string]string{"a": "1", "b": "2", "c": "3"}, ours), true},
		"edited":             {newConfigMap(map[string]string{"a": "1", "b": "other"}, ours), false},
		"taken over":         {newConfigMap(map[string]string{"a": "1", "b": "2"}, `{"f:data":{"f:a":{}},"f:metadata":{"f:labels":{"f:app":{}}}}`), false},
		"more than intended": {newConfigMap(map[string]string{"a": "1", "b": "2", "c": "3"}, `{"f:data":{"f:a":{},"f:b":{},"f:c":{}},"f:metadata":{"f:labels":{"f:app":{}}}}`), false},
		"labels alone":       {newConfigMap(map[string]string{"a": "1", "b": "2"}, `{"f:metadata":{"f:labels":{"f:app":{}}}}`), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			g.Expect(isApplied(c.live, want, corev1ac.ExtractConfigMap)).To(Equal(c.want), "from the API server")
			for range 2 { // informers transform some objects twice
				cached, err := transform(c.live)
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(cached).To(BeIdenticalTo(c.live))
			}
			g.Expect(c.live.Data).To(BeEmpty())
			g.Expect(isApplied(c.live, want, corev1ac.ExtractConfigMap)).To(Equal(c.want), "from the cache")
		})
	}
}

// An object that cannot be compared by a fingerprint stays as it is, so that whoever compares it has the error to tell.
func TestNoFingerprintOfUnreadableFields(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	c := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "vmcp-team", ManagedFields: []metav1.ManagedFieldsEntry{
		{Manager: v1alpha1.OperatorFieldManager, Operation: metav1.ManagedFieldsOperationApply, APIVersion: "v1", FieldsV1: metav1.NewFieldsV1(`{"v:{":{}}`)},
	}}, Data: map[string]string{"a": "1"}}
	before := c.DeepCopy()
	_, err := fingerprinted(corev1ac.ExtractConfigMap, trimConfigMap)(c)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(c).To(Equal(before))
	_, err = isApplied(c, corev1ac.ConfigMap("vmcp-team", ""), corev1ac.ExtractConfigMap)
	g.Expect(err).To(MatchError(ContainSubstring("reading the managed fields")))
}

// A Deployment in the cache still says how its rollout goes, and on whose account.
func TestTrimmedDeployment(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	rolling := metav1.Unix(1000, 0)
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "vmcp-team", Generation: 3, ManagedFields: []metav1.ManagedFieldsEntry{
			{
				Manager: v1alpha1.OperatorFieldManager, Operation: metav1.ManagedFieldsOperationApply, APIVersion: "apps/v1", Time: &rolling,
				FieldsV1: metav1.NewFieldsV1(`{"f:spec":{"f:replicas":{},"f:template":{"f:spec":{"f:serviceAccountName":{}}}}}`),
			},
			{Manager: "kubectl-scale", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "apps/v1", Subresource: "scale", FieldsV1: metav1.NewFieldsV1(`{"f:spec":{"f:replicas":{}}}`)},
		}},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(2)), ProgressDeadlineSeconds: new(int32(60)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "vmcp"}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{v1alpha1.OutgoingAuthSourceAnnotation: "inline", "example.com/long": "x"}},
				Spec:       corev1.PodSpec{ServiceAccountName: "vmcp-team"},
			},
		},
		Status: appsv1.DeploymentStatus{ObservedGeneration: 3, Replicas: 2, UpdatedReplicas: 1},
	}
	whole := d.DeepCopy()
	_, err := fingerprinted(appsv1ac.ExtractDeployment, trimDeployment)(d)
	g.Expect(err).NotTo(HaveOccurred())
	for _, d := range []*appsv1.Deployment{whole, d} {
		at, operator := templateChange(d)
		g.Expect(at).To(BeTemporally("==", rolling.Time))
		g.Expect(operator).To(BeTrue())
		g.Expect(deploymentVerdict(d)).To(Equal(deploymentVerdict(whole)))
		g.Expect(d.Spec.Selector).To(Equal(whole.Spec.Selector))
		g.Expect(d.Spec.ProgressDeadlineSeconds).To(HaveValue(BeEquivalentTo(60)))
		g.Expect(d.Spec.Template.Annotations).To(HaveKeyWithValue(v1alpha1.OutgoingAuthSourceAnnotation, "inline"))
	}
	g.Expect(d.Spec.Template.Spec).To(Equal(corev1.PodSpec{}))
}
