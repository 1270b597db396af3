// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

func TestStampFollowsItsInputs(t *testing.T) {
	type input struct {
		files     map[string]string
		product   Product
		toolchain string
	}
	base := func() input {
		return input{
			files:   map[string]string{"go.mod": "module m", "go.sum": "sum", "main.go": "package main"},
			product: Product{Name: "p", Version: "v1", LDFlags: "-s", Tags: "a"}, toolchain: "go1.26 linux/amd64",
		}
	}
	compute := func(i input) string {
		module := fstest.MapFS{}
		for name, content := range i.files {
			module[name] = &fstest.MapFile{Data: []byte(content)}
		}
		s, err := stamp(module, i.product, i.toolchain)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	want := compute(base())
	for name, c := range map[string]struct {
		change func(*input)
		same   bool
	}{
		"nothing":      {func(*input) {}, true},
		"a document":   {func(i *input) { i.files["README.md"] = "x" }, true},
		"the programs": {func(i *input) { i.product.Programs = map[string]string{"x": "."} }, true},
		"go.sum":       {func(i *input) { i.files["go.sum"] = "other" }, false},
		"a file more":  {func(i *input) { i.files["b.go"] = "" }, false},
		"a file moved": {func(i *input) { i.files["x/main.go"] = i.files["main.go"]; delete(i.files, "main.go") }, false},
		"version":      {func(i *input) { i.product.Version = "v2" }, false},
		"link flags":   {func(i *input) { i.product.LDFlags = "" }, false},
		"tags":         {func(i *input) { i.product.Tags = "a,b" }, false},
		"toolchain":    {func(i *input) { i.toolchain = "go1.27 linux/amd64" }, false},
	} {
		i := base()
		c.change(&i)
		if got := compute(i); (got == want) != c.same {
			t.Errorf("changing %s: same stamp is %t, want %t", name, got == want, c.same)
		}
	}
}

func TestStampNeedsTheModule(t *testing.T) {
	if _, err := stamp(os.DirFS(filepath.Join(t.TempDir(), "none")), Product{Name: "p"}, ""); err == nil {
		t.Error("no error for a missing module")
	}
}

// TestPinnedVersions keeps the table of products and the modules in step.
func TestPinnedVersions(t *testing.T) {
	modules := map[string]string{
		"etcd": "go.etcd.io/etcd/server/v3", "kubernetes": "k8s.io/kubernetes", "containerd": "github.com/containerd/containerd/v2",
		"cni": "github.com/containernetworking/plugins", "coredns": "github.com/coredns/coredns",
		"olm": olmModule, "opm": "github.com/operator-framework/operator-registry",
		"grpc-health-probe": "github.com/grpc-ecosystem/grpc-health-probe", "operator-sdk": "github.com/operator-framework/operator-sdk",
	}
	for _, p := range products {
		module, pinned := modules[p.Name]
		content, err := os.ReadFile(filepath.Join("..", "..", "mods", p.Name, "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		if pinned && !strings.Contains(string(content), module+" "+p.Version) {
			t.Errorf("go.mod of %s does not require %s %s", p.Name, module, p.Version)
		}
	}
	if !strings.Contains(kubernetesLDFlags(), "gitMinor=36") {
		t.Error("the minor version is not that of Kubernetes")
	}
}

func TestEveryProgramOfASetIsBuilt(t *testing.T) {
	built := map[string]bool{}
	for _, p := range products {
		for name := range p.Programs {
			built[name] = true
		}
	}
	for _, set := range []Set{Envtest, ControlPlane, Node, OLM} {
		for _, name := range set.programs() {
			if !built[name] {
				t.Errorf("set %s: no product builds %s", set, name)
			}
		}
	}
	if got, want := len(OLM.programs()), len(built); got != want {
		t.Errorf("set olm has %d programs, %d are built", got, want)
	}
	for _, name := range OnPath {
		if !built[name] {
			t.Errorf("no product builds %s, which people call by name", name)
		}
	}
}

func TestFindMods(t *testing.T) {
	repo := t.TempDir()
	mods := filepath.Join(repo, modsBelowRepo)
	for _, p := range products {
		if err := os.MkdirAll(filepath.Join(mods, p.Name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(mods, p.Name, "go.mod"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	elsewhere := t.TempDir()
	for name, c := range map[string]struct {
		given  string
		starts []string
		found  bool
	}{
		"given":             {mods, nil, true},
		"given wrongly":     {elsewhere, []string{repo}, false},
		"repository":        {"", []string{repo}, true},
		"bin of repository": {"", []string{filepath.Join(repo, "bin")}, true},
		"module":            {"", []string{filepath.Join(repo, "hack/cluster")}, true},
		"second start":      {"", []string{elsewhere, repo}, true},
		"nowhere":           {"", []string{elsewhere}, false},
	} {
		got, err := FindMods(c.given, c.starts...)
		if (err == nil) != c.found || (c.found && got != mods) {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

func TestLinkPrograms(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bin")
	for range 2 { // twice is as good as once
		if err := LinkPrograms(dir, map[string]string{"a": "/x/a"}); err != nil {
			t.Fatal(err)
		}
	}
	if target, err := os.Readlink(filepath.Join(dir, "a")); err != nil || target != "/x/a" {
		t.Errorf("got %q, %v", target, err)
	}
}
