// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"testing"

	. "github.com/onsi/gomega"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// authRole is the Role that the controller of MCPExternalAuthConfigs keeps for the one of that name.
func (f *fixture) authRole(config string) *rbacv1.Role {
	role := &rbacv1.Role{ObjectMeta: f.meta(v1alpha1.AuthRoleName(config))}
	role.Labels = map[string]string{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue, v1alpha1.AuthConfigLabel: config}
	return role
}

// greedyRole is one that grants more than the operator holds: the API server lets it bind no such Role.
func (f *fixture) greedyRole(config string) *rbacv1.Role {
	role := f.authRole(config)
	role.Rules = []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"delete"}}}
	return role
}

func defaultAuth(config string) *v1alpha1.DefaultAuth {
	return &v1alpha1.DefaultAuth{ExternalAuthConfigRef: v1alpha1.LocalReference{Name: config}}
}

func backendAuth(backend, config string) v1alpha1.BackendAuth {
	return v1alpha1.BackendAuth{Name: backend, ExternalAuthConfigRef: v1alpha1.LocalReference{Name: config}}
}

// authBindings are the names of the RoleBindings to Roles of MCPExternalAuthConfigs that a VirtualMCPServer owns.
func (f *fixture) authBindings(s *v1alpha1.VirtualMCPServer) func() []string {
	return func() []string {
		list := &rbacv1.RoleBindingList{}
		f.Expect(admin.List(f.ctx, list, client.InNamespace(f.namespace), client.HasLabels{v1alpha1.AuthConfigLabel})).To(Succeed())
		names := []string{}
		for _, b := range list.Items {
			if metav1.IsControlledBy(&b, s) {
				names = append(names, b.Name)
			}
		}
		return names
	}
}

// In dynamic mode the runtime gets the Roles of the MCPExternalAuthConfigs that the spec names, and those only.
func TestDynamicModeBindsAuthRoles(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(f.group("team"), f.authRole("common"), f.authRole("special"), f.authRole("unnamed"))
	s := f.server("gateway", "team")
	s.Spec.OutgoingAuth = v1alpha1.OutgoingAuth{
		Default:  defaultAuth("common"),
		Backends: []v1alpha1.BackendAuth{backendAuth("grafana", "special"), backendAuth("kube", "late")},
	}
	f.create(s)
	f.Eventually(f.authBindings(s)).Should(ConsistOf("vmcp-gateway.common", "vmcp-gateway.special"))
	binding, err := get[rbacv1.RoleBinding](f, "vmcp-gateway.special")
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(binding.RoleRef).To(Equal(rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "vmcp-auth-special"}))
	f.Expect(binding.Subjects).To(ConsistOf(rbacv1.Subject{Kind: "ServiceAccount", Name: "vmcp-gateway", Namespace: f.namespace}))

	// A Role that is not there is in nobody's way.
	f.eventually("gateway",
		haveCondition(v1alpha1.ConditionRBACReady, metav1.ConditionTrue, v1alpha1.ReasonApplied),
		haveCondition(v1alpha1.ConditionServiceReady, metav1.ConditionTrue, v1alpha1.ReasonAddressAssigned))
	c := f.configuration(f, "gateway")
	f.Expect(c.Source).To(Equal(v1alpha1.OutgoingAuthSourceDiscovered))
	f.Expect(c.DefaultAuth).To(Equal(s.Spec.OutgoingAuth.Default))
	f.Expect(c.BackendAuths).To(Equal(s.Spec.OutgoingAuth.Backends))
	f.create(f.authRole("late"))
	f.Eventually(f.authBindings(s)).Should(ConsistOf("vmcp-gateway.common", "vmcp-gateway.special", "vmcp-gateway.late"))

	// What the spec names no more goes, what somebody else bound stays.
	foreign := &rbacv1.RoleBinding{
		ObjectMeta: f.meta("foreign"), RoleRef: binding.RoleRef, Subjects: binding.Subjects,
	}
	foreign.Labels = binding.Labels
	f.create(foreign)
	edit(f, "gateway", func(s *v1alpha1.VirtualMCPServer) { s.Spec.OutgoingAuth.Backends = nil })
	f.Eventually(f.authBindings(s)).Should(ConsistOf("vmcp-gateway.common"))
	f.Consistently(func() error { _, err := get[rbacv1.RoleBinding](f, "foreign"); return err }).Should(Succeed())

	f.Expect(admin.Delete(f.ctx, &rbacv1.RoleBinding{ObjectMeta: f.meta("vmcp-gateway.common")})).To(Succeed())
	f.Eventually(f.authBindings(s)).Should(ConsistOf("vmcp-gateway.common"), "drift is healed")
}

// A Role that cannot be bound, or the binding of somebody else in its place, is named, and is in nobody's way: the others are bound, the
// gateway is rolled out.
func TestAuthRoleThatCannotBeBoundStopsNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	taken := &rbacv1.RoleBinding{
		ObjectMeta: f.meta(v1alpha1.GatewayAuthRoleBindingName("gateway", "taken")),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "other"},
	}
	f.create(f.group("team"), f.greedyRole("bad"), f.authRole("good"), f.authRole("taken"), taken)
	s := f.server("gateway", "team")
	s.Spec.OutgoingAuth = v1alpha1.OutgoingAuth{
		Default:  defaultAuth("bad"),
		Backends: []v1alpha1.BackendAuth{backendAuth("grafana", "good"), backendAuth("kube", "taken")},
	}
	f.create(s)
	s = f.eventually("gateway",
		haveCondition(v1alpha1.ConditionServiceReady, metav1.ConditionTrue, v1alpha1.ReasonAddressAssigned),
		haveCondition(v1alpha1.ConditionConfigReady, metav1.ConditionTrue, v1alpha1.ReasonApplied),
		haveCondition(v1alpha1.ConditionRBACReady, metav1.ConditionFalse, v1alpha1.ReasonAuthRoleNotBound),
		lackCondition(v1alpha1.ConditionStalled))
	f.Expect(meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionRBACReady).Message).To(
		And(ContainSubstring("MCPExternalAuthConfig bad, taken "), ContainSubstring("not currently held")))
	f.Expect(f.authBindings(s)()).To(ConsistOf("vmcp-gateway.good"))
	f.rollOut("vmcp-gateway")
	f.report(s, s.Generation)
	f.Eventually(func(g Gomega) {
		s, err := get[v1alpha1.VirtualMCPServer](f, "gateway")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(s.Status.ObservedGeneration).To(Equal(s.Generation))
	}).Should(Succeed())

	f.requests.forget()
	f.Expect(admin.Delete(f.ctx, taken)).To(Succeed())
	edit(f, v1alpha1.AuthRoleName("bad"), func(r *rbacv1.Role) { r.Rules = nil })
	f.eventually("gateway", haveCondition(v1alpha1.ConditionRBACReady, metav1.ConditionTrue, v1alpha1.ReasonApplied))
	f.Expect(f.authBindings(s)()).To(ConsistOf("vmcp-gateway.good", "vmcp-gateway.bad", "vmcp-gateway.taken"))
}

// A binding outlives the Role: when an MCPExternalAuthConfig is deleted and made again, the runtime may read its Secrets again, and not
// in between. There is no garbage collector in these tests; the test is it.
func TestBindingOutlivesTheAuthRole(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(f.group("team"), f.credential("first"), f.credential("second"), f.authConfig("token", "first"))
	s := f.server("gateway", "team")
	s.Spec.OutgoingAuth.Default = defaultAuth("token")
	f.create(s)
	f.Eventually(func() bool { return f.may("vmcp-gateway", "get", "first") }).Should(BeTrue())
	binding, err := get[rbacv1.RoleBinding](f, "vmcp-gateway.token")
	f.Expect(err).NotTo(HaveOccurred())

	config := f.authConfig("token", "first")
	f.Expect(admin.Delete(f.ctx, config)).To(Succeed())
	// Until the operator knows, it would repair the Role for an owner that is gone, and nobody collects garbage here.
	f.Eventually(func() error {
		return f.manager.GetCache().Get(f.ctx, client.ObjectKeyFromObject(config), &v1alpha1.MCPExternalAuthConfig{})
	}).Should(MatchError(apierrors.IsNotFound, "not found"))
	f.Expect(admin.Delete(f.ctx, f.authRole("token"))).To(Succeed())
	f.Eventually(func() bool { return f.may("vmcp-gateway", "get", "first") }).Should(BeFalse())
	f.eventually("gateway", haveCondition(v1alpha1.ConditionRBACReady, metav1.ConditionTrue, v1alpha1.ReasonApplied))

	f.create(f.authConfig("token", "second"))
	f.Eventually(func() bool { return f.may("vmcp-gateway", "get", "second") }).Should(BeTrue())
	f.Expect(f.may("vmcp-gateway", "get", "first")).To(BeFalse())
	again, err := get[rbacv1.RoleBinding](f, "vmcp-gateway.token")
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(again.UID).To(Equal(binding.UID))
}
