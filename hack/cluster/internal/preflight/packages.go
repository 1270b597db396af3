// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/config"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/progress"
)

// systemPath is searched beside PATH: an ordinary user's lacks the sbin directories.
const systemPath = "/usr/local/sbin:/usr/sbin:/sbin"

// tools are what a cluster takes from the distribution, from which stage on: Debian package by program.
var tools = []struct {
	program, pkg string
	stage        config.Stage
}{
	{"runc", "runc", config.Node},             // starts containers
	{"nft", "nftables", config.Node},          // kube-proxy and the guard
	{"mount", "mount", config.Node},           // the kubelet calls it
	{"busybox", "busybox-static", config.OLM}, // shell, cp and tar of images
}

// AddSystemPath lets this program and those it starts find system programs.
func AddSystemPath() error {
	path := os.Getenv("PATH")
	for _, dir := range filepath.SplitList(systemPath) {
		if !slices.Contains(filepath.SplitList(path), dir) {
			path += ":" + dir
		}
	}
	return os.Setenv("PATH", path)
}

func missingPackages(stage config.Stage) []string {
	var list []string
	for _, t := range tools {
		if _, err := exec.LookPath(t.program); err != nil && stage.Includes(t.stage) {
			list = append(list, t.pkg)
		}
	}
	return list
}

// programs translates Debian's package names for people who have others.
func programs(packages []string) []string {
	var list []string
	for _, t := range tools {
		if slices.Contains(packages, t.pkg) {
			list = append(list, t.program)
		}
	}
	return list
}

func hasApt() bool {
	_, err := exec.LookPath("apt-get")
	return err == nil
}

// InstallPackages installs the Debian packages of the stage that are absent, if any.
func InstallPackages(ctx context.Context, p *progress.Reporter, stage config.Stage) error {
	missing := missingPackages(stage)
	if len(missing) == 0 {
		return nil
	}
	return p.Step("installing Debian packages "+strings.Join(missing, " ")+" with apt-get", func() error {
		install := append([]string{"install", "-y", "-qq", "--no-install-recommends"}, missing...)
		if err := apt(ctx, install...); err == nil {
			return nil
		}
		// The package lists may be old, or not there at all.
		if err := apt(ctx, "update", "-qq"); err != nil {
			return err
		}
		return apt(ctx, install...)
	})
}

func apt(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		text := strings.TrimSpace(out.String())
		return fmt.Errorf("apt-get %s: %w\n%s", strings.Join(args, " "), err, text[max(0, len(text)-1000):])
	}
	return nil
}

// LoadModules loads what may be a kernel module. A failure shows in what needs
// it: most kernels have them built in, where there is nothing to load.
func LoadModules(ctx context.Context) {
	_ = exec.CommandContext(ctx, "modprobe", "-qa", "overlay", "nf_tables", "veth", "bridge").Run()
}
