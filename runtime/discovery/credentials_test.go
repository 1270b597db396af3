// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package discovery_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/auth"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/kube"
	"github.com/vmcp-dev/vmcp-operator/runtime/kube/kubetest"
)

// target waits for a list in which check finds nothing wrong with the named backend.
func (f *found) target(t *testing.T, name string, check func(backend.Target) string) {
	t.Helper()
	kubetest.Eventually(t, func() string {
		f.mu.Lock()
		defer f.mu.Unlock()
		switch {
		case f.err != nil:
			return "discovery failed: " + f.err.Error()
		case len(f.lists) == 0:
			return "no list was published"
		}
		list := f.lists[len(f.lists)-1]
		i := slices.IndexFunc(list, func(t backend.Target) bool { return t.Name == name })
		if i < 0 {
			return fmt.Sprintf("%s is not in %+v", name, list)
		}
		return check(list[i])
	})
}

func (f *found) refused(t *testing.T, name, reason, message string) {
	t.Helper()
	f.target(t, name, func(target backend.Target) string {
		r := target.Refused
		if r.Status != v1alpha1.BackendUnauthenticated || r.Reason != reason || !strings.Contains(r.Message, message) || target.Credential != (auth.Credential{}) {
			return fmt.Sprintf("refusal is %+v, want %s: %s", r, reason, message)
		}
		return ""
	})
}

func (f *found) credential(t *testing.T, name, value string) {
	t.Helper()
	f.target(t, name, func(target backend.Target) string {
		if target.Refused != (backend.Refusal{}) || target.Credential != auth.NewCredential(value) {
			return fmt.Sprintf("%s has other credentials: %+v", name, target)
		}
		return ""
	})
}

func authConfig(namespace, name, secret string) *v1alpha1.MCPExternalAuthConfig {
	return &v1alpha1.MCPExternalAuthConfig{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1alpha1.MCPExternalAuthConfigSpec{
			Type: v1alpha1.ExternalAuthTypeHeaderInjection,
			HeaderInjection: &v1alpha1.HeaderInjection{
				HeaderName: "Authorization", SecretRef: v1alpha1.SecretKeyReference{Name: secret, Key: "value"},
			},
		},
	}
}

// runtimeUser makes the clients of a user who may read backends and auth configs, and allow, which lets him read a Secret.
func runtimeUser(t *testing.T, c client.Client, namespace string) (clients *kube.Clients, allow func(secret string) *rbacv1.Role) {
	t.Helper()
	config := kubetest.Config(t)
	config.Impersonate = rest.ImpersonationConfig{UserName: "runtime-of-" + namespace}
	clients, err := kube.New(config, namespace, "team")
	if err != nil {
		t.Fatal(err)
	}
	grant := func(name string, rule rbacv1.PolicyRule) *rbacv1.Role {
		t.Helper()
		role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Rules: []rbacv1.PolicyRule{rule}}
		for _, object := range []client.Object{role, &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, Name: config.Impersonate.UserName}},
		}} {
			if err := c.Create(t.Context(), object); err != nil {
				t.Fatal(err)
			}
		}
		return role
	}
	grant("runtime", rbacv1.PolicyRule{
		APIGroups: []string{"vmcp.dev"}, Resources: []string{"mcpbackends", "mcpexternalauthconfigs"}, Verbs: []string{"get", "list", "watch"},
	})
	return clients, func(secret string) *rbacv1.Role {
		return grant("secret-"+secret, rbacv1.PolicyRule{
			APIGroups: []string{""}, Resources: []string{"secrets"}, ResourceNames: []string{secret}, Verbs: []string{"get", "watch"},
		})
	}
}

func TestKubernetes_FollowsCredentials(t *testing.T) {
	c := kubetest.Client(t)
	namespace := kubetest.Namespace(t, c)
	clients, allow := runtimeUser(t, c, namespace)
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	locked := remote(namespace, "locked", "team", "https://locked.example.com/mcp")
	locked.Spec.ExternalAuthConfigRef = &v1alpha1.LocalReference{Name: "token"}
	do(c.Create(t.Context(), locked))
	do(c.Create(t.Context(), remote(namespace, "open", "team", "https://open.example.com/mcp")))

	f := discover(t, clients, "team")
	f.refused(t, "locked", v1alpha1.ReasonAuthConfigNotFound, `"token"`)
	f.target(t, "open", func(target backend.Target) string {
		if target.Refused != (backend.Refusal{}) || target.Auth != (auth.Strategy{}) {
			return fmt.Sprintf("open is %+v", target)
		}
		return ""
	})

	config := authConfig(namespace, "token", "token-value")
	do(c.Create(t.Context(), config))
	f.refused(t, "locked", v1alpha1.ReasonSecretUnreadable, "forbidden")
	setReady := func(status metav1.ConditionStatus, reason, message string) {
		t.Helper()
		config.Status.Conditions = []metav1.Condition{{
			Type: v1alpha1.ConditionReady, Status: status, Reason: reason, Message: message,
			ObservedGeneration: config.Generation, LastTransitionTime: metav1.Now(),
		}}
		do(c.Status().Update(t.Context(), config))
	}
	// What the operator knows of a Secret that the runtime may not read is better than nothing.
	setReady(metav1.ConditionFalse, v1alpha1.ReasonSecretNotAllowed, "label the Secret")
	f.refused(t, "locked", v1alpha1.ReasonSecretNotAllowed, "label the Secret")

	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "token-value", Labels: map[string]string{v1alpha1.CredentialLabel: "true"}},
		Data:       map[string][]byte{"value": []byte("Bearer one\n")},
	}
	do(c.Create(t.Context(), secret))
	role := allow(secret.Name)
	setReady(metav1.ConditionTrue, v1alpha1.ReasonCredentialsFound, "")
	f.credential(t, "locked", "Bearer one")

	secret.Data["value"] = []byte("Bearer two")
	do(c.Update(t.Context(), secret))
	f.credential(t, "locked", "Bearer two")

	// The label is the owner's consent: without it the value is used no more, although the watch still shows it.
	secret.Labels = nil
	do(c.Update(t.Context(), secret))
	f.refused(t, "locked", v1alpha1.ReasonSecretNotAllowed, v1alpha1.CredentialLabel)
	secret.Labels = map[string]string{v1alpha1.CredentialLabel: "true"}
	secret.Data = map[string][]byte{"other": []byte("x")}
	do(c.Update(t.Context(), secret))
	f.refused(t, "locked", v1alpha1.ReasonSecretKeyNotFound, `"value"`)
	secret.Data = map[string][]byte{"value": []byte("two\nlines")}
	do(c.Update(t.Context(), secret))
	f.refused(t, "locked", v1alpha1.ReasonSecretUnusable, "line break")
	do(c.Delete(t.Context(), secret))
	f.refused(t, "locked", v1alpha1.ReasonSecretNotFound, `"token-value"`)

	// Another Secret is another right.
	config.Spec.HeaderInjection.SecretRef.Name = "another"
	do(c.Update(t.Context(), config))
	f.refused(t, "locked", v1alpha1.ReasonSecretUnreadable, "forbidden")
	do(c.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "another", Labels: map[string]string{v1alpha1.CredentialLabel: "true"}},
		Data:       map[string][]byte{"value": []byte("Bearer three")},
	}))
	role.Rules[0].ResourceNames = []string{"another"}
	do(c.Update(t.Context(), role))
	f.credential(t, "locked", "Bearer three") // tried again without a word from the operator

	do(c.Delete(t.Context(), config))
	f.refused(t, "locked", v1alpha1.ReasonAuthConfigNotFound, `"token"`)
}

func TestKubernetes_TheGatewayChoosesCredentials(t *testing.T) {
	c := kubetest.Client(t)
	namespace := kubetest.Namespace(t, c)
	clients, allow := runtimeUser(t, c, namespace)
	for _, name := range []string{"own", "fallback", "forced"} {
		for _, object := range []client.Object{
			authConfig(namespace, name, name),
			&corev1.Secret{
				ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{v1alpha1.CredentialLabel: "true"}},
				Data:       map[string][]byte{"value": []byte(name)},
			},
		} {
			if err := c.Create(t.Context(), object); err != nil {
				t.Fatal(err)
			}
		}
		allow(name)
	}
	for _, b := range []string{"a", "b", "c"} {
		object := remote(namespace, b, "team", "https://"+b+".example.com/mcp")
		if b != "a" {
			object.Spec.ExternalAuthConfigRef = &v1alpha1.LocalReference{Name: "own"}
		}
		if err := c.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	f := run(t, clients, "team", v1alpha1.OutgoingAuth{
		Default:  &v1alpha1.DefaultAuth{ExternalAuthConfigRef: v1alpha1.LocalReference{Name: "fallback"}},
		Backends: []v1alpha1.BackendAuth{{Name: "c", ExternalAuthConfigRef: v1alpha1.LocalReference{Name: "forced"}}},
	})
	for backend, want := range map[string]string{"a": "fallback", "b": "own", "c": "forced"} {
		f.credential(t, backend, want)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, target := range f.lists[0] {
		if target.Refused.Reason != "" && !strings.Contains(target.Refused.Message, "forbidden") {
			t.Errorf("the first list was not complete: %+v", target)
		}
	}
}
