// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/types"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	acv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
)

func (f *fixture) group(name string) *v1alpha1.MCPGroup {
	return &v1alpha1.MCPGroup{ObjectMeta: f.meta(name)}
}

func (f *fixture) server(name, group string) *v1alpha1.VirtualMCPServer {
	return &v1alpha1.VirtualMCPServer{
		ObjectMeta: f.meta(name),
		Spec:       v1alpha1.VirtualMCPServerSpec{GroupRef: v1alpha1.LocalReference{Name: group}},
	}
}

// operandKinds are the kinds that are provisioned for a VirtualMCPServer.
func operandKinds() map[string]client.Object {
	return map[string]client.Object{
		"ServiceAccount": &corev1.ServiceAccount{},
		"Role":           &rbacv1.Role{},
		"RoleBinding":    &rbacv1.RoleBinding{},
		"ConfigMap":      &corev1.ConfigMap{},
		"Lease":          &coordinationv1.Lease{},
		"Deployment":     &appsv1.Deployment{},
		"Service":        &corev1.Service{},
		kindPeers:        &corev1.Service{},
	}
}

// kindPeers stands for the headless Service of the pods.
const kindPeers = "Service of the pods"

// nameOf is the name of an object of a VirtualMCPServer.
func nameOf(kind, server string) string {
	if kind == kindPeers {
		return v1alpha1.PeersServiceName(server)
	}
	return v1alpha1.OperandName(server)
}

// operand reads all objects of a VirtualMCPServer, or fails on the first that is not there.
func (f *fixture) operand(g Gomega, server string) map[string]client.Object {
	objects := operandKinds()
	for kind, o := range objects {
		key := client.ObjectKey{Namespace: f.namespace, Name: nameOf(kind, server)}
		g.Expect(admin.Get(f.ctx, key, o)).To(Succeed(), kind)
	}
	return objects
}

// condition matches an object's condition by type, status and reason.
func haveCondition(conditionType string, status metav1.ConditionStatus, reason string) types.GomegaMatcher {
	return WithTransform(func(conditions []metav1.Condition) string {
		c := meta.FindStatusCondition(conditions, conditionType)
		if c == nil {
			return "absent"
		}
		return string(c.Status) + "/" + c.Reason
	}, Equal(string(status)+"/"+reason))
}

func lackCondition(conditionType string) types.GomegaMatcher {
	return WithTransform(func(conditions []metav1.Condition) *metav1.Condition {
		return meta.FindStatusCondition(conditions, conditionType)
	}, BeNil())
}

// eventually waits until the status of a VirtualMCPServer matches.
func (f *fixture) eventually(server string, matchers ...types.GomegaMatcher) *v1alpha1.VirtualMCPServer {
	f.t.Helper()
	var s *v1alpha1.VirtualMCPServer
	f.Eventually(func(g Gomega) {
		var err error
		s, err = get[v1alpha1.VirtualMCPServer](f, server)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(s.Status.Conditions).To(And(matchers...))
	}).Should(Succeed())
	return s
}

// rollOut does the work of the Deployment controller and the kubelet: pods of the present template are available.
func (f *fixture) rollOut(deployment string) {
	f.t.Helper()
	f.Eventually(func(g Gomega) {
		d, err := get[appsv1.Deployment](f, deployment)
		g.Expect(err).NotTo(HaveOccurred())
		d.Status = appsv1.DeploymentStatus{
			ObservedGeneration: d.Generation, Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1, AvailableReplicas: 1,
		}
		g.Expect(admin.Status().Update(f.ctx, d)).To(Succeed())
	}).Should(Succeed())
}

// report does what the runtime's StatusReporter does.
func (f *fixture) report(s *v1alpha1.VirtualMCPServer, generation int64) {
	f.t.Helper()
	status := acv1alpha1.VirtualMCPServerStatus().
		WithPhase(v1alpha1.PhaseReady).
		WithMessage("1 of 1 backends is ready").
		WithBackends(acv1alpha1.BackendsSummary().WithTotal(1).WithReady(1)).
		WithCatalog(acv1alpha1.CatalogSummary().WithTools(2).WithPrompts(0).WithResources(0).WithConflicts(0)).
		WithDiscoveredBackends(acv1alpha1.DiscoveredBackend().WithKind("MCPBackend").WithName("grafana").WithStatus(v1alpha1.BackendReady)).
		WithRuntime(acv1alpha1.RuntimeInfo().WithReporter("pod").WithObservedGeneration(generation)).
		WithConditions(readyCondition(generation))
	f.Expect(admin.Status().Apply(f.ctx, acv1alpha1.VirtualMCPServer(s.Name, s.Namespace).WithStatus(status),
		client.FieldOwner(v1alpha1.RuntimeFieldManager), client.ForceOwnership)).To(Succeed())
}

// converge provisions a server, rolls its Deployment out and reports for it. When it returns, the operator has said all that it has to
// say about that.
func (f *fixture) converge(name string) *v1alpha1.VirtualMCPServer {
	f.t.Helper()
	s := f.serve(name)
	f.settles(name)
	return s
}

// serve provisions a server, rolls its Deployment out and reports for it.
func (f *fixture) serve(name string) *v1alpha1.VirtualMCPServer {
	f.t.Helper()
	s := f.server(name, "team")
	f.create(s)
	f.Eventually(func(g Gomega) { f.operand(g, name) }).Should(Succeed())
	f.rollOut(v1alpha1.OperandName(name))
	f.report(s, s.Generation)
	return s
}

// settles waits until the operator has said that all pods serve what the runtime reports, of the gateway and to its group.
func (f *fixture) settles(name string) {
	f.t.Helper()
	f.Eventually(func(g Gomega) {
		s, err := get[v1alpha1.VirtualMCPServer](f, name)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(s.Status.ObservedGeneration).To(Equal(s.Generation))
		g.Expect(s.Status.Conditions).To(And(
			haveCondition(v1alpha1.ConditionDeploymentReady, metav1.ConditionTrue, v1alpha1.ReasonAvailable),
			haveCondition(v1alpha1.ConditionRuntimeReporting, metav1.ConditionTrue, v1alpha1.ReasonReporting)))
		group, err := get[v1alpha1.MCPGroup](f, s.Spec.GroupRef.Name)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(group.Status.VirtualMCPServers).To(HaveValue(BeNumerically(">=", 1)))
	}).Should(Succeed())
}
