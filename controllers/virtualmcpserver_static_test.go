// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"slices"
	"testing"

	. "github.com/onsi/gomega"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	acv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
)

// usableConfig is a Secret that may be used and an MCPExternalAuthConfig that names it, both of that name.
func (f *fixture) usableConfig(name string) []client.Object {
	secret := &corev1.Secret{ObjectMeta: f.meta(name), StringData: map[string]string{"token": "Bearer " + name}}
	secret.Labels = map[string]string{v1alpha1.CredentialLabel: "true"}
	return []client.Object{secret, &v1alpha1.MCPExternalAuthConfig{ObjectMeta: f.meta(name), Spec: v1alpha1.MCPExternalAuthConfigSpec{
		Type: v1alpha1.ExternalAuthTypeHeaderInjection,
		HeaderInjection: &v1alpha1.HeaderInjection{
			HeaderName: "Authorization", SecretRef: v1alpha1.SecretKeyReference{Name: name, Key: "token"},
		},
	}}}
}

func ownConfig(name string) backendOption {
	return func(s *v1alpha1.MCPBackendSpec) { s.ExternalAuthConfigRef = &v1alpha1.LocalReference{Name: name} }
}

func (f *fixture) staticServer(name string) *v1alpha1.VirtualMCPServer {
	s := f.server(name, "team")
	s.Spec.OutgoingAuth.Source = v1alpha1.OutgoingAuthSourceInline
	return s
}

// discovers says whether a runtime may find backends by itself.
func (f *fixture) discovers(server string) func() bool {
	return func() bool {
		role, err := get[rbacv1.Role](f, v1alpha1.OperandName(server))
		f.Expect(err).NotTo(HaveOccurred())
		return slices.ContainsFunc(role.Rules, func(r rbacv1.PolicyRule) bool { return slices.Contains(r.Resources, "mcpbackends") })
	}
}

// mountedSecrets are the names of the Secrets that the pods of a gateway see, but for the one with its session keys.
func (f *fixture) mountedSecrets(g Gomega, server string) []string {
	d, err := get[appsv1.Deployment](f, v1alpha1.OperandName(server))
	g.Expect(err).NotTo(HaveOccurred())
	names := []string{}
	for _, v := range d.Spec.Template.Spec.Volumes {
		if v.Secret != nil && v.Name != "session-keys" {
			g.Expect(v.Secret.Optional).To(HaveValue(BeTrue()), "a Secret that goes keeps no pod from starting")
			names = append(names, v.Secret.SecretName)
		}
	}
	return names
}

func (f *fixture) sourceOfPods(server string) func() string {
	return func() string {
		d, err := get[appsv1.Deployment](f, v1alpha1.OperandName(server))
		f.Expect(err).NotTo(HaveOccurred())
		return d.Spec.Template.Annotations[v1alpha1.OutgoingAuthSourceAnnotation]
	}
}

// In static mode the operator resolves backends and their credentials; the runtime may read neither.
func TestStaticMode(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(f.group("team"))
	f.create(f.usableConfig("grafana")...)
	f.eventuallyUsable("grafana")
	f.create(
		f.backend("grafana", remote("https://mcp.example.com/mcp"), ownConfig("grafana")),
		f.backend("docs", remote("https://docs.example.com/mcp"), ownConfig("absent")),
	)
	s := f.staticServer("gateway")
	f.create(s)

	f.Eventually(func(g Gomega) {
		c := f.configuration(g, "gateway")
		g.Expect(c.Source).To(Equal(v1alpha1.OutgoingAuthSourceInline))
		g.Expect(c.Backends).To(HaveLen(2))
		g.Expect(c.Backends[0].Name).To(Equal("docs"))
		g.Expect(c.Backends[0].Refused).To(HaveValue(HaveField("Reason", v1alpha1.ReasonAuthConfigNotFound)))
		g.Expect(c.Backends[1].Refused).To(BeNil())
		g.Expect(c.Backends[1].Auth.Spec.HeaderInjection.SecretRef.Name).To(Equal("grafana"))
		g.Expect(f.mountedSecrets(g, "gateway")).To(ConsistOf("grafana"))
		s, err := get[v1alpha1.VirtualMCPServer](f, "gateway")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(s.Status.DiscoveredBackends).To(ConsistOf(
			v1alpha1.DiscoveredBackend{
				Kind: "MCPBackend", Name: "docs", Source: v1alpha1.BackendSourceRemote, URL: "https://docs.example.com/mcp",
				Transport: v1alpha1.TransportStreamableHTTP, AuthConfigRef: &v1alpha1.LocalReference{Name: "absent"},
			},
			v1alpha1.DiscoveredBackend{
				Kind: "MCPBackend", Name: "grafana", Source: v1alpha1.BackendSourceRemote, URL: "https://mcp.example.com/mcp",
				Transport: v1alpha1.TransportStreamableHTTP, AuthType: v1alpha1.ExternalAuthTypeHeaderInjection,
				AuthConfigRef: &v1alpha1.LocalReference{Name: "grafana"},
			}))
	}).Should(Succeed())
	d, err := get[appsv1.Deployment](f, "vmcp-gateway")
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(d.Spec.Template.Spec.Containers[0].VolumeMounts).To(ContainElement(
		HaveField("MountPath", configv1alpha1.CredentialsDir+"/grafana")))
	f.Expect(f.discovers("gateway")()).To(BeFalse())
	role, err := get[rbacv1.Role](f, "vmcp-gateway")
	f.Expect(err).NotTo(HaveOccurred())
	for _, rule := range role.Rules {
		f.Expect(rule.Resources).NotTo(ContainElement(Or(Equal("secrets"), Equal("mcpexternalauthconfigs"))))
	}
	f.Expect(f.authBindings(s)()).To(BeEmpty())

	// The runtime's part of an entry and the operator's stand beside each other.
	f.rollOut("vmcp-gateway")
	f.report(s, s.Generation)
	f.Eventually(func(g Gomega) {
		s, err := get[v1alpha1.VirtualMCPServer](f, "gateway")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(s.Status.ObservedGeneration).To(Equal(s.Generation))
		g.Expect(s.Status.DiscoveredBackends).To(ContainElement(And(
			HaveField("Name", "grafana"), HaveField("Status", v1alpha1.BackendReady), HaveField("URL", "https://mcp.example.com/mcp"))))
	}).Should(Succeed())
	f.settles("gateway")

	// In steady state nothing is written.
	f.requests.forget()
	f.restart()
	f.Consistently(f.requests.writes).Should(BeEmpty())

	// What happens to backends and credentials reaches the configuration, without a change of the VirtualMCPServer.
	edit(f, "grafana", func(s *corev1.Secret) { s.Labels = nil })
	edit(f, "grafana", func(c *v1alpha1.MCPExternalAuthConfig) {
		c.Annotations = map[string]string{"example.com/look": "again"}
	})
	f.Eventually(func(g Gomega) {
		g.Expect(f.configuration(g, "gateway").Backends[1].Refused).To(HaveValue(HaveField("Reason", v1alpha1.ReasonSecretNotAllowed)))
		g.Expect(f.mountedSecrets(g, "gateway")).To(BeEmpty())
	}).Should(Succeed())
	f.Expect(admin.Delete(f.ctx, f.backend("docs"))).To(Succeed())
	f.Expect(admin.Delete(f.ctx, f.backend("grafana"))).To(Succeed())
	f.Eventually(func(g Gomega) {
		c := f.configuration(g, "gateway")
		g.Expect(c.Backends).To(BeEmpty())
		g.Expect(c.Generation).To(Equal(s.Generation))
		s, err := get[v1alpha1.VirtualMCPServer](f, "gateway")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(s.Status.DiscoveredBackends).To(HaveLen(1), "the runtime's part goes when the runtime drops it")
		g.Expect(s.Status.DiscoveredBackends[0].URL).To(BeEmpty())
	}).Should(Succeed())
}

// A mode that is switched takes no right away from pods that still run in the other one, and gives new ones before pods need them.
func TestSwitchOfModes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(f.group("team"), f.authRole("grafana"))
	f.create(f.backend("grafana", remote("https://mcp.example.com/mcp")))
	s := f.server("gateway", "team")
	s.Spec.OutgoingAuth.Default = defaultAuth("grafana")
	f.create(s)
	f.Eventually(f.authBindings(s)).Should(HaveLen(1))
	f.Eventually(func(g Gomega) { f.operand(g, "gateway") }).Should(Succeed())
	f.rollOut("vmcp-gateway")
	f.report(s, s.Generation)
	f.eventually("gateway", haveCondition(v1alpha1.ConditionDeploymentReady, metav1.ConditionTrue, v1alpha1.ReasonAvailable))
	f.Expect(f.sourceOfPods("gateway")()).To(Equal("discovered"))

	edit(f, "gateway", func(s *v1alpha1.VirtualMCPServer) { s.Spec.OutgoingAuth.Source = v1alpha1.OutgoingAuthSourceInline })
	f.Eventually(f.sourceOfPods("gateway")).Should(Equal("inline"))
	f.Consistently(func(g Gomega) {
		g.Expect(f.discovers("gateway")()).To(BeTrue(), "pods that find backends by themselves still run")
		g.Expect(f.authBindings(s)()).To(HaveLen(1))
	}).Should(Succeed())
	f.rollOut("vmcp-gateway")
	f.Eventually(f.discovers("gateway")).Should(BeFalse())
	f.Eventually(f.authBindings(s)).Should(BeEmpty())
	address := func() string {
		s, err := get[v1alpha1.VirtualMCPServer](f, "gateway")
		f.Expect(err).NotTo(HaveOccurred())
		for _, b := range s.Status.DiscoveredBackends {
			if b.Name == "grafana" {
				return b.URL
			}
		}
		return "no entry"
	}
	f.Eventually(address).Should(Equal("https://mcp.example.com/mcp"))

	// Back again: the runtime of the new pods describes the backends before the operator stops to.
	edit(f, "gateway", func(s *v1alpha1.VirtualMCPServer) { s.Spec.OutgoingAuth.Source = v1alpha1.OutgoingAuthSourceDiscovered })
	f.Eventually(f.sourceOfPods("gateway")).Should(Equal("discovered"))
	f.Expect(f.discovers("gateway")()).To(BeTrue(), "rights come before the pods that need them")
	f.Expect(f.authBindings(s)()).To(HaveLen(1))
	f.Consistently(address).Should(Equal("https://mcp.example.com/mcp"))
	s, err := get[v1alpha1.VirtualMCPServer](f, "gateway")
	f.Expect(err).NotTo(HaveOccurred())
	f.rollOut("vmcp-gateway")
	f.reportDynamic(s)
	f.Eventually(func(g Gomega) {
		g.Expect(address()).To(Equal("https://mcp.example.com/mcp"))
		s, err := get[v1alpha1.VirtualMCPServer](f, "gateway")
		g.Expect(err).NotTo(HaveOccurred())
		owned, err := acv1alpha1.ExtractVirtualMCPServerStatus(s, v1alpha1.OperatorFieldManager)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(owned.Status.DiscoveredBackends).To(BeEmpty())
		g.Expect(meta.IsStatusConditionTrue(s.Status.Conditions, v1alpha1.ConditionDeploymentReady)).To(BeTrue())
	}).Should(Succeed())
}

// reportDynamic does what the StatusReporter of a runtime in dynamic mode does.
func (f *fixture) reportDynamic(s *v1alpha1.VirtualMCPServer) {
	f.t.Helper()
	status := acv1alpha1.VirtualMCPServerStatus().
		WithPhase(v1alpha1.PhaseReady).
		WithMessage("1 of 1 backends is ready").
		WithDiscoveredBackends(acv1alpha1.DiscoveredBackend().WithKind("MCPBackend").WithName("grafana").
			WithSource(v1alpha1.BackendSourceRemote).WithURL("https://mcp.example.com/mcp").
			WithTransport(v1alpha1.TransportStreamableHTTP).WithStatus(v1alpha1.BackendReady)).
		WithRuntime(acv1alpha1.RuntimeInfo().WithReporter("pod").WithObservedGeneration(s.Generation)).
		WithConditions(readyCondition(s.Generation))
	f.Expect(admin.Status().Apply(f.ctx, acv1alpha1.VirtualMCPServer(s.Name, s.Namespace).WithStatus(status),
		client.FieldOwner(v1alpha1.RuntimeFieldManager), client.ForceOwnership)).To(Succeed())
}
