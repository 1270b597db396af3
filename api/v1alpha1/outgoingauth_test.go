// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"testing"

	. "github.com/onsi/gomega"

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
