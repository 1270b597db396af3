// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// installScope is a way to install the operator.
type installScope struct {
	// everywhere says that the operator has its rights in all namespaces.
	everywhere bool
	// install applies what gives the operator its rights in the fixture's namespace, and returns its ServiceAccount.
	install func(*fixture) string
}

func installScopes() map[string]installScope {
	return map[string]installScope{
		"config/default": {everywhere: true, install: func(f *fixture) string {
			// The names of what is cluster-wide are not to be had twice.
			prefix := f.namespace + "-"
			f.applyAll(slices.DeleteFunc(f.renderConfig("default", "namePrefix: "+prefix+"\n"), func(o *unstructured.Unstructured) bool {
				return o.GroupVersionKind().Group != rbacv1.GroupName && o.GetKind() != "ServiceAccount"
			}))
			return prefix + "vmcp-operator"
		}},
		"config/namespaced": {install: func(f *fixture) string {
			f.installNamespaced()
			return "vmcp-operator"
		}},
	}
}

// accessTo parses "VERB RESOURCE[.GROUP][/SUBRESOURCE] [NAME]", as in kubectl auth can-i; without a name it is about all objects.
func accessTo(request, namespace string) authorizationv1.ResourceAttributes {
	fields := append(strings.Fields(request), "")
	resource, subresource, _ := strings.Cut(fields[1], "/")
	resource, group, _ := strings.Cut(resource, ".")
	return authorizationv1.ResourceAttributes{
		Verb: fields[0], Group: group, Resource: resource, Subresource: subresource, Name: fields[2], Namespace: namespace,
	}
}

// What a runtime may do, in dynamic and in static mode. NAME is its gateway; sibling is another of the same mode.
var runtimeRights = []struct {
	request            string
	discovered, inline bool
}{
	// Its own objects, and no more of them than it needs.
	{"get virtualmcpservers.vmcp.dev NAME", true, true},
	{"watch virtualmcpservers.vmcp.dev NAME", true, true},
	{"patch virtualmcpservers.vmcp.dev/status NAME", true, true},
	{"update virtualmcpservers.vmcp.dev/status NAME", false, false},
	{"patch virtualmcpservers.vmcp.dev NAME", false, false},
	{"update virtualmcpservers.vmcp.dev NAME", false, false},
	{"delete virtualmcpservers.vmcp.dev NAME", false, false},
	{"list virtualmcpservers.vmcp.dev", false, false},
	{"watch virtualmcpservers.vmcp.dev", false, false},
	{"get configmaps vmcp-NAME", true, true},
	{"watch configmaps vmcp-NAME", true, true},
	{"update configmaps vmcp-NAME", false, false},
	{"patch configmaps vmcp-NAME", false, false},
	{"list configmaps", false, false},
	{"get leases.coordination.k8s.io vmcp-NAME", true, true},
	{"watch leases.coordination.k8s.io vmcp-NAME", true, true},
	{"update leases.coordination.k8s.io vmcp-NAME", true, true},
	{"patch leases.coordination.k8s.io vmcp-NAME", false, false},
	{"delete leases.coordination.k8s.io vmcp-NAME", false, false},
	{"create leases.coordination.k8s.io", false, false},
	{"create events.events.k8s.io", true, true},
	{"list events.events.k8s.io", false, false},
	{"patch events.events.k8s.io", false, false},

	// Those of its siblings.
	{"get virtualmcpservers.vmcp.dev sibling", false, false},
	{"patch virtualmcpservers.vmcp.dev/status sibling", false, false},
	{"get configmaps vmcp-sibling", false, false},
	{"get leases.coordination.k8s.io vmcp-sibling", false, false},
	{"update leases.coordination.k8s.io vmcp-sibling", false, false},

	// Backends and their credentials.
	{"get mcpbackends.vmcp.dev grafana", true, false},
	{"list mcpbackends.vmcp.dev", true, false},
	{"watch mcpbackends.vmcp.dev", true, false},
	{"patch mcpbackends.vmcp.dev grafana", false, false},
	{"patch mcpbackends.vmcp.dev/status grafana", false, false},
	{"get mcpexternalauthconfigs.vmcp.dev usable", true, false},
	{"list mcpexternalauthconfigs.vmcp.dev", true, false},
	{"watch mcpexternalauthconfigs.vmcp.dev", true, false},
	{"patch mcpexternalauthconfigs.vmcp.dev usable", false, false},
	{"get mcpgroups.vmcp.dev team", false, false},
	{"get secrets usable", true, false},
	{"watch secrets usable", true, false},
	{"get secrets own", true, false},
	{"update secrets usable", false, false},
	{"patch secrets usable", false, false},
	{"delete secrets usable", false, false},
	{"get secrets unlabelled", false, false},
	{"get secrets unreferenced", false, false},
	{"get secrets foreign", false, false},
	{"get secrets", false, false},
	{"list secrets", false, false},
	{"watch secrets", false, false},
	{"create secrets", false, false},
	// Its session keys are mounted; through the API nobody gets them.
	{"get secrets vmcp-NAME", false, false},
	{"watch secrets vmcp-NAME", false, false},
	{"patch secrets vmcp-NAME", false, false},
	{"get secrets vmcp-sibling", false, false},

	// Everything else.
	{"get pods", false, false},
	{"list pods", false, false},
	{"create pods", false, false},
	{"create pods/exec", false, false},
	{"get services vmcp-NAME", false, false},
	{"get deployments.apps vmcp-NAME", false, false},
	{"patch deployments.apps vmcp-NAME", false, false},
	{"create serviceaccounts/token vmcp-NAME", false, false},
	{"create roles.rbac.authorization.k8s.io", false, false},
	{"create rolebindings.rbac.authorization.k8s.io", false, false},
}

// What the operator may do where it is installed.
var operatorRights = []struct {
	request string
	want    bool
}{
	{"list virtualmcpservers.vmcp.dev", true},
	{"watch virtualmcpservers.vmcp.dev", true},
	{"patch virtualmcpservers.vmcp.dev/status", true},
	{"patch virtualmcpservers.vmcp.dev", false},
	{"delete virtualmcpservers.vmcp.dev", false},
	{"patch mcpbackends.vmcp.dev/status", true},
	{"patch mcpbackends.vmcp.dev", false},
	{"patch mcpgroups.vmcp.dev/status", true},
	{"patch mcpexternalauthconfigs.vmcp.dev/status", true},
	{"patch deployments.apps", true},
	{"patch services", true},
	{"patch configmaps", true},
	{"delete configmaps", false},
	{"patch serviceaccounts", true},
	{"create serviceaccounts/token", false},
	{"impersonate serviceaccounts", false},
	{"patch leases.coordination.k8s.io", true},
	{"create events.events.k8s.io", true},
	{"patch roles.rbac.authorization.k8s.io", true},
	{"patch rolebindings.rbac.authorization.k8s.io", true},
	{"escalate roles.rbac.authorization.k8s.io", false},
	{"bind roles.rbac.authorization.k8s.io", false},
	{"create clusterroles.rbac.authorization.k8s.io", false},
	{"create clusterrolebindings.rbac.authorization.k8s.io", false},
	// What its Roles for credentials give (get, watch), what it takes to provide session keys (get, create, patch), and nothing beyond.
	{"get secrets", true},
	{"watch secrets", true},
	{"create secrets", true},
	{"patch secrets", true},
	{"list secrets", false},
	{"update secrets", false},
	{"delete secrets", false},
	{"list pods", true},
	{"get pods", false},
	{"create pods", false},
	{"delete pods", false},
	{"get pods/log", false},
	{"create pods/exec", false},
	{"list nodes", false},
	{"list namespaces", false},
	{"list customresourcedefinitions.apiextensions.k8s.io", false},
}

// The rights of everybody, as the API server's authorizer sees them, in both modes and both scopes of an installation. What grants them
// is what kustomize renders, and what an operator with these rights, and no others, makes of it.
func TestRights(t *testing.T) {
	t.Parallel()
	for name, scope := range installScopes() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, foreign := newNamespace(t), newNamespace(t)
			account := f.account(scope.install(f))
			// RBAC is served from a cache of the API server.
			f.Eventually(func() bool { return f.allows(account, accessTo("list pods", f.namespace)) }).Should(BeTrue())
			for _, r := range operatorRights {
				f.Expect(f.allows(account, accessTo(r.request, f.namespace))).To(Equal(r.want), "the operator: %s", r.request)
				f.Expect(f.allows(account, accessTo(r.request, foreign.namespace))).To(Equal(r.want && scope.everywhere), "the operator: %s elsewhere", r.request)
			}

			f.operatorConfig = rest.CopyConfig(adminConfig)
			f.operatorConfig.Impersonate = account
			f.start()
			f.rightsFixture()
			f.expectRuntimeRights(foreign.namespace)
		})
	}
}

// rightsFixture makes gateways of both modes, each with a sibling, and backends with credentials of every sort.
func (f *fixture) rightsFixture() {
	f.t.Helper()
	f.create(f.group("team"),
		f.credential("usable"), f.authConfig("usable", "usable"),
		f.credential("own"), f.authConfig("own", "own"),
		f.secret("unlabelled"), f.authConfig("unlabelled", "unlabelled"),
		f.credential("unreferenced"), f.secret("foreign"),
		f.backend("grafana", remote("https://grafana.example.com/mcp"), ownConfig("usable")),
		f.backend("docs", remote("https://docs.example.com/mcp"), ownConfig("unlabelled")),
	)
	for _, name := range []string{"discovered", "inline", "sibling"} {
		s := f.server(name, "team")
		s.Spec.OutgoingAuth.Backends = []v1alpha1.BackendAuth{{
			Name: "docs", ExternalAuthConfigRef: v1alpha1.LocalReference{Name: "own"},
		}}
		if name == "inline" {
			s.Spec.OutgoingAuth.Source = v1alpha1.OutgoingAuthSourceInline
		}
		f.create(s)
	}
	for _, name := range []string{"usable", "own"} {
		f.eventuallyUsable(name)
	}
	f.eventuallyRefused("unlabelled", v1alpha1.ReasonSecretNotAllowed)
	for _, name := range []string{"discovered", "inline", "sibling"} {
		f.Eventually(func(g Gomega) { f.operand(g, name) }).Should(Succeed())
	}
}

func (f *fixture) expectRuntimeRights(foreign string) {
	f.t.Helper()
	for _, mode := range []string{"discovered", "inline"} {
		account := f.account(v1alpha1.OperandName(mode))
		// The last rights of either mode to come: the bindings of the group and of its own spec.
		f.Eventually(func(g Gomega) {
			for _, r := range runtimeRights {
				want := r.discovered
				if mode == "inline" {
					want = r.inline
				}
				request := strings.ReplaceAll(r.request, "NAME", mode)
				g.Expect(f.allows(account, accessTo(request, f.namespace))).To(Equal(want), "%s: %s", mode, request)
			}
		}).Should(Succeed())
		for _, r := range runtimeRights {
			request := strings.ReplaceAll(r.request, "NAME", mode)
			f.Expect(f.allows(account, accessTo(request, foreign))).To(BeFalse(), "%s: %s elsewhere", mode, request)
		}
	}
}

// An operator that lacks one right of a runtime gives it to none: the API server refuses the Role, and the gateway says so.
func TestRuntimeGetsNoRightThatTheOperatorLacks(t *testing.T) {
	t.Parallel()
	for name, scope := range installScopes() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newNamespace(t)
			account := scope.install(f)
			withoutUpdate := func(rules []rbacv1.PolicyRule) {
				for i := range rules {
					if slices.Contains(rules[i].Resources, "leases") {
						rules[i].Verbs = slices.DeleteFunc(rules[i].Verbs, func(verb string) bool { return verb == "update" })
					}
				}
			}
			if scope.everywhere {
				role := &rbacv1.ClusterRole{}
				f.Expect(admin.Get(f.ctx, client.ObjectKey{Name: account}, role)).To(Succeed())
				withoutUpdate(role.Rules)
				f.Expect(admin.Update(f.ctx, role)).To(Succeed())
			} else {
				edit(f, account, func(role *rbacv1.Role) { withoutUpdate(role.Rules) })
			}
			// The election of a leader has the right as well.
			f.Expect(admin.Delete(f.ctx, &rbacv1.RoleBinding{ObjectMeta: f.meta(account + "-leader-election")})).To(Succeed())
			user := f.account(account)
			f.Eventually(func() bool {
				return f.allows(user, accessTo("list pods", f.namespace)) && !f.allows(user, accessTo("update leases.coordination.k8s.io", f.namespace))
			}).Should(BeTrue())
			f.operatorConfig = rest.CopyConfig(adminConfig)
			f.operatorConfig.Impersonate = user
			f.start()
			f.create(f.group("team"), f.server("gateway", "team"))
			s := f.eventually("gateway", haveCondition(v1alpha1.ConditionRBACReady, metav1.ConditionFalse, v1alpha1.ReasonApplyFailed))
			f.Expect(s.Status.Conditions).To(ContainElement(HaveField("Message", And(
				ContainSubstring("attempting to grant RBAC permissions not currently held"), ContainSubstring("leases")))))
			_, err := get[rbacv1.Role](f, v1alpha1.OperandName("gateway"))
			f.Expect(err).To(MatchError(ContainSubstring("not found")))
		})
	}
}
