// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"testing"

	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/types"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

type backendOption func(*v1alpha1.MCPBackendSpec)

func remote(url string) backendOption {
	return func(s *v1alpha1.MCPBackendSpec) { s.Remote = &v1alpha1.RemoteBackend{URL: url} }
}

func service(name string, port int32) backendOption {
	return func(s *v1alpha1.MCPBackendSpec) { s.Service = &v1alpha1.ServiceBackend{Name: name, Port: port} }
}

func workload(w v1alpha1.Workload) backendOption {
	return func(s *v1alpha1.MCPBackendSpec) { s.Workload = &w }
}

// backend is an MCPBackend of the group team.
func (f *fixture) backend(name string, options ...backendOption) *v1alpha1.MCPBackend {
	b := &v1alpha1.MCPBackend{
		ObjectMeta: f.meta(name),
		Spec: v1alpha1.MCPBackendSpec{
			GroupRef:  v1alpha1.LocalReference{Name: "team"},
			Transport: v1alpha1.TransportStreamableHTTP,
		},
	}
	for _, option := range options {
		option(&b.Spec)
	}
	return b
}

func (f *fixture) workloadBackend(name string) *v1alpha1.MCPBackend {
	return f.backend(name, workload(v1alpha1.Workload{Image: "registry.example.com/kube-mcp:v1"}))
}

func (f *fixture) eventuallyBackend(name string, matchers ...types.GomegaMatcher) *v1alpha1.MCPBackend {
	f.t.Helper()
	var b *v1alpha1.MCPBackend
	f.Eventually(func(g Gomega) {
		var err error
		b, err = get[v1alpha1.MCPBackend](f, name)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(b.Status.ObservedGeneration).To(Equal(b.Generation))
		g.Expect(b.Status.Conditions).To(And(matchers...))
	}).Should(Succeed())
	return b
}

// eventuallyGroup waits until the status of a group describes its spec, and its conditions match.
func (f *fixture) eventuallyGroup(name string, matchers ...types.GomegaMatcher) {
	f.t.Helper()
	f.Eventually(func(g Gomega) {
		group, err := get[v1alpha1.MCPGroup](f, name)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(group.Status.ObservedGeneration).To(Equal(group.Generation))
		g.Expect(group.Status.Conditions).To(And(matchers...))
	}).Should(Succeed())
}

// expectNothingDeployed watches that no Deployment comes for a backend.
func (f *fixture) expectNothingDeployed(backend string) {
	f.t.Helper()
	f.Consistently(func(g Gomega) {
		_, err := get[appsv1.Deployment](f, v1alpha1.WorkloadName(backend))
		g.Expect(err).To(HaveOccurred())
		g.Expect(client.IgnoreNotFound(err)).To(Succeed())
	}).Should(Succeed())
}

func TestWorkloadBackend(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	b := f.workloadBackend("kube")
	f.create(f.group("team"), b)

	status := f.eventuallyBackend("kube",
		haveCondition(v1alpha1.ConditionGroupRefValid, metav1.ConditionTrue, v1alpha1.ReasonGroupFound),
		haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonProgressing),
	).Status
	f.Expect(status.URL).To(Equal("http://mcpb-kube." + f.namespace + ".svc:8080/mcp"))
	f.rollOut("mcpb-kube")
	f.eventuallyBackend("kube", haveCondition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonAvailable))

	d, err := get[appsv1.Deployment](f, "mcpb-kube")
	f.Expect(err).NotTo(HaveOccurred())
	s, err := get[corev1.Service](f, "mcpb-kube")
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(metav1.IsControlledBy(d, b)).To(BeTrue())
	f.Expect(metav1.IsControlledBy(s, b)).To(BeTrue())
	f.Expect(s.Spec.Selector).To(Equal(d.Spec.Selector.MatchLabels))
	f.Expect(d.Spec.Template.Spec.AutomountServiceAccountToken).To(HaveValue(BeFalse()))
}

func TestWorkloadOfUnknownGroupIsNotDeployed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(f.workloadBackend("kube"))
	f.eventuallyBackend("kube",
		haveCondition(v1alpha1.ConditionGroupRefValid, metav1.ConditionFalse, v1alpha1.ReasonGroupNotFound),
		haveCondition(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonGroupNotFound),
	)
	f.expectNothingDeployed("kube")
	f.create(f.group("team"))
	f.eventuallyBackend("kube",
		haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonProgressing),
		lackCondition(v1alpha1.ConditionStalled),
	)
}

func TestWorkloadServiceAccount(t *testing.T) {
	t.Parallel()
	allowed := map[string]string{v1alpha1.WorkloadServiceAccountLabel: "true"}
	for name, c := range map[string]struct {
		account *metav1.ObjectMeta
		reason  string
	}{
		"missing":    {nil, v1alpha1.ReasonServiceAccountNotFound},
		"unlabelled": {&metav1.ObjectMeta{}, v1alpha1.ReasonServiceAccountNotAllowed},
		"label false": {
			&metav1.ObjectMeta{Labels: map[string]string{v1alpha1.WorkloadServiceAccountLabel: "false"}},
			v1alpha1.ReasonServiceAccountNotAllowed,
		},
		"of a gateway": {
			&metav1.ObjectMeta{Labels: map[string]string{
				v1alpha1.WorkloadServiceAccountLabel: "true", v1alpha1.VirtualMCPServerLabel: "gateway",
			}},
			v1alpha1.ReasonServiceAccountNotAllowed,
		},
		"of the operator": {
			&metav1.ObjectMeta{Labels: map[string]string{
				v1alpha1.WorkloadServiceAccountLabel: "true", "app.kubernetes.io/name": "vmcp-operator",
			}},
			v1alpha1.ReasonServiceAccountNotAllowed,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			if c.account != nil {
				account := &corev1.ServiceAccount{ObjectMeta: *c.account}
				account.Namespace, account.Name = f.namespace, "viewer"
				f.create(account)
			}
			f.create(f.group("team"), f.backend("kube", workload(v1alpha1.Workload{Image: "kube-mcp", ServiceAccountName: "viewer"})))
			f.eventuallyBackend("kube",
				haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, c.reason),
				haveCondition(v1alpha1.ConditionStalled, metav1.ConditionTrue, c.reason),
			)
			f.expectNothingDeployed("kube")
		})
	}
	t.Run("allowed later, then dropped", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t)
		f.create(f.group("team"), f.backend("kube", workload(v1alpha1.Workload{Image: "kube-mcp", ServiceAccountName: "viewer"})))
		f.eventuallyBackend("kube", haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonServiceAccountNotFound))
		f.create(&corev1.ServiceAccount{ObjectMeta: f.meta("viewer")})
		f.eventuallyBackend("kube", haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonServiceAccountNotAllowed))
		edit(f, "viewer", func(a *corev1.ServiceAccount) { a.Labels = allowed })
		f.eventuallyBackend("kube",
			haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonProgressing),
			lackCondition(v1alpha1.ConditionStalled))
		d, err := get[appsv1.Deployment](f, "mcpb-kube")
		f.Expect(err).NotTo(HaveOccurred())
		f.Expect(d.Spec.Template.Spec.ServiceAccountName).To(Equal("viewer"))
		f.Expect(d.Spec.Template.Spec.AutomountServiceAccountToken).To(HaveValue(BeTrue()))

		edit(f, "kube", func(b *v1alpha1.MCPBackend) { b.Spec.Workload.ServiceAccountName = "" })
		f.Eventually(func(g Gomega) {
			d, err := get[appsv1.Deployment](f, "mcpb-kube")
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(d.Spec.Template.Spec.ServiceAccountName).To(Equal("default"))
			g.Expect(d.Spec.Template.Spec.DeprecatedServiceAccount).To(Equal("default"))
			g.Expect(d.Spec.Template.Spec.AutomountServiceAccountToken).To(HaveValue(BeFalse()))
		}).Should(Succeed())
	})
}

func TestServiceBackendFollowsItsService(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(f.group("team"), f.backend("docs", service("docs-mcp", 80)))
	b := f.eventuallyBackend("docs",
		haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonServiceNotFound),
		lackCondition(v1alpha1.ConditionStalled))
	f.Expect(b.Status.URL).To(Equal("http://docs-mcp." + f.namespace + ".svc/mcp"))

	f.create(&corev1.Service{ObjectMeta: f.meta("docs-mcp"), Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 8080}}}})
	f.eventuallyBackend("docs", haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonPortNotFound))
	edit(f, "docs-mcp", func(s *corev1.Service) { s.Spec.Ports[0].Port = 80 })
	f.eventuallyBackend("docs", haveCondition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonServiceFound))
	s, err := get[corev1.Service](f, "docs-mcp")
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(admin.Delete(f.ctx, s)).To(Succeed())
	f.eventuallyBackend("docs", haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonServiceNotFound))
}

func TestWorkloadThatBecomesRemoteIsRemoved(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(f.group("team"), f.workloadBackend("kube"))
	f.eventuallyBackend("kube", haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonProgressing))
	edit(f, "kube", func(b *v1alpha1.MCPBackend) {
		b.Spec.Workload, b.Spec.Remote = nil, &v1alpha1.RemoteBackend{URL: "https://mcp.example.com/mcp"}
	})
	b := f.eventuallyBackend("kube", haveCondition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonNothingToProvision))
	f.Expect(b.Status.URL).To(Equal("https://mcp.example.com/mcp"))
	f.Eventually(func(g Gomega) {
		_, err := get[appsv1.Deployment](f, "mcpb-kube")
		g.Expect(err).To(MatchError(ContainSubstring("not found")))
		_, err = get[corev1.Service](f, "mcpb-kube")
		g.Expect(err).To(MatchError(ContainSubstring("not found")))
	}).Should(Succeed())
}

func TestForeignObjectOfAWorkloadsNameIsLeftAlone(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	foreign := foreignDeployment(f.meta("mcpb-kube"))
	f.create(foreign, f.group("team"), f.workloadBackend("kube"))
	f.eventuallyBackend("kube",
		haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonNotOwned),
		haveCondition(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonNotOwned),
	)
	edit(f, "kube", func(b *v1alpha1.MCPBackend) {
		b.Spec.Workload, b.Spec.Remote = nil, &v1alpha1.RemoteBackend{URL: "https://mcp.example.com/mcp"}
	})
	f.eventuallyBackend("kube", haveCondition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonNothingToProvision))
	d, err := get[appsv1.Deployment](f, "mcpb-kube")
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(d.ResourceVersion).To(Equal(foreign.ResourceVersion))
	f.Expect(d.DeletionTimestamp).To(BeNil())
}
