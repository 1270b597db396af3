// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/assets"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/chart"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/config"
)

// OLMArtifacts are the absolute paths of what OLM is installed from.
type OLMArtifacts struct {
	// CRDs and Manifests are files for kubectl apply, in this order.
	CRDs, Manifests string
	// Images are archives to import; those in Pushed are for the registry too.
	Images, Pushed []string
}

func (b *Builder) olm(ctx context.Context, programs map[string]string) (OLMArtifacts, error) {
	var a OLMArtifacts
	shell, err := b.shell(ctx)
	if err != nil {
		return a, err
	}
	index, err := b.index(ctx)
	if err != nil {
		return a, err
	}
	containers := olmImages(programs, shell, index)
	if a.Images, err = b.images(ctx, containers); err != nil {
		return a, err
	}
	for i, c := range containers {
		if c.Ref == config.OPMImage {
			a.Pushed = append(a.Pushed, a.Images[i])
		}
	}
	a.CRDs, a.Manifests, err = b.manifests(ctx, programs)
	return a, err
}

// olmImages are what OLM and operator-sdk run in pods. OLM's manifests and its
// Jobs call programs as /bin/NAME, among them cp; "operator-sdk run bundle"
// wants a shell beside opm; "operator-sdk scorecard" wants tar.
func olmImages(programs map[string]string, shell, index string) []container {
	user, environment := "1001", []string{"PATH=/bin", "HOME=/tmp"}
	var olm []string
	for _, name := range olmPrograms {
		olm = append(olm, programs[name])
	}
	return []container{
		{
			Ref: config.OLMImage, Trees: []string{shell}, Programs: olm, Dir: "/bin",
			Config: v1.Config{User: user, Env: environment, Entrypoint: []string{"/bin/olm"}},
		},
		{
			Ref: config.OPMImage, Trees: []string{shell, index}, Programs: []string{programs[OPM], programs[GRPCHealthProbe]}, Dir: "/bin",
			Config: v1.Config{
				User: user, Env: environment, Entrypoint: []string{"/bin/opm"}, Cmd: []string{"serve", "/configs"},
				Labels: map[string]string{"operators.operatorframework.io.index.configs.v1": "/configs"},
			},
		},
		{Ref: config.DecompressionImage, Trees: []string{shell}, Config: v1.Config{User: user, Env: environment}},
		{
			// No entry point: as --untar-image it is given arguments only.
			Ref: config.ScorecardImage, Trees: []string{shell}, Programs: []string{programs[ScorecardTest]}, Dir: "/bin",
			Config: v1.Config{User: user, Env: environment},
		},
	}
}

// applets are the programs that images need of busybox.
var applets = []string{"cat", "cp", "gzip", "sh", "tar"}

// shell returns a tree with Debian's static busybox under the names of its
// applets, and /tmp.
func (b *Builder) shell(ctx context.Context) (string, error) {
	file, err := exec.LookPath("busybox")
	if err != nil {
		return "", fmt.Errorf("OLM's images need a static busybox: install Debian's package busybox-static: %w", err)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read busybox: %w", err)
	}
	if err := static(content); err != nil {
		return "", fmt.Errorf("%s: %w: install Debian's package busybox-static", file, err)
	}
	return b.tree(ctx, "busybox", append(content, strings.Join(applets, " ")...), func(root string) error {
		bin, tmp := filepath.Join(root, "bin"), filepath.Join(root, "tmp")
		for _, dir := range []string{bin, tmp} {
			if err := os.Mkdir(dir, 0o755); err != nil {
				return err
			}
		}
		if err := os.WriteFile(filepath.Join(bin, "busybox"), content, 0o755); err != nil {
			return err
		}
		for _, applet := range applets {
			if err := os.Symlink("busybox", filepath.Join(bin, applet)); err != nil {
				return err
			}
		}
		return os.Chmod(tmp, 0o777|os.ModeSticky)
	})
}

// static refuses a program that needs a dynamic linker, which images do not have.
func static(program []byte) error {
	file, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		return err
	}
	if slices.ContainsFunc(file.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		return fmt.Errorf("it is not linked statically")
	}
	return nil
}

// index returns a tree with a catalog: operator-sdk adds the bundle that it
// runs to an index, and refuses an empty one.
func (b *Builder) index(ctx context.Context) (string, error) {
	content, err := assets.File("placeholder-catalog.yaml")
	if err != nil {
		return "", err
	}
	return b.tree(ctx, "index", content, func(root string) error {
		dir := filepath.Join(root, "configs", "placeholder")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, "catalog.yaml"), content, 0o644)
	})
}

// tree returns a directory of the cache that is named after its inputs and
// that fill has filled, whole.
func (b *Builder) tree(ctx context.Context, name string, inputs []byte, fill func(root string) error) (string, error) {
	sum := sha256.Sum256(append([]byte(imageFormat), inputs...))
	dir := filepath.Join(b.Cache, "trees", name+"-"+hex.EncodeToString(sum[:])[:12])
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	return dir, b.locked(ctx, func() error {
		if _, err := os.Stat(dir); err == nil {
			return nil // somebody else has made it meanwhile
		}
		root := filepath.Join(b.temp(), name)
		if err := os.Mkdir(root, 0o755); err != nil {
			return fmt.Errorf("make %s: %w", dir, err)
		}
		if err := fill(root); err != nil {
			return fmt.Errorf("make %s: %w", dir, err)
		}
		if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
			return fmt.Errorf("make %s: %w", dir, err)
		}
		return os.Rename(root, dir)
	})
}

// manifests renders what OLM's module installs OLM from: its chart, as helm
// would, with images that are loaded into the node.
func (b *Builder) manifests(ctx context.Context, programs map[string]string) (crds, manifests string, err error) {
	values, err := assets.Render("olm-values.yaml", config.Config{})
	if err != nil {
		return "", "", err
	}
	// The program's directory names the module and its version.
	inputs := filepath.Base(filepath.Dir(programs["olm"])) + values
	dir, err := b.tree(ctx, "olm-manifests", []byte(inputs), func(root string) error {
		module, err := b.moduleDir(ctx, olmProduct, olmModule)
		if err != nil {
			return err
		}
		charts := os.DirFS(filepath.Join(module, "deploy", "chart"))
		definitions, err := chart.CRDs(charts)
		if err != nil {
			return err
		}
		objects, err := chart.Render(charts, "olm", strings.TrimPrefix(config.OLMVersion, "v"), []byte(values))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(root, "crds.yaml"), definitions, 0o644); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(root, "olm.yaml"), objects, 0o644)
	})
	return filepath.Join(dir, "crds.yaml"), filepath.Join(dir, "olm.yaml"), err
}

// moduleDir is where the go command keeps the source of a module that a product's module requires.
func (b *Builder) moduleDir(ctx context.Context, product, module string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", module)
	cmd.Dir = filepath.Join(b.Mods, product)
	cmd.Env = append(os.Environ(), "GOFLAGS="+goFlags, "GOWORK=off", "GOOS=linux", "GOARCH="+runtime.GOARCH)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("find the source of %s: %w: %s", module, err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(string(out)), nil
}
