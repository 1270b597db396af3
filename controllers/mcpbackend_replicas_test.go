// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"testing"

	. "github.com/onsi/gomega"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// The number of a workload's pods is that of the spec, or whatever somebody else says, and never jumps when the choice changes hands.
func TestWorkloadReplicas(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(f.group("team"), f.workloadBackend("kube"))
	replicas := f.replicas("mcpb-kube")
	f.Eventually(replicas).Should(BeEquivalentTo(1))
	f.scale("mcpb-kube", 4)
	touch[v1alpha1.MCPBackend](f, "kube")
	f.Consistently(replicas).Should(BeEquivalentTo(4), "the operator leaves the number alone")

	edit(f, "kube", func(b *v1alpha1.MCPBackend) { b.Spec.Workload.Replicas = new(int32(3)) })
	f.Eventually(replicas).Should(BeEquivalentTo(3))
	f.scale("mcpb-kube", 1)
	f.Eventually(replicas).Should(BeEquivalentTo(3), "the spec has the last word")

	lowest := int32(3)
	edit(f, "kube", func(b *v1alpha1.MCPBackend) {
		b.Spec.Workload.Replicas, b.Spec.Workload.Image = nil, "registry.example.com/kube-mcp:v2"
	})
	f.Eventually(func(g Gomega) {
		lowest = min(lowest, replicas())
		d, err := get[appsv1.Deployment](f, "mcpb-kube")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(d.Spec.Template.Spec.Containers[0].Image).To(HaveSuffix(":v2"))
	}).Should(Succeed())
	f.Consistently(replicas).Should(BeEquivalentTo(3), "nobody has chosen another number yet")
	f.Expect(lowest).To(BeEquivalentTo(3))
	f.scale("mcpb-kube", 5)
	f.Consistently(replicas).Should(BeEquivalentTo(5))
	edit(f, "kube", func(b *v1alpha1.MCPBackend) { b.Spec.Workload.Replicas = new(int32(0)) })
	f.Eventually(replicas).Should(BeZero())
}

// An operator of an earlier version applied one pod to every workload. The field is handed over without a jump, once.
func TestWorkloadReplicasOfAnEarlierOperator(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(f.group("team"), f.workloadBackend("kube"))
	replicas := f.replicas("mcpb-kube")
	f.Eventually(replicas).Should(BeEquivalentTo(1))
	f.stop()
	d, err := get[appsv1.Deployment](f, "mcpb-kube")
	f.Expect(err).NotTo(HaveOccurred())
	owned, err := appsv1ac.ExtractDeployment(d, v1alpha1.OperatorFieldManager)
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(owned.Spec.Replicas).To(BeNil())
	owned.Spec.WithReplicas(2)
	f.Expect(admin.Apply(f.ctx, owned, client.FieldOwner(v1alpha1.OperatorFieldManager))).To(Succeed())

	f.start()
	f.Eventually(func(g Gomega) {
		d, err := get[appsv1.Deployment](f, "mcpb-kube")
		g.Expect(err).NotTo(HaveOccurred())
		owned, err := appsv1ac.ExtractDeployment(d, v1alpha1.OperatorFieldManager)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(owned.Spec.Replicas).To(BeNil())
		g.Expect(d.Spec.Replicas).To(HaveValue(BeEquivalentTo(2)))
	}).Should(Succeed())
}

// With several pods the Service keeps a client at the pod that holds its sessions.
func TestWorkloadServiceKeepsClientsAtTheirPod(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(f.group("team"), f.workloadBackend("kube"))
	f.Eventually(func(g Gomega) {
		s, err := get[corev1.Service](f, "mcpb-kube")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(s.Spec.SessionAffinity).To(Equal(corev1.ServiceAffinityClientIP))
	}).Should(Succeed())
}
