// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"testing"

	. "github.com/onsi/gomega"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// The dynamic gateways of a group may read what its backends name, as soon as the Role is there; the static ones never may, and when the
// last backend names another configuration, nobody may.
func TestGroupBindsWhatItsBackendsName(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	static := f.server("static", "team")
	static.Spec.OutgoingAuth.Source = v1alpha1.OutgoingAuthSourceInline
	backend := f.backend("grafana", remote("https://mcp.example.com/mcp"), ownConfig("token"))
	f.create(f.group("team"), f.server("dynamic", "team"), static, backend)

	binding := v1alpha1.GroupAuthRoleBindingName("team", "token")
	f.Consistently(func() bool {
		_, err := get[rbacv1.RoleBinding](f, binding)
		return apierrors.IsNotFound(err)
	}).Should(BeTrue(), "there is no Role to bind")

	f.create(f.credential("token"), f.authConfig("token", "token"))
	f.Eventually(func(g Gomega) {
		b, err := get[rbacv1.RoleBinding](f, binding)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(b.RoleRef.Name).To(Equal(v1alpha1.AuthRoleName("token")))
		g.Expect(b.Subjects).To(ConsistOf(HaveField("Name", v1alpha1.OperandName("dynamic"))))
	}).Should(Succeed())

	edit(f, "grafana", func(b *v1alpha1.MCPBackend) { b.Spec.ExternalAuthConfigRef = nil })
	f.Eventually(func() bool {
		_, err := get[rbacv1.RoleBinding](f, binding)
		return apierrors.IsNotFound(err)
	}).Should(BeTrue())
}

// A Role that cannot be bound keeps no other from being bound, nor one that nobody names from being unbound.
func TestGroupBindsTheOthers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	exists := func(config string) func() error {
		return func() error {
			_, err := get[rbacv1.RoleBinding](f, v1alpha1.GroupAuthRoleBindingName("team", config))
			return err
		}
	}
	group := f.group("team")
	f.create(group, f.server("gateway", "team"), f.greedyRole("bad"), f.authRole("early"), f.authRole("good"),
		f.backend("a", remote("https://mcp.example.com/mcp"), ownConfig("early")))
	f.Eventually(exists("early")).Should(Succeed())
	f.create(
		f.backend("b", remote("https://mcp.example.com/mcp"), ownConfig("bad")),
		f.backend("c", remote("https://mcp.example.com/mcp"), ownConfig("good")))
	edit(f, "a", func(b *v1alpha1.MCPBackend) { b.Spec.ExternalAuthConfigRef = nil })
	f.Eventually(exists("good")).Should(Succeed())
	f.Eventually(exists("early")).Should(MatchError(apierrors.IsNotFound, "not found"))
	f.Expect(exists("bad")()).To(MatchError(apierrors.IsNotFound, "not found"))
	f.eventuallyGroup("team",
		haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonAuthRoleNotBound),
		haveCondition(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonAuthRoleNotBound))
	f.Eventually(func(g Gomega) {
		g.Expect(f.events(g, group)).To(Equal(map[string]int{"Warning " + v1alpha1.ReasonAuthRoleNotBound: 1}))
	}).Should(Succeed())

	edit(f, v1alpha1.AuthRoleName("bad"), func(r *rbacv1.Role) { r.Rules = nil })
	f.Eventually(exists("bad")).Should(Succeed())
	f.eventuallyGroup("team",
		haveCondition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonAuthRolesBound), lackCondition(v1alpha1.ConditionStalled))
}
