// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// An entry for the backend is before what the backend names itself, and that before the default.
func TestConfigFor(t *testing.T) {
	byDefault := &v1alpha1.DefaultAuth{ExternalAuthConfigRef: v1alpha1.LocalReference{Name: "default"}}
	entry := []v1alpha1.BackendAuth{{Name: "docs", ExternalAuthConfigRef: v1alpha1.LocalReference{Name: "entry"}}}
	own := &v1alpha1.LocalReference{Name: "own"}
	for title, c := range map[string]struct {
		auth    v1alpha1.OutgoingAuth
		backend string
		own     *v1alpha1.LocalReference
		want    string
		names   []string
	}{
		"nothing":                {v1alpha1.OutgoingAuth{}, "docs", nil, "", nil},
		"default":                {v1alpha1.OutgoingAuth{Default: byDefault}, "docs", nil, "default", []string{"default"}},
		"own":                    {v1alpha1.OutgoingAuth{}, "docs", own, "own", nil},
		"own before default":     {v1alpha1.OutgoingAuth{Default: byDefault}, "docs", own, "own", []string{"default"}},
		"entry before all":       {v1alpha1.OutgoingAuth{Default: byDefault, Backends: entry}, "docs", own, "entry", []string{"default", "entry"}},
		"entry of another":       {v1alpha1.OutgoingAuth{Default: byDefault, Backends: entry}, "kube", own, "own", []string{"default", "entry"}},
		"default beside entries": {v1alpha1.OutgoingAuth{Default: byDefault, Backends: entry}, "kube", nil, "default", []string{"default", "entry"}},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			g.Expect(c.auth.ConfigFor(c.backend, c.own)).To(Equal(c.want))
			g.Expect(c.auth.ConfigNames()).To(Equal(c.names))
		})
	}
}

// What no Secret and no key of one can be called is refused by the API server, not found out by a backend that has no credentials.
func TestSecretReference(t *testing.T) {
	for title, c := range map[string]struct {
		name, key string
		field     string // that is refused; "" if none is
	}{
		"usual":                    {name: "grafana-token", key: "token"},
		"all that a key may have":  {name: "a.b-c.0", key: "A_b-c.9"},
		"hidden":                   {name: "a", key: ".dockerconfigjson"},
		"longest":                  {name: strings.Repeat("a", 253), key: strings.Repeat("k", 253)},
		"no name":                  {key: "token", field: "name"},
		"no key":                   {name: "a", field: "key"},
		"name too long":            {name: strings.Repeat("a", 254), key: "token", field: "name"},
		"key too long":             {name: "a", key: strings.Repeat("k", 254), field: "key"},
		"path as the name":         {name: "a/b", key: "token", field: "name"},
		"capitals in the name":     {name: "Token", key: "token", field: "name"},
		"dot at the end":           {name: "token.", key: "token", field: "name"},
		"hyphen after a dot":       {name: "a.-b", key: "token", field: "name"},
		"path as the key":          {name: "a", key: "x/y", field: "key"},
		"white space in the key":   {name: "a", key: "my token", field: "key"},
		"line break after the key": {name: "a", key: "token\n", field: "key"},
		"other letters":            {name: "a", key: "schlüssel", field: "key"},
	} {
		t.Run(title, func(t *testing.T) {
			g := NewWithT(t)
			config := &v1alpha1.MCPExternalAuthConfig{
				ObjectMeta: metav1.ObjectMeta{Name: "config", Namespace: "default"},
				Spec: v1alpha1.MCPExternalAuthConfigSpec{
					Type: v1alpha1.ExternalAuthTypeHeaderInjection,
					HeaderInjection: &v1alpha1.HeaderInjection{
						HeaderName: "Authorization", SecretRef: v1alpha1.SecretKeyReference{Name: c.name, Key: c.key},
					},
				},
			}
			err := api.Create(t.Context(), config.DeepCopy(), client.DryRunAll)
			if c.field == "" {
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(config.Validate()).To(BeEmpty())
				return
			}
			path := "spec.headerInjection.secretRef." + c.field
			g.Expect(err).To(MatchError(ContainSubstring(path)))
			g.Expect(config.Validate()).To(ContainElement(HaveField("Field", path)))
		})
	}
}
