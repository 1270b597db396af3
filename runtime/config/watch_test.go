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
