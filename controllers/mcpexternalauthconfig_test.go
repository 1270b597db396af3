// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/types"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/controllers"
)

// authConfig sends the key authorization of a Secret.
func (f *fixture) authConfig(name, secret string) *v1alpha1.MCPExternalAuthConfig {
	return &v1alpha1.MCPExternalAuthConfig{
		ObjectMeta: f.meta(name),
		Spec: v1alpha1.MCPExternalAuthConfigSpec{
			Type: v1alpha1.ExternalAuthTypeHeaderInjection,
			HeaderInjection: &v1alpha1.HeaderInjection{
				HeaderName: "Authorization",
				SecretRef:  v1alpha1.SecretKeyReference{Name: secret, Key: "authorization"},
			},
		},
	}
}

// secret is one that may not be used yet.
func (f *fixture) secret(name string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: f.meta(name), StringData: map[string]string{"authorization": "Bearer hunter2"}}
}

// credential is a Secret that may be used.
func (f *fixture) credential(name string) *corev1.Secret {
	s := f.secret(name)
	s.Labels = map[string]string{v1alpha1.CredentialLabel: "true"}
	return s
}

// touch makes the controllers look at an object at once, not when its time has come.
func touch[T any, O interface {
	*T
	client.Object
}](f *fixture, name string) {
	f.t.Helper()
	edit(f, name, func(o O) { o.SetAnnotations(map[string]string{"example.com/touched": time.Now().String()}) })
}

func (f *fixture) eventuallyAuthConfig(name string, matchers ...types.GomegaMatcher) *v1alpha1.MCPExternalAuthConfig {
	f.t.Helper()
	var c *v1alpha1.MCPExternalAuthConfig
	f.Eventually(func(g Gomega) {
		var err error
		c, err = get[v1alpha1.MCPExternalAuthConfig](f, name)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(c.Status.ObservedGeneration).To(Equal(c.Generation))
		g.Expect(c.Status.Conditions).To(And(matchers...))
	}).Should(Succeed())
	return c
}

func (f *fixture) eventuallyUsable(name string) *v1alpha1.MCPExternalAuthConfig {
	f.t.Helper()
	return f.eventuallyAuthConfig(name,
		haveCondition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonCredentialsFound),
		lackCondition(v1alpha1.ConditionStalled))
}

func (f *fixture) eventuallyRefused(name, reason string) *v1alpha1.MCPExternalAuthConfig {
	f.t.Helper()
	return f.eventuallyAuthConfig(name,
		haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, reason),
		haveCondition(v1alpha1.ConditionStalled, metav1.ConditionTrue, reason))
}

// may asks the API server whether a ServiceAccount of the namespace may do something with Secrets.
func (f *fixture) may(account, verb, secret string) bool {
	f.t.Helper()
	return f.allows(f.account(account), authorizationv1.ResourceAttributes{
		Namespace: f.namespace, Verb: verb, Resource: "secrets", Name: secret,
	})
}

// bindAuthRole binds the Role of a config to a ServiceAccount, as the other controllers do.
func (f *fixture) bindAuthRole(config, account string) {
	f.t.Helper()
	f.create(&rbacv1.RoleBinding{
		ObjectMeta: f.meta(account),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: v1alpha1.AuthRoleName(config)},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: f.namespace, Name: account}},
	})
}

// Rights follow the label: there are none before it is there, exactly get and watch of the one Secret while it is, and none after.
func TestAuthRoleFollowsTheLabel(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(f.secret("token"), f.credential("other"), f.authConfig("grafana", "token"))
	f.eventuallyRefused("grafana", v1alpha1.ReasonSecretNotAllowed)
	f.bindAuthRole("grafana", "gateway")
	f.Expect(f.may("gateway", "get", "token")).To(BeFalse())

	edit(f, "token", func(s *corev1.Secret) { s.Labels = map[string]string{v1alpha1.CredentialLabel: "true"} })
	c := f.eventuallyUsable("grafana") // by itself: it looks again soon while it waits for somebody
	f.Eventually(func() bool { return f.may("gateway", "get", "token") }).Should(BeTrue())
	for _, c := range []struct {
		verb, secret string
		want         bool
	}{
		{"watch", "token", true},
		{"list", "token", false},
		{"list", "", false},
		{"watch", "", false},
		{"update", "token", false},
		{"delete", "token", false},
		{"get", "other", false},
		{"watch", "other", false},
	} {
		f.Expect(f.may("gateway", c.verb, c.secret)).To(Equal(c.want), "%s %s", c.verb, c.secret)
	}
	role, err := get[rbacv1.Role](f, v1alpha1.AuthRoleName("grafana"))
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(metav1.IsControlledBy(role, c)).To(BeTrue(), "it is garbage-collected with the config")
	f.Expect(role.Labels).To(And(
		HaveKeyWithValue(v1alpha1.ManagedByLabel, v1alpha1.ManagedByValue),
		HaveKeyWithValue(v1alpha1.AuthConfigLabel, "grafana")))

	edit(f, "token", func(s *corev1.Secret) { s.Labels = map[string]string{v1alpha1.CredentialLabel: "false"} })
	touch[v1alpha1.MCPExternalAuthConfig](f, "grafana")
	f.eventuallyRefused("grafana", v1alpha1.ReasonSecretNotAllowed)
	f.Eventually(func() bool { return f.may("gateway", "get", "token") || f.may("gateway", "watch", "token") }).Should(BeFalse())

	// The operator asked for the one Secret by its name, and never for its data.
	for _, req := range f.requests.of(controllers.MCPExternalAuthConfigController) {
		if strings.Contains(req.path, "/secrets") {
			f.Expect(req.path).To(HaveSuffix("/secrets/token"))
			f.Expect(req.method).To(Equal(http.MethodGet))
			f.Expect(req.accept).To(HavePrefix("application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;"))
		}
	}
}

func TestAuthConfigSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	impossible := f.authConfig("impossible", "token")
	impossible.Spec.HeaderInjection.SecretRef.Key = ".." // a name that no key has, which the schema does not know
	f.create(f.authConfig("missing", "nowhere"), impossible)
	c := f.eventuallyRefused("missing", v1alpha1.ReasonSecretNotFound)
	f.Expect(c.Status.Conditions).To(ContainElement(HaveField("Message", And(
		ContainSubstring(`"nowhere"`), ContainSubstring("spec.headerInjection.secretRef")))))
	f.eventuallyRefused("impossible", v1alpha1.ReasonAuthConfigInvalid)

	f.create(f.credential("nowhere"))
	f.eventuallyUsable("missing")
	f.Expect(admin.Delete(f.ctx, f.secret("nowhere"))).To(Succeed())
	touch[v1alpha1.MCPExternalAuthConfig](f, "missing")
	f.eventuallyRefused("missing", v1alpha1.ReasonSecretNotFound)
}

func TestAuthRoleIsRepairedAndNotTakenOver(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	role := v1alpha1.AuthRoleName("grafana")
	foreign := &rbacv1.Role{ObjectMeta: f.meta(v1alpha1.AuthRoleName("foreign"))}
	f.create(foreign, f.credential("token"), f.authConfig("grafana", "token"), f.authConfig("foreign", "token"))
	f.eventuallyRefused("foreign", v1alpha1.ReasonNotOwned)
	f.eventuallyUsable("grafana")
	before, err := get[rbacv1.Role](f, role)
	f.Expect(err).NotTo(HaveOccurred())

	edit(f, role, func(r *rbacv1.Role) { r.Rules[0].ResourceNames = nil })
	f.Eventually(func(g Gomega) {
		r, err := get[rbacv1.Role](f, role)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(r.Rules).To(Equal(before.Rules))
	}).Should(Succeed())
	f.Expect(admin.Delete(f.ctx, before)).To(Succeed())
	f.Eventually(func(g Gomega) {
		r, err := get[rbacv1.Role](f, role)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(r.Rules).To(Equal(before.Rules))
	}).Should(Succeed())
	left, err := get[rbacv1.Role](f, foreign.Name)
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(left.ResourceVersion).To(Equal(foreign.ResourceVersion))
}

func TestPausedAuthConfigIsLeftAlone(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	c := f.authConfig("grafana", "token")
	c.Annotations = map[string]string{v1alpha1.PausedAnnotation: "true"}
	f.create(f.credential("token"), c)
	f.Consistently(func() error {
		_, err := get[rbacv1.Role](f, v1alpha1.AuthRoleName("grafana"))
		return err
	}).Should(MatchError(apierrors.IsNotFound, "not found"))
	edit(f, "grafana", func(c *v1alpha1.MCPExternalAuthConfig) { c.Annotations = nil })
	f.eventuallyUsable("grafana")
}

// No watch tells about Secrets: the controller comes back by itself, soon while it waits for somebody.
func TestAuthConfigIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(f.credential("token"), f.authConfig("found", "token"), f.authConfig("missing", "nowhere"))
	f.eventuallyUsable("found")
	f.eventuallyRefused("missing", v1alpha1.ReasonSecretNotFound)
	c, err := controllers.NewClient(f.manager, controllers.MCPExternalAuthConfigController)
	f.Expect(err).NotTo(HaveOccurred())
	r := &controllers.MCPExternalAuthConfigReconciler{Client: c}
	for name, want := range map[string]time.Duration{"found": 5 * time.Minute, "missing": 8 * time.Second} {
		result, err := r.Reconcile(f.ctx, f.requestFor(name))
		f.Expect(err).NotTo(HaveOccurred())
		f.Expect(result.RequeueAfter).To(BeNumerically("~", want+want/10, want/10+time.Millisecond), name)
	}
}

// The API server refuses a Role with one right more than its author holds, so that the operator's own role bounds what any of the
// operator's objects can give.
func TestOperatorCannotGrantMoreThanItHolds(t *testing.T) {
	t.Parallel()
	f := newNamespace(t)
	operator, err := client.New(operatorConfig, client.Options{Scheme: admin.Scheme()})
	f.Expect(err).NotTo(HaveOccurred())
	for verb, allowed := range map[string]bool{"get": true, "watch": true, "list": false, "update": false} {
		err := operator.Create(f.ctx, &rbacv1.Role{
			ObjectMeta: f.meta("grant-" + verb),
			Rules: []rbacv1.PolicyRule{{
				APIGroups: []string{""}, Resources: []string{"secrets"}, ResourceNames: []string{"token"}, Verbs: []string{verb},
			}},
		})
		if allowed {
			f.Expect(err).NotTo(HaveOccurred(), verb)
		} else {
			f.Expect(apierrors.IsForbidden(err)).To(BeTrue(), "%s: %v", verb, err)
			f.Expect(err).To(MatchError(ContainSubstring("attempting to grant RBAC permissions not currently held")))
		}
	}
}
