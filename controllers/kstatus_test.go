// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	. "github.com/onsi/gomega"
	"sigs.k8s.io/yaml"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// What kubectl wait, Flux and Argo CD make of an object, they compute with the library of kstatus. It needs other versions of many modules
// than the operator, so that the documents here are golden files, and test/kstatus, a module of its own, asks the library
// about them.
func TestDocumentsForKstatus(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	other := f.backend("other", remote("https://mcp.example.com/mcp"), ownConfig("greedy"))
	other.Spec.GroupRef.Name = "other"
	f.create(f.group("team"), f.group("other"), f.server("other", "other"), f.greedyRole("greedy"), other)
	f.eventuallyGroup("team", haveCondition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonAuthRolesBound))
	f.expectDocument("mcpgroup-healthy", "team", &v1alpha1.MCPGroup{})
	f.eventuallyGroup("other", haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonAuthRoleNotBound))
	f.expectDocument("mcpgroup-not-bound", "other", &v1alpha1.MCPGroup{})

	s := f.server("starting", "team")
	f.create(s)
	f.eventually("starting", haveCondition(v1alpha1.ConditionDeploymentReady, metav1.ConditionFalse, v1alpha1.ReasonProgressing),
		haveCondition(v1alpha1.ConditionServiceReady, metav1.ConditionTrue, v1alpha1.ReasonAddressAssigned))
	f.expectDocument("virtualmcpserver-starting", "starting", &v1alpha1.VirtualMCPServer{})

	f.converge("gateway")
	f.expectDocument("virtualmcpserver-healthy", "gateway", &v1alpha1.VirtualMCPServer{})

	// The next generation rolls, and does not get far: the pods of the first serve, and the runtime reports what they serve.
	edit(f, "gateway", func(s *v1alpha1.VirtualMCPServer) {
		s.Spec.Patches = []v1alpha1.Patch{deploymentPatch("spec: {template: {spec: {nodeSelector: {disktype: none}}}}")}
	})
	f.rolling("vmcp-gateway", 2, "ReplicaSetUpdated", corev1.ConditionTrue)
	f.eventually("gateway", haveCondition(v1alpha1.ConditionDeploymentReady, metav1.ConditionFalse, v1alpha1.ReasonProgressing))
	f.expectDocument("virtualmcpserver-rolling", "gateway", &v1alpha1.VirtualMCPServer{})
	f.rolling("vmcp-gateway", 2, "ProgressDeadlineExceeded", corev1.ConditionFalse)
	f.eventually("gateway",
		haveCondition(v1alpha1.ConditionDeploymentReady, metav1.ConditionFalse, v1alpha1.ReasonProgressDeadlineExceeded))
	f.expectDocument("virtualmcpserver-rollout-stuck", "gateway", &v1alpha1.VirtualMCPServer{})

	f.converge("patched")
	edit(f, "patched", func(s *v1alpha1.VirtualMCPServer) {
		s.Spec.Patches = []v1alpha1.Patch{deploymentPatch("spec: {template: {spec: {hostNetwork: true}}}")}
	})
	f.eventually("patched", haveCondition(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonRenderFailed))
	f.expectDocument("virtualmcpserver-bad-patch", "patched", &v1alpha1.VirtualMCPServer{})

	f.create(f.server("lost", "nowhere"))
	f.eventually("lost", haveCondition(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonGroupNotFound))
	f.expectDocument("virtualmcpserver-unknown-group", "lost", &v1alpha1.VirtualMCPServer{})

	f.create(f.backend("grafana", remote("https://mcp.example.com/mcp")), f.backend("docs", service("absent", 80)), f.workloadBackend("kube"))
	f.eventuallyBackend("grafana", haveCondition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonNothingToProvision))
	f.expectDocument("mcpbackend-healthy", "grafana", &v1alpha1.MCPBackend{})
	f.eventuallyBackend("docs", haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonServiceNotFound))
	f.expectDocument("mcpbackend-no-service", "docs", &v1alpha1.MCPBackend{})
	f.eventuallyBackend("kube", haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonProgressing))
	f.expectDocument("mcpbackend-starting", "kube", &v1alpha1.MCPBackend{})

	f.create(f.credential("token"), f.authConfig("usable", "token"), f.authConfig("missing", "nowhere"))
	f.eventuallyUsable("usable")
	f.expectDocument("mcpexternalauthconfig-healthy", "usable", &v1alpha1.MCPExternalAuthConfig{})
	f.eventuallyRefused("missing", v1alpha1.ReasonSecretNotFound)
	f.expectDocument("mcpexternalauthconfig-no-secret", "missing", &v1alpha1.MCPExternalAuthConfig{})
}

// rolling does what the Deployment controller does while the pod of a new generation is not ready, and when it is not in time.
func (f *fixture) rolling(deployment string, generation int64, reason string, progressing corev1.ConditionStatus) {
	f.t.Helper()
	f.Eventually(func(g Gomega) {
		d, err := get[appsv1.Deployment](f, deployment)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(d.Generation).To(Equal(generation))
		d.Status = appsv1.DeploymentStatus{
			ObservedGeneration: d.Generation, Replicas: 2, UpdatedReplicas: 1, ReadyReplicas: 1, AvailableReplicas: 1, UnavailableReplicas: 1,
			Conditions: []appsv1.DeploymentCondition{
				{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionTrue, Reason: "MinimumReplicasAvailable"},
				{Type: appsv1.DeploymentProgressing, Status: progressing, Reason: reason},
			},
		}
		g.Expect(admin.Status().Update(f.ctx, d)).To(Succeed())
	}).Should(Succeed())
}

// expectDocument waits until what kstatus looks at of an object is what a golden file says.
func (f *fixture) expectDocument(file, name string, o client.Object) {
	f.t.Helper()
	path := filepath.Join("..", "test", "kstatus", "testdata", file+".yaml")
	if flag.Lookup("update").Value.String() == "true" { // the flag of the tests inside the package
		f.Expect(os.WriteFile(path, f.document(f, name, o), 0o600)).To(Succeed())
		return
	}
	want, err := os.ReadFile(path)
	f.Expect(err).NotTo(HaveOccurred())
	f.Eventually(func(g Gomega) {
		g.Expect(cmp.Diff(string(want), string(f.document(g, name, o)))).To(BeEmpty())
	}).Should(Succeed(), "%s differs; run the test with -update if that is meant", path)
}

// document is what of an object kstatus looks at.
func (f *fixture) document(g Gomega, name string, o client.Object) []byte {
	g.Expect(admin.Get(f.ctx, client.ObjectKey{Namespace: f.namespace, Name: name}, o)).To(Succeed())
	gvk, err := admin.GroupVersionKindFor(o)
	g.Expect(err).NotTo(HaveOccurred())
	var conditions []metav1.Condition
	var observed int64
	switch o := o.(type) {
	case *v1alpha1.VirtualMCPServer:
		observed, conditions = o.Status.ObservedGeneration, o.Status.Conditions
	case *v1alpha1.MCPGroup:
		observed, conditions = o.Status.ObservedGeneration, o.Status.Conditions
	case *v1alpha1.MCPBackend:
		observed, conditions = o.Status.ObservedGeneration, o.Status.Conditions
	case *v1alpha1.MCPExternalAuthConfig:
		observed, conditions = o.Status.ObservedGeneration, o.Status.Conditions
	}
	list := []map[string]any{}
	for _, c := range conditions {
		list = append(list, map[string]any{"type": c.Type, "status": c.Status, "reason": c.Reason})
	}
	document, err := yaml.Marshal(map[string]any{
		"apiVersion": gvk.GroupVersion().String(),
		"kind":       gvk.Kind,
		"metadata":   map[string]any{"name": name, "generation": o.GetGeneration()},
		"status":     map[string]any{"observedGeneration": observed, "conditions": list},
	})
	g.Expect(err).NotTo(HaveOccurred())
	return document
}
