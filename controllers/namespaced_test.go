// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// renderConfig renders config/BASE for the fixture's namespace through an overlay of a user, with further fields for the overlay.
func (f *fixture) renderConfig(base, fields string) []*unstructured.Unstructured {
	f.t.Helper()
	files := filesys.MakeFsInMemory()
	f.Expect(filepath.WalkDir(filepath.Join("..", "config"), func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return files.WriteFile(strings.TrimPrefix(filepath.ToSlash(path), ".."), content)
	})).To(Succeed())
	overlay := "resources: [../" + base + "]\nnamespace: " + f.namespace + "\n" + fields
	f.Expect(files.WriteFile("/config/overlay/kustomization.yaml", []byte(overlay))).To(Succeed())
	rendered, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(files, "/config/overlay")
	f.Expect(err).NotTo(HaveOccurred())
	var objects []*unstructured.Unstructured
	for _, r := range rendered.Resources() {
		data, err := r.MarshalJSON()
		f.Expect(err).NotTo(HaveOccurred())
		o := &unstructured.Unstructured{}
		f.Expect(o.UnmarshalJSON(data)).To(Succeed())
		objects = append(objects, o)
	}
	return objects
}

func (f *fixture) applyAll(objects []*unstructured.Unstructured) {
	f.t.Helper()
	for _, o := range objects {
		f.Expect(admin.Apply(f.ctx, client.ApplyConfigurationFromUnstructured(o), client.FieldOwner("kubectl"))).To(Succeed(), o.GetKind())
	}
}

// installNamespaced applies config/namespaced to the fixture's namespace and returns its objects.
func (f *fixture) installNamespaced() []*unstructured.Unstructured {
	f.t.Helper()
	objects := f.renderConfig("namespaced", "")
	f.applyAll(objects)
	return objects
}

// account is a ServiceAccount of the fixture's namespace, as the user that the API server knows.
func (f *fixture) account(name string) rest.ImpersonationConfig {
	return rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + f.namespace + ":" + name,
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + f.namespace, "system:authenticated"},
	}
}

// operatorAccount is the ServiceAccount that config/namespaced installs.
func (f *fixture) operatorAccount() rest.ImpersonationConfig { return f.account("vmcp-operator") }

// operatorMay asks the API server whether the operator of this namespace may do something, in a namespace or in all.
func (f *fixture) operatorMay(verb, group, resource, namespace string) bool {
	f.t.Helper()
	resource, subresource, _ := strings.Cut(resource, "/")
	return f.allows(f.operatorAccount(), authorizationv1.ResourceAttributes{
		Verb: verb, Group: group, Resource: resource, Subresource: subresource, Namespace: namespace,
	})
}

// allows asks the API server's authorizer.
func (f *fixture) allows(who rest.ImpersonationConfig, what authorizationv1.ResourceAttributes) bool {
	f.t.Helper()
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: who.UserName, Groups: who.Groups, ResourceAttributes: &what,
	}}
	f.Expect(admin.Create(f.ctx, review)).To(Succeed())
	f.Expect(review.Status.EvaluationError).To(BeEmpty())
	return review.Status.Allowed
}

// Installed for one namespace, the operator has its rights there and none anywhere else, and they are enough.
func TestInstalledForOneNamespace(t *testing.T) {
	t.Parallel()
	f, foreign := newNamespace(t), newNamespace(t)
	objects := f.installNamespaced()
	f.Expect(objects).NotTo(BeEmpty())
	for _, o := range objects {
		mapping, err := admin.RESTMapper().RESTMapping(o.GroupVersionKind().GroupKind())
		f.Expect(err).NotTo(HaveOccurred())
		f.Expect(mapping.Scope.Name()).To(Equal(meta.RESTScopeNameNamespace), "%s %s", o.GetKind(), o.GetName())
		f.Expect(o.GetNamespace()).To(Equal(f.namespace), "%s %s", o.GetKind(), o.GetName())
		if o.GetKind() == "RoleBinding" {
			// The suite has a ClusterRole of the operator's name; a cluster of a user has none.
			f.Expect(o.Object).To(HaveKeyWithValue("roleRef", HaveKeyWithValue("kind", "Role")), o.GetName())
		}
	}

	role, err := readOperatorRole()
	f.Expect(err).NotTo(HaveOccurred())
	// RBAC is served from a cache of the API server.
	f.Eventually(func() bool { return f.operatorMay("list", "", "pods", f.namespace) }).Should(BeTrue())
	for _, rule := range role.Rules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					f.Expect(f.operatorMay(verb, group, resource, f.namespace)).To(BeTrue(), "%s %s.%s", verb, resource, group)
					for _, namespace := range []string{foreign.namespace, "kube-system", metav1.NamespaceAll} {
						f.Expect(f.operatorMay(verb, group, resource, namespace)).To(BeFalse(), "%s %s.%s in %q", verb, resource, group, namespace)
					}
				}
			}
		}
	}
	for _, verb := range []string{"list", "update", "delete"} {
		f.Expect(f.operatorMay(verb, "", "secrets", f.namespace)).To(BeFalse(), "%s secrets", verb)
	}

	f.operatorConfig = rest.CopyConfig(adminConfig)
	f.operatorConfig.Impersonate = f.operatorAccount()
	f.start()
	f.create(f.group("team"), f.workloadBackend("kube"))
	f.converge("gateway")
	f.rollOut("mcpb-kube")
	f.eventuallyBackend("kube", haveCondition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonAvailable))
	f.eventuallyCounts("team", 1, 1)
}

// What the Deployment of the composition tells the operator: its own namespace, and to ask nobody about the callers of its metrics, which
// would need a ClusterRole.
func TestNamespacedDeployment(t *testing.T) {
	t.Parallel()
	f := newNamespace(t)
	f.installNamespaced()
	d, err := get[appsv1.Deployment](f, "vmcp-operator")
	f.Expect(err).NotTo(HaveOccurred())
	operator := d.Spec.Template.Spec.Containers[0]
	f.Expect(operator.Args).To(Equal([]string{"--leader-elect", "--metrics-authorization=none"}))
	for _, name := range []string{"WATCH_NAMESPACE", "POD_NAMESPACE"} {
		f.Expect(operator.Env).To(ContainElement(And(
			HaveField("Name", name),
			HaveField("ValueFrom.FieldRef.FieldPath", "metadata.namespace"),
		)))
	}
}

// The operator may create Roles, and yet give nobody a right that it lacks: the API server sees to that.
func TestNamespacedOperatorCannotEscalate(t *testing.T) {
	t.Parallel()
	f := newNamespace(t)
	f.installNamespaced()
	config := rest.CopyConfig(adminConfig)
	config.Impersonate = f.operatorAccount()
	operator, err := client.New(config, client.Options{Scheme: admin.Scheme()})
	f.Expect(err).NotTo(HaveOccurred())
	roleWith := func(name string, rule rbacv1.PolicyRule) *rbacv1.Role {
		return &rbacv1.Role{ObjectMeta: f.meta(name), Rules: []rbacv1.PolicyRule{rule}}
	}
	f.Eventually(func() error {
		return operator.Create(f.ctx, roleWith("held", rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list"}}))
	}).Should(Succeed())
	for name, rule := range map[string]rbacv1.PolicyRule{
		"secrets": {APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"list"}},
		"exec":    {APIGroups: []string{""}, Resources: []string{"pods/exec"}, Verbs: []string{"create"}},
		"all":     {APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"*"}},
	} {
		err := operator.Create(f.ctx, roleWith(name, rule))
		f.Expect(apierrors.IsForbidden(err)).To(BeTrue(), "%s: %v", name, err)
		f.Expect(err).To(MatchError(ContainSubstring("attempting to grant RBAC permissions not currently held")), name)
	}
	// Nor may it bind a role that holds more, were one there.
	f.create(roleWith("strong", rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"list"}}))
	err = operator.Create(f.ctx, &rbacv1.RoleBinding{
		ObjectMeta: f.meta("strong"),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "strong"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: f.namespace, Name: "vmcp-operator"}},
	})
	f.Expect(apierrors.IsForbidden(err)).To(BeTrue(), "%v", err)
}
