// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package build compiles the programs of a cluster from Go modules at pinned
// versions and keeps them in a cache, in one directory per product, version
// and set of inputs. Whatever is in the cache is whole.
package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/lock"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/process"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/progress"
)

// Builder builds into a cache directory from the modules in another.
type Builder struct {
	Cache    string
	Mods     string
	Progress *progress.Reporter
}

// Artifacts are the absolute paths of what was asked for.
type Artifacts struct {
	Programs map[string]string // by name
	// CNI is the directory of the CNI plugins; Images are the archives that the node imports. Both from set Node on.
	CNI    string
	Images []string
	// OLM is only of set OLM.
	OLM OLMArtifacts
}

// Build makes what of the set is missing. Two builds into one cache wait for each other.
func (b *Builder) Build(ctx context.Context, set Set) (Artifacts, error) {
	toolchain, err := toolchainVersion(ctx)
	if err != nil {
		return Artifacts{}, err
	}
	a := Artifacts{Programs: map[string]string{}}
	wanted := set.programs()
	for _, p := range products {
		names := slices.DeleteFunc(slices.Sorted(maps.Keys(p.Programs)), func(name string) bool { return !slices.Contains(wanted, name) })
		if len(names) == 0 {
			continue
		}
		dir, err := b.product(ctx, p, names, toolchain)
		if err != nil {
			return Artifacts{}, err
		}
		for _, name := range names {
			a.Programs[name] = filepath.Join(dir, name)
		}
		if p.Name == "cni" {
			a.CNI = dir
		}
	}
	if set == Node || set == OLM {
		if a.Images, err = b.images(ctx, nodeImages(a.Programs)); err != nil {
			return Artifacts{}, err
		}
	}
	if set == OLM {
		if a.OLM, err = b.olm(ctx, a.Programs); err != nil {
			return Artifacts{}, err
		}
	}
	return a, nil
}

// toolchainVersion asks the go command that will build, "go1.26.8 linux/amd64" for example.
func toolchainVersion(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOVERSION").Output()
	if errors.Is(err, exec.ErrNotFound) {
		return "", errors.New("the go command is not in PATH: install Go 1.26 or newer from https://go.dev/dl")
	}
	if err != nil {
		return "", fmt.Errorf("go env GOVERSION: %w", err)
	}
	return strings.TrimSpace(string(out)) + " linux/" + runtime.GOARCH, nil
}

// product returns the directory that holds the programs, built when one is missing.
func (b *Builder) product(ctx context.Context, p Product, names []string, toolchain string) (string, error) {
	module := filepath.Join(b.Mods, p.Name)
	id, err := stamp(os.DirFS(module), p, toolchain)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(b.Cache, "programs", p.Name+"-"+p.Version+"-"+id)
	if len(missing(dir, names)) == 0 {
		return dir, nil
	}
	err = b.locked(ctx, func() error {
		names := missing(dir, names) // somebody else may have built them meanwhile
		if len(names) == 0 {
			return nil
		}
		return b.Progress.Step(fmt.Sprintf("%s %s: building %s", p.Name, p.Version, strings.Join(names, " ")), func() error {
			return b.compile(ctx, p, module, dir, names)
		})
	})
	return dir, err
}

func missing(dir string, names []string) []string {
	var list []string
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			list = append(list, name)
		}
	}
	return list
}

// locked runs f as the only writer of the cache, with what an interrupted run left removed.
func (b *Builder) locked(ctx context.Context, f func() error) (err error) {
	l, err := lock.Acquire(ctx, filepath.Join(b.Cache, "lock"), func() {
		b.Progress.Say("another run is building into %s, waiting for it", b.Cache)
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Release()) }()
	if err := os.RemoveAll(b.temp()); err != nil {
		return fmt.Errorf("clean cache: %w", err)
	}
	if err := os.MkdirAll(b.temp(), 0o755); err != nil {
		return fmt.Errorf("clean cache: %w", err)
	}
	return f()
}

func (b *Builder) temp() string { return filepath.Join(b.Cache, "tmp") }

// compile builds all programs in one go, because they share most packages, and
// moves each to its place when all are there.
func (b *Builder) compile(ctx context.Context, p Product, module, dir string, names []string) error {
	args := []string{"build", "-tags=" + p.Tags, "-ldflags=" + p.LDFlags, "-o", b.temp() + "/"}
	for _, name := range names {
		args = append(args, p.Programs[name])
	}
	logFile := filepath.Join(b.Cache, "logs", p.Name+".log")
	if err := runGo(ctx, module, logFile, args); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("build %s: %w", p.Name, context.Cause(ctx))
		}
		return fmt.Errorf("build %s %s: %w\n%s\nthe whole output is in %s; modules are downloaded on the first build, so GOPROXY must be reachable",
			p.Name, p.Version, err, process.Tail(logFile, 15), logFile)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("build %s: %w", p.Name, err)
	}
	for _, name := range names {
		built := filepath.Base(p.Programs[name])
		if built == "." {
			built = p.Name // the module's own package
		}
		if err := os.Rename(filepath.Join(b.temp(), built), filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("build %s: %w", p.Name, err)
		}
	}
	return nil
}

// runGo runs the go command; cancelling ctx ends it and the compilers it started.
func runGo(ctx context.Context, dir, logFile string, args []string) (err error) {
	if err := os.MkdirAll(filepath.Dir(logFile), 0o755); err != nil {
		return err
	}
	out, err := os.Create(logFile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, out
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS="+goFlags, "GOWORK=off", "GOOS=linux", "GOARCH="+runtime.GOARCH)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	return cmd.Run()
}

// Assets returns a directory with etcd, kube-apiserver and kubectl, fit for
// KUBEBUILDER_ASSETS of controller-runtime's envtest.
func (b *Builder) Assets(ctx context.Context) (string, error) {
	a, err := b.Build(ctx, Envtest)
	if err != nil {
		return "", err
	}
	// The directory is named after what it links to: a change makes another one.
	name := "envtest"
	for _, program := range []string{a.Programs[Etcd], a.Programs[APIServer]} {
		id := filepath.Base(filepath.Dir(program))
		name += id[strings.LastIndexByte(id, '-'):]
	}
	dir := filepath.Join(b.Cache, "assets", name)
	if err := LinkPrograms(dir, a.Programs); err != nil {
		return "", err
	}
	return dir, nil
}

// LinkPrograms fills a directory with links to programs; those already there stay.
func LinkPrograms(dir string, programs map[string]string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("link programs: %w", err)
	}
	for name, target := range programs {
		err := os.Symlink(target, filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("link programs: %w", err)
		}
	}
	return nil
}
