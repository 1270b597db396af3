// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"slices"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/controllers"
	"github.com/vmcp-dev/vmcp-operator/internal/mcpservertest"
)

// labelledService is a Service that asks to join a group.
func (f *fixture) labelledService(name, group string) *corev1.Service {
	s := &corev1.Service{ObjectMeta: f.meta(name), Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
	s.Labels = map[string]string{v1alpha1.GroupLabel: group}
	return s
}

// openGroup is a group that takes labelled Services and MCPServers.
func (f *fixture) openGroup(name string) *v1alpha1.MCPGroup {
	g := f.group(name)
	g.Spec.Discovery = v1alpha1.GroupDiscovery{Services: v1alpha1.DiscoveryLabelled, MCPServers: v1alpha1.DiscoveryLabelled}
	return g
}

// mergePatch changes an object as a person does, whatever else changed meanwhile.
func (f *fixture) mergePatch(o client.Object, patch string) {
	f.t.Helper()
	f.Expect(admin.Patch(f.ctx, o, client.RawPatch(types.MergePatchType, []byte(patch)))).To(Succeed())
}

// resolved are the backends in the configuration of a gateway in static mode, as KIND/NAME=URL, or with the reason why one is refused.
func (f *fixture) resolved(server string) func(g Gomega) []string {
	return func(g Gomega) []string {
		backends := []string{}
		for _, b := range f.configuration(g, server).Backends {
			text := b.Kind + "/" + b.Name + "=" + b.URL
			if b.Refused != nil {
				text += " " + b.Refused.Reason
			}
			backends = append(backends, text)
		}
		return backends
	}
}

// In static mode the operator resolves labelled Services as it does MCPBackends, where the group takes them.
func TestStaticModeFindsServices(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	g := f.openGroup("team")
	wiki := f.labelledService("wiki", "team")
	f.create(g, wiki, f.labelledService("docs", "team"), f.labelledService("other", "another"),
		f.backend("docs", remote("https://docs.example.com/mcp")), f.staticServer("gateway"))
	docs, svc := "MCPBackend/docs=https://docs.example.com/mcp", "."+f.namespace+".svc"
	clash := "Service/docs=http://docs" + svc + "/mcp NameClash"
	f.Eventually(f.resolved("gateway")).Should(Equal([]string{docs, clash, "Service/wiki=http://wiki" + svc + "/mcp"}))
	f.Eventually(func(g Gomega) []v1alpha1.DiscoveredBackend {
		s, err := get[v1alpha1.VirtualMCPServer](f, "gateway")
		g.Expect(err).NotTo(HaveOccurred())
		return s.Status.DiscoveredBackends
	}).Should(ContainElement(And(HaveField("Kind", "Service"), HaveField("Name", "wiki"), HaveField("Source", v1alpha1.BackendSourceService))))

	f.mergePatch(wiki, `{"metadata":{"annotations":{"vmcp.dev/path":"/v2"}}}`)
	f.Eventually(f.resolved("gateway")).Should(ContainElement("Service/wiki=http://wiki" + svc + "/v2"))
	f.mergePatch(wiki, `{"metadata":{"labels":{"vmcp.dev/group":null}}}`)
	f.Eventually(f.resolved("gateway")).Should(Equal([]string{docs, clash}))

	f.mergePatch(g, `{"spec":{"discovery":{"services":"Disabled"}}}`)
	f.Eventually(f.resolved("gateway")).Should(Equal([]string{docs}))
}

// In dynamic mode the runtime is told what it may look for, has the rights to it, and no more of them.
func TestDynamicModeIsToldWhatJoins(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	g := f.openGroup("team")
	f.create(g, f.server("gateway", "team"))
	reads := func(g Gomega) []string {
		role, err := get[rbacv1.Role](f, v1alpha1.OperandName("gateway"))
		g.Expect(err).NotTo(HaveOccurred())
		resources := []string{}
		for _, rule := range role.Rules {
			if slices.Equal(rule.Verbs, []string{"get", "list", "watch"}) && len(rule.ResourceNames) == 0 {
				resources = append(resources, rule.Resources...)
			}
		}
		return resources
	}
	told := func(g Gomega) v1alpha1.GroupDiscovery { return f.configuration(g, "gateway").Discovery }
	f.Eventually(reads).Should(ConsistOf("mcpbackends", "mcpexternalauthconfigs", "services", "mcpservers"))
	f.Eventually(told).Should(Equal(g.Spec.Discovery))

	f.mergePatch(g, `{"spec":{"discovery":{"services":null}}}`)
	f.Eventually(reads).Should(ConsistOf("mcpbackends", "mcpexternalauthconfigs", "mcpservers"))
	f.Eventually(told).Should(Equal(v1alpha1.GroupDiscovery{MCPServers: v1alpha1.DiscoveryLabelled}))
}

// MCPServers are the kind of another project: an operator that began without them finds them when they are installed, and one that takes
// over begins with them.
func TestStaticModeFindsMCPServers(t *testing.T) {
	t.Parallel()
	f := newNamespace(t)
	setup := func(mgr ctrl.Manager) error {
		return controllers.Setup(f.ctx, mgr, controllers.Settings{
			RuntimeImage: runtimeImage, Namespaces: []string{f.namespace},
			MCPServersInterval: 100 * time.Millisecond, MCPServersPatience: 100 * time.Millisecond,
		})
	}
	f.startWith(setup)
	s := f.staticServer("gateway")
	f.create(f.openGroup("team"), f.backend("docs", remote("https://docs.example.com/mcp")), s)
	docs := "MCPBackend/docs=https://docs.example.com/mcp"
	f.Eventually(f.resolved("gateway")).Should(Equal([]string{docs}))

	crd := f.installMCPServers()
	f.Eventually(func() error {
		return client.IgnoreAlreadyExists(admin.Create(f.ctx, mcpservertest.New(f.namespace, "files", "team", 8080)))
	}).Should(Succeed())
	f.create(mcpservertest.New(f.namespace, "other", "another", 8080))
	files := "MCPServer/files=http://files." + f.namespace + ".svc:8080/mcp"
	f.Eventually(f.resolved("gateway")).Should(Equal([]string{docs, files}))
	f.rollOut("vmcp-gateway")
	f.report(s, s.Generation)
	f.settles("gateway")

	before := f.resourceVersions()
	f.stop()
	f.startWith(setup)
	f.Eventually(func() bool { return f.manager.GetCache().WaitForCacheSync(f.ctx) }).Should(BeTrue())
	f.Consistently(f.resourceVersions).Should(Equal(before))

	// MCPServers that cannot be read are the trouble of who takes them: the rest goes on, and so does what they were resolved for.
	f.stop()
	mcpservertest.Break(crd)
	f.updateCRD(f.ctx, crd)
	old := mcpservertest.New(f.namespace, "old", "another", 8080)
	old.SetAPIVersion(v1alpha1.MCPServerGroup + "/v1alpha1")
	f.Eventually(func() error { // until the API server has heard of it
		_ = admin.Delete(f.ctx, old.DeepCopy())
		_ = admin.Create(f.ctx, old.DeepCopy())
		return admin.List(f.ctx, mcpservertest.List(), client.InNamespace(f.namespace))
	}).Should(MatchError(ContainSubstring("conversion webhook")))
	f.startWith(setup)
	f.create(f.group("others"))
	other := f.staticServer("other")
	other.Spec.GroupRef.Name = "others"
	f.create(other)
	f.Eventually(f.resolved("other")).Should(BeEmpty())
	f.eventually("gateway", haveCondition(v1alpha1.ConditionConfigReady, metav1.ConditionFalse, v1alpha1.ReasonApplyFailed))
	f.Expect(f.resolved("gateway")(f)).To(Equal([]string{docs, files}))
}

// installMCPServers installs the CRD until the test ends.
func (f *fixture) installMCPServers() *apiextensionsv1.CustomResourceDefinition {
	f.t.Helper()
	crd := mcpservertest.CRD()
	f.updateCRD(f.ctx, crd)
	f.t.Cleanup(func() {
		// It goes when its objects are gone, which have to be readable for that.
		f.updateCRD(context.Background(), mcpservertest.CRD())
		object := &unstructured.Unstructured{}
		object.SetGroupVersionKind(apiextensionsv1.SchemeGroupVersion.WithKind("CustomResourceDefinition"))
		f.Eventually(func() error {
			object.SetName(crd.Name)
			_ = admin.Delete(context.Background(), object)
			return admin.Get(context.Background(), client.ObjectKeyFromObject(object), object)
		}).Should(Satisfy(apierrors.IsNotFound))
	})
	return crd
}

// updateCRD applies a CRD.
func (f *fixture) updateCRD(ctx context.Context, crd *apiextensionsv1.CustomResourceDefinition) {
	f.t.Helper()
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(crd)
	f.Expect(err).NotTo(HaveOccurred())
	applied := &unstructured.Unstructured{Object: object}
	applied.SetGroupVersionKind(apiextensionsv1.SchemeGroupVersion.WithKind("CustomResourceDefinition"))
	unstructured.RemoveNestedField(applied.Object, "status")
	f.Expect(admin.Apply(ctx, client.ApplyConfigurationFromUnstructured(applied), client.FieldOwner("test"), client.ForceOwnership)).To(Succeed())
}
