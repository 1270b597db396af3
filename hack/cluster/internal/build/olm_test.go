// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/progress"
	"github.com/vmcp-dev/vmcp-operator/hack/images/image"
)

func newTestBuilder(t *testing.T) *Builder {
	t.Helper()
	return &Builder{Cache: t.TempDir(), Progress: progress.New(&bytes.Buffer{})}
}

func TestTreesAreWhole(t *testing.T) {
	b := newTestBuilder(t)
	broken := errors.New("broken")
	fill := func(root string) error { return os.WriteFile(filepath.Join(root, "a"), []byte("x"), 0o600) }
	if _, err := b.tree(t.Context(), "t", nil, func(root string) error { return errors.Join(fill(root), broken) }); !errors.Is(err, broken) {
		t.Errorf("got %v, want the error of filling", err)
	}
	dir, err := b.tree(t.Context(), "t", nil, fill)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "a")); err != nil {
		t.Error(err)
	}
	again, err := b.tree(t.Context(), "t", nil, func(string) error { return broken })
	if err != nil || again != dir {
		t.Errorf("a second time: got %s, %v, want %s", again, err, dir)
	}
	if other, err := b.tree(t.Context(), "t", []byte("other"), fill); err != nil || other == dir {
		t.Errorf("other inputs: got %s, %v", other, err)
	}
}

func TestImagesFollowTheirInputs(t *testing.T) {
	b := newTestBuilder(t)
	tree, err := b.index(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(b.Cache, "programs", "p-v1-abc", "p")
	if err := os.MkdirAll(filepath.Dir(program), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := container{
		Ref: "example.com/app:v1", Trees: []string{tree}, Programs: []string{program}, Dir: "/bin",
		Config: v1.Config{User: "1001", Entrypoint: []string{"/bin/p"}},
	}
	archives, err := b.images(t.Context(), []container{c})
	if err != nil {
		t.Fatal(err)
	}
	img, err := image.OpenArchive(archives[0], t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(config.Config, c.Config) || len(config.RootFS.DiffIDs) != 2 {
		t.Errorf("got configuration %+v and %d layers", config.Config, len(config.RootFS.DiffIDs))
	}
	before, err := os.Stat(archives[0])
	if err != nil {
		t.Fatal(err)
	}
	again, err := b.images(t.Context(), []container{c})
	if err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(again[0]); err != nil || !os.SameFile(before, after) {
		t.Errorf("the archive was made again: %v", err)
	}
	c.Config.User = "1002"
	other, err := b.images(t.Context(), []container{c})
	if err != nil || other[0] == archives[0] {
		t.Errorf("another user: got %v, %v", other, err)
	}
}

func TestOLMHasWhatItsJobsCall(t *testing.T) {
	programs := map[string]string{}
	for _, name := range OLM.programs() {
		programs[name] = "/cache/" + name
	}
	for _, c := range olmImages(programs, "/cache/shell", "/cache/index") {
		if c.Trees[0] != "/cache/shell" || len(c.Programs) > 0 && c.Dir != "/bin" {
			t.Errorf("%s: got %+v", c.Ref, c)
		}
		for _, program := range c.Programs {
			if program == "" {
				t.Errorf("%s lacks a program: %q", c.Ref, c.Programs)
			}
		}
	}
}

func TestStatic(t *testing.T) {
	if err := static([]byte("#!/bin/sh\n# a script\n")); err == nil || !strings.Contains(err.Error(), "magic number") {
		t.Errorf("a script: got %v", err)
	}
	// Tests are linked dynamically with cgo, else statically.
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	dynamic := bytes.Contains(self[:min(4096, len(self))], []byte("ld-linux"))
	if err := static(self); (err != nil) != dynamic {
		t.Errorf("this program, dynamic is %t: got %v", dynamic, err)
	}
}
