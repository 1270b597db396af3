// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"testing"

	. "github.com/onsi/gomega"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

func deploymentPatch(text string) v1alpha1.Patch {
	return v1alpha1.Patch{Target: v1alpha1.PatchTarget{Kind: "Deployment"}, Patch: text}
}

// What a user says about the operand reaches the cluster, and goes with the next generation that does not say it.
func TestOperandFieldsAreApplied(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(f.group("team"))
	s := f.server("gateway", "team")
	s.Spec.Resources = &v1alpha1.ComputeResources{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("256Mi")}}
	s.Spec.ImagePullSecrets = []v1alpha1.LocalReference{{Name: "registry"}}
	s.Spec.CommonMetadata = v1alpha1.CommonMetadata{
		Labels: map[string]v1alpha1.LabelValue{"team": "platform"}, Annotations: map[string]v1alpha1.AnnotationValue{"example.com/owner": "me"},
	}
	s.Spec.Patches = []v1alpha1.Patch{
		deploymentPatch("spec: {template: {spec: {nodeSelector: {disktype: ssd}}}}"),
		{Target: v1alpha1.PatchTarget{Kind: "Service"}, Patch: `[{"op": "add", "path": "/spec/type", "value": "NodePort"}]`},
	}
	f.create(s)
	f.eventually("gateway",
		haveCondition(v1alpha1.ConditionOperandRendered, metav1.ConditionTrue, v1alpha1.ReasonRendered),
		haveCondition(v1alpha1.ConditionServiceReady, metav1.ConditionTrue, v1alpha1.ReasonAddressAssigned),
		lackCondition(v1alpha1.ConditionStalled))
	for kind, o := range f.operand(f, "gateway") {
		f.Expect(o.GetLabels()).To(HaveKeyWithValue("team", "platform"), kind)
		f.Expect(o.GetAnnotations()).To(HaveKeyWithValue("example.com/owner", "me"), kind)
	}
	d, err := get[appsv1.Deployment](f, "vmcp-gateway")
	f.Expect(err).NotTo(HaveOccurred())
	pod := d.Spec.Template.Spec
	f.Expect(pod.NodeSelector).To(Equal(map[string]string{"disktype": "ssd"}))
	f.Expect(pod.ImagePullSecrets).To(ConsistOf(corev1.LocalObjectReference{Name: "registry"}))
	f.Expect(pod.Containers[0].Resources.Requests).To(BeEmpty())
	f.Expect(pod.Containers[0].Resources.Limits).To(HaveKey(corev1.ResourceMemory))
	service, err := get[corev1.Service](f, "vmcp-gateway")
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(service.Spec.Type).To(Equal(corev1.ServiceTypeNodePort))

	// In steady state nothing is written, whatever the fields say.
	f.rollOut("vmcp-gateway")
	f.report(s, s.Generation)
	f.settles("gateway")
	f.requests.forget()
	f.restart()
	f.Consistently(f.requests.writes).Should(BeEmpty())

	edit(f, "gateway", func(s *v1alpha1.VirtualMCPServer) {
		s.Spec = v1alpha1.VirtualMCPServerSpec{GroupRef: s.Spec.GroupRef}
	})
	f.Eventually(func(g Gomega) {
		for kind, o := range f.operand(g, "gateway") {
			g.Expect(o.GetLabels()).NotTo(HaveKey("team"), kind)
			g.Expect(o.GetAnnotations()).NotTo(HaveKey("example.com/owner"), kind)
		}
		d, err := get[appsv1.Deployment](f, "vmcp-gateway")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(d.Spec.Template.Spec.NodeSelector).To(BeEmpty())
		g.Expect(d.Spec.Template.Spec.ImagePullSecrets).To(BeEmpty())
		g.Expect(d.Spec.Template.Spec.Containers[0].Resources.Requests).To(HaveKey(corev1.ResourceCPU))
		service, err := get[corev1.Service](f, "vmcp-gateway")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(service.Spec.Type).To(Equal(corev1.ServiceTypeClusterIP))
	}).Should(Succeed())
}

// A bad patch changes nothing of what runs, and the status says which one it is. Once it is right it is applied.
func TestBadPatchKeepsWhatRuns(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(f.group("team"))
	f.converge("gateway")
	before := f.operand(f, "gateway")
	unchanged := func(g Gomega) {
		for kind, o := range f.operand(g, "gateway") {
			g.Expect(o.GetResourceVersion()).To(Equal(before[kind].GetResourceVersion()), kind)
		}
	}
	good := deploymentPatch(`{"metadata": {"annotations": {"example.com/a": "b"}}}`)
	for name, c := range map[string]struct{ text, want string }{
		"broken rule":   {"spec: {template: {spec: {hostNetwork: true}}}", "spec.patches[1]: the patch violates the restricted Pod Security Standard"},
		"broken syntax": {"spec: [", "spec.patches[1]: yaml: line 1"},
		"API server": {`{"spec": {"template": {"spec": {"tolerations": [{"key": "a", "operator": "Maybe"}]}}}}`,
			"spec.patches: the API server refuses the patched Deployment"},
		"unknown field": {"spec: {replicsa: 2}", `unknown field "spec.replicsa"`},
	} {
		edit(f, "gateway", func(s *v1alpha1.VirtualMCPServer) {
			// The configuration would change, too, if anything did.
			s.Spec.Aggregation.ConflictResolution.PrefixFormat = "other_{backend}_"
			s.Spec.Patches = []v1alpha1.Patch{good, deploymentPatch(c.text)}
		})
		f.Eventually(func(g Gomega) {
			s, err := get[v1alpha1.VirtualMCPServer](f, "gateway")
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(s.Status.ObservedGeneration).To(Equal(s.Generation), "the verdict on the generation is the operator's own")
			g.Expect(s.Status.Conditions).To(And(
				haveCondition(v1alpha1.ConditionOperandRendered, metav1.ConditionFalse, v1alpha1.ReasonRenderFailed),
				haveCondition(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonRenderFailed),
				haveCondition(v1alpha1.ConditionDeploymentReady, metav1.ConditionTrue, v1alpha1.ReasonAvailable),
				haveCondition(v1alpha1.ConditionServiceReady, metav1.ConditionTrue, v1alpha1.ReasonAddressAssigned),
			))
			for _, condition := range []string{v1alpha1.ConditionOperandRendered, v1alpha1.ConditionStalled} {
				g.Expect(meta.FindStatusCondition(s.Status.Conditions, condition).Message).To(ContainSubstring(c.want))
			}
		}).Should(Succeed(), name)
		unchanged(f)
	}
	f.Consistently(unchanged).Should(Succeed())

	edit(f, "gateway", func(s *v1alpha1.VirtualMCPServer) {
		s.Spec.Patches = []v1alpha1.Patch{good, deploymentPatch("spec: {template: {spec: {dnsPolicy: Default}}}")}
	})
	f.eventually("gateway",
		haveCondition(v1alpha1.ConditionOperandRendered, metav1.ConditionTrue, v1alpha1.ReasonRendered),
		lackCondition(v1alpha1.ConditionStalled))
	f.Eventually(func(g Gomega) {
		d := &appsv1.Deployment{}
		g.Expect(admin.Get(f.ctx, client.ObjectKey{Namespace: f.namespace, Name: "vmcp-gateway"}, d)).To(Succeed())
		g.Expect(d.Spec.Template.Spec.DNSPolicy).To(Equal(corev1.DNSDefault))
		g.Expect(d.Annotations).To(HaveKeyWithValue("example.com/a", "b"))
	}).Should(Succeed())
}
