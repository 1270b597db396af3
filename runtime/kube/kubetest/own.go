// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package kubetest

import (
	"os"
	"path/filepath"
	"testing"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"
)

// OwnServer starts an API server for one test, with the CRDs of this repository as the test edits them.
func OwnServer(t testing.TB, edit func(crd map[string]any)) *rest.Config {
	t.Helper()
	environment := &envtest.Environment{CRDDirectoryPaths: []string{editedCRDs(t, edit)}, ErrorIfCRDPathMissing: true}
	config, err := environment.Start()
	if err != nil {
		t.Fatalf("starting an API server: %v", err)
	}
	t.Cleanup(func() {
		if err := environment.Stop(); err != nil {
			t.Errorf("stopping the API server: %v", err)
		}
	})
	return config
}

// editedCRDs is a folder with the CRDs of this repository as a test edits them.
func editedCRDs(t testing.TB, edit func(crd map[string]any)) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(CRDs(), "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no CRDs in %s: %v", CRDs(), err)
	}
	dir := t.TempDir()
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		crd := map[string]any{}
		if err := yaml.Unmarshal(data, &crd); err != nil {
			t.Fatal(err)
		}
		edit(crd)
		if data, err = yaml.Marshal(crd); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
