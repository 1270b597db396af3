// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

const header = "apiVersion: config.vmcp.dev/v1alpha1\nkind: RuntimeConfiguration\nsource: discovered\n"

func TestNext(t *testing.T) {
	current, err := configv1alpha1.Parse([]byte(header + "uid: ours\ngeneration: 5\ngroup: team\n"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		data  map[string]string
		group string // of the configuration that replaces the current one; "" when none does
		err   string
	}{
		"newer":                  {data: file(header + "uid: ours\ngeneration: 6\ngroup: others\n"), group: "others"},
		"older":                  {data: file(header + "uid: ours\ngeneration: 4\ngroup: others\n")},
		"the same":               {data: file(header + "uid: ours\ngeneration: 5\ngroup: team\n")},
		"rendered differently":   {data: file(header + "uid: ours\ngeneration: 5\ngroup: others\n"), group: "others"},
		"another object's":       {data: file(header + "uid: theirs\ngeneration: 6\ngroup: others\n")},
		"no file":                {data: map[string]string{"other": ""}, err: "no key config.yaml"},
		"not YAML":               {data: file("{"), err: "decoding"},
		"a setting not known":    {data: file(header + "generation: 6\ngroup: team\ncolour: red\n"), err: "colour"},
		"a group that is absent": {data: file(header + "generation: 6\n"), err: "group: required"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := next(current, &corev1.ConfigMap{Data: c.data})
			if (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Fatalf("error is %v, want %q", err, c.err)
			}
			group := ""
			if got != nil {
				group = got.Group
			}
			if group != c.group {
				t.Errorf("group is %q, want %q", group, c.group)
			}
		})
	}
	if got, err := next(current, nil); got != nil || err != nil {
		t.Errorf("a ConfigMap that is gone leads to %v, %v", got, err)
	}
}

func file(content string) map[string]string {
	return map[string]string{configv1alpha1.FileName: content}
}

func TestReadFile_NamesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), configv1alpha1.FileName)
	if _, err := ReadFile(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error for a missing file is %v", err)
	}
	if err := os.WriteFile(path, []byte(header), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(path); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "group") {
		t.Errorf("error for a bad file is %v", err)
	}
}

func TestRolledFor(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "mounted"), 0o700); err != nil {
		t.Fatal(err)
	}
	using := func(secret string) configv1alpha1.Backend {
		return configv1alpha1.Backend{Name: secret, Auth: &configv1alpha1.Auth{Spec: v1alpha1.MCPExternalAuthConfigSpec{
			Type: v1alpha1.ExternalAuthTypeHeaderInjection,
			HeaderInjection: &v1alpha1.HeaderInjection{
				HeaderName: "Authorization", SecretRef: v1alpha1.SecretKeyReference{Name: secret, Key: "value"},
			},
		}}}
	}
	refused := using("absent")
	refused.Refused = &configv1alpha1.Refusal{Status: v1alpha1.BackendUnauthenticated, Reason: v1alpha1.ReasonSecretNotFound}
	const discovered, inline = v1alpha1.OutgoingAuthSourceDiscovered, v1alpha1.OutgoingAuthSourceInline
	for name, c := range map[string]struct {
		started, source v1alpha1.OutgoingAuthSource
		backends        []configv1alpha1.Backend
		want            bool
	}{
		"the same mode":                {started: discovered, source: discovered, want: true},
		"the default mode":             {source: discovered, want: true},
		"from dynamic to static":       {started: discovered, source: inline},
		"from static to dynamic":       {started: inline, source: discovered},
		"no backends any more":         {started: inline, source: inline, want: true},
		"a Secret that is mounted":     {started: inline, source: inline, backends: []configv1alpha1.Backend{{Name: "open"}, using("mounted")}, want: true},
		"a Secret that is not mounted": {started: inline, source: inline, backends: []configv1alpha1.Backend{using("mounted"), using("absent")}},
		"a Secret that is not wanted":  {started: inline, source: inline, backends: []configv1alpha1.Backend{refused}, want: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := &watched{options: WatchOptions{Initial: &configv1alpha1.RuntimeConfiguration{Source: c.started}, CredentialsDir: dir}}
			if got := w.rolledFor(&configv1alpha1.RuntimeConfiguration{Source: c.source, Backends: c.backends}); got != c.want {
				t.Errorf("got %t, want %t", got, c.want)
			}
		})
	}
}
