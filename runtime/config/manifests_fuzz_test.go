// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/vmcp-dev/vmcp-operator/runtime/config"
)

// No file makes Load panic or run without end; it is either served, or refused with at least one mistake in words.
func FuzzManifests(f *testing.F) {
	seeds, err := filepath.Glob(filepath.Join("testdata", "manifests", "*"))
	if err != nil || len(seeds) == 0 {
		f.Fatalf("no manifests in testdata: %v", err)
	}
	for _, seed := range seeds {
		content, err := os.ReadFile(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	for _, text := range selfReferences() {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		file := filepath.Join(t.TempDir(), "manifests.yaml")
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := config.Load(file)
		if err == nil {
			if s.Server == nil || s.Group == nil || s.Configuration() == nil {
				t.Errorf("served without a server, a group or a configuration")
			}
			return
		}
		var mistakes config.ManifestErrors
		if !errors.As(err, &mistakes) || len(mistakes) == 0 || mistakes.Error() == "" {
			t.Errorf("refused without a mistake: %v", err)
		}
	})
}
