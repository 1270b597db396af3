// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"testing"

	. "github.com/onsi/gomega"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

func headerFrom(secret string) v1alpha1.MCPExternalAuthConfigSpec {
	return v1alpha1.MCPExternalAuthConfigSpec{
		Type: v1alpha1.ExternalAuthTypeHeaderInjection,
		HeaderInjection: &v1alpha1.HeaderInjection{
			HeaderName: "Authorization", SecretRef: v1alpha1.SecretKeyReference{Name: secret, Key: "token"},
		},
	}
}

// authConfig is a valid MCPExternalAuthConfig of generation 2 with the verdict on its Secret.
func authConfig(name string, status metav1.ConditionStatus, reason string, observed int64) *v1alpha1.MCPExternalAuthConfig {
	return &v1alpha1.MCPExternalAuthConfig{
		ObjectMeta: metav1.ObjectMeta{Name: name, Generation: 2},
		Spec:       headerFrom("secret-of-" + name),
		Status: v1alpha1.MCPExternalAuthConfigStatus{Conditions: []metav1.Condition{{
			Type: v1alpha1.ConditionReady, Status: status, Reason: reason, Message: "verdict on " + name, ObservedGeneration: observed,
		}}},
	}
}

func members(backends ...v1alpha1.MCPBackend) []v1alpha1.Member {
	var members []v1alpha1.Member
	for i := range backends {
		members = append(members, backends[i].Member())
	}
	return v1alpha1.Members(members...)
}

func TestResolveBackends(t *testing.T) {
	t.Parallel()
	ref := func(name string) *v1alpha1.LocalReference { return &v1alpha1.LocalReference{Name: name} }
	backend := func(name string, own *v1alpha1.LocalReference) v1alpha1.MCPBackend {
		return v1alpha1.MCPBackend{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "tools"},
			Spec: v1alpha1.MCPBackendSpec{
				GroupRef: v1alpha1.LocalReference{Name: "team"}, Remote: &v1alpha1.RemoteBackend{URL: "https://mcp.example.com/mcp"},
				ExternalAuthConfigRef: own,
			},
		}
	}
	unchecked := authConfig("unchecked", "", "", 0)
	unchecked.Status = v1alpha1.MCPExternalAuthConfigStatus{}
	invalid := authConfig("invalid", metav1.ConditionTrue, v1alpha1.ReasonCredentialsFound, 2)
	invalid.Spec.HeaderInjection.HeaderName = "Host"
	configs := map[string]*v1alpha1.MCPExternalAuthConfig{
		"good":       authConfig("good", metav1.ConditionTrue, v1alpha1.ReasonCredentialsFound, 2),
		"unlabelled": authConfig("unlabelled", metav1.ConditionFalse, v1alpha1.ReasonSecretNotAllowed, 2),
		"outdated":   authConfig("outdated", metav1.ConditionTrue, v1alpha1.ReasonCredentialsFound, 1),
		"unchecked":  unchecked,
		"invalid":    invalid,
	}
	plain := configv1alpha1.Backend{
		Kind: "MCPBackend", Name: "docs", Source: v1alpha1.BackendSourceRemote, URL: "https://mcp.example.com/mcp",
		Transport: v1alpha1.TransportStreamableHTTP, DeclaredTransport: v1alpha1.TransportStreamableHTTP,
	}
	with := func(config string, known bool, reason, message string) configv1alpha1.Backend {
		b := plain
		b.Auth = &configv1alpha1.Auth{ConfigRef: v1alpha1.LocalReference{Name: config}}
		if known {
			b.Auth.Spec = headerFrom("secret-of-" + config)
		}
		if reason != "" {
			b.Refused = &configv1alpha1.Refusal{Status: v1alpha1.BackendUnauthenticated, Reason: reason, Message: message}
		}
		return b
	}
	twoSources := backend("docs", ref("good"))
	twoSources.Spec.Service = &v1alpha1.ServiceBackend{Name: "docs", Port: 80}
	for name, c := range map[string]struct {
		auth    v1alpha1.OutgoingAuth
		backend v1alpha1.MCPBackend
		want    configv1alpha1.Backend
		secrets []string
	}{
		"without credentials": {v1alpha1.OutgoingAuth{}, backend("docs", nil), plain, nil},
		"with its own":        {v1alpha1.OutgoingAuth{}, backend("docs", ref("good")), with("good", true, "", ""), []string{"secret-of-good"}},
		"not there": {v1alpha1.OutgoingAuth{}, backend("docs", ref("missing")),
			with("missing", false, v1alpha1.ReasonAuthConfigNotFound,
				`MCPExternalAuthConfig "missing" does not exist; the backend is not called without its credentials`), nil},
		"the Secret may not be used": {v1alpha1.OutgoingAuth{}, backend("docs", ref("unlabelled")),
			with("unlabelled", true, v1alpha1.ReasonSecretNotAllowed, "verdict on unlabelled"), nil},
		"checked for an earlier generation": {v1alpha1.OutgoingAuth{}, backend("docs", ref("outdated")),
			with("outdated", true, v1alpha1.ReasonSecretUnreadable,
				`the Secrets that MCPExternalAuthConfig "outdated" names have not been checked yet`), nil},
		"never checked": {v1alpha1.OutgoingAuth{}, backend("docs", ref("unchecked")),
			with("unchecked", true, v1alpha1.ReasonSecretUnreadable,
				`the Secrets that MCPExternalAuthConfig "unchecked" names have not been checked yet`), nil},
		"an entry before its own": {
			v1alpha1.OutgoingAuth{Backends: []v1alpha1.BackendAuth{{Name: "docs", ExternalAuthConfigRef: *ref("good")}}},
			backend("docs", ref("missing")), with("good", true, "", ""), []string{"secret-of-good"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			got := resolveBackends(c.auth, members(c.backend), configs)
			g.Expect(got).To(Equal([]configv1alpha1.Backend{c.want}))
			g.Expect(credentialSecrets(got)).To(Equal(c.secrets))
		})
	}

	t.Run("invalid MCPExternalAuthConfig", func(t *testing.T) {
		t.Parallel()
		g := NewWithT(t)
		got := resolveBackends(v1alpha1.OutgoingAuth{}, members(backend("docs", ref("invalid"))), configs)[0]
		g.Expect(got.Auth.Spec).To(BeZero())
		g.Expect(got.Refused.Reason).To(Equal(v1alpha1.ReasonAuthConfigInvalid))
	})
	t.Run("invalid backend", func(t *testing.T) {
		t.Parallel()
		g := NewWithT(t)
		got := resolveBackends(v1alpha1.OutgoingAuth{}, members(twoSources), configs)
		g.Expect(got[0].URL).To(BeEmpty())
		g.Expect(got[0].Refused.Status).To(Equal(v1alpha1.BackendUnavailable))
		g.Expect(got[0].Refused.Reason).To(Equal(v1alpha1.ReasonInvalidSpec))
		g.Expect(credentialSecrets(got)).To(BeEmpty(), "what is not called needs no credentials")
	})
	t.Run("order", func(t *testing.T) {
		t.Parallel()
		g := NewWithT(t)
		got := resolveBackends(v1alpha1.OutgoingAuth{}, members(backend("b", ref("good")), backend("a", ref("good"))), configs)
		g.Expect([]string{got[0].Name, got[1].Name}).To(Equal([]string{"a", "b"}))
		g.Expect(credentialSecrets(got)).To(Equal([]string{"secret-of-good"}))
		g.Expect(resolveBackends(v1alpha1.OutgoingAuth{}, nil, nil)).To(BeEmpty())
	})
}
