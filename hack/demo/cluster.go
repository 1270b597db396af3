// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/vmcp-dev/vmcp-operator/test/harness"
)

// Names of what "make images" and "make demo-images" leave, and of what the manifests refer to.
const (
	defaultRegistry = "ghcr.io/vmcp-dev"
	defaultTag      = "v0.1.0"
)

var archives = []string{"operator.tar", "runtime.tar", "demo-kubernetes.tar", "demo-filesystem.tar", "demo-everything.tar"}

// environment is where the demo runs.
type environment struct {
	kubectl harness.Kubectl
	// context is the kube context that the user named, or "" for a cluster of our own.
	context string
	// exports are the lines that make the user's shell use the cluster.
	exports string
	// registry and tag name the images.
	registry, tag string
}

// newEnvironment reads the environment variables; it starts nothing.
func newEnvironment() (*environment, error) {
	e := &environment{
		context:  os.Getenv("DEMO_CONTEXT"),
		registry: envOr("IMAGE_REGISTRY", defaultRegistry),
		tag:      envOr("IMAGE_TAG", defaultTag),
	}
	if e.context == "" {
		return e, nil
	}
	k, err := harness.FromEnvironment()
	if err != nil {
		return nil, err
	}
	k.Context = e.context
	e.kubectl = k
	return e, nil
}

func envOr(name, fallback string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return fallback
}

// startCluster brings up our own cluster and points kubectl at it.
func (e *environment) startCluster(ctx context.Context, out io.Writer) error {
	if err := stream(ctx, out, "bin/cluster", "up", "node"); err != nil {
		return err
	}
	exports, err := exec.CommandContext(ctx, "bin/cluster", "env").Output()
	if err != nil {
		return fmt.Errorf("bin/cluster env: %w", err)
	}
	e.exports = strings.TrimSpace(string(exports))
	if err := adoptExports(e.exports); err != nil {
		return err
	}
	e.kubectl, err = harness.FromEnvironment()
	return err
}

// useContext checks that the cluster of the user answers.
func (e *environment) useContext(ctx context.Context, out io.Writer) error {
	version, err := e.kubectl.Run(ctx, "version")
	if err != nil {
		return fmt.Errorf("the cluster of context %q does not answer: %w", e.context, err)
	}
	_, _ = io.WriteString(out, version)
	_, _ = fmt.Fprintf(out, "its nodes pull the images from %s, tag %s\n", e.registry, e.tag)
	return nil
}

var exportLine = regexp.MustCompile(`(?m)^export ([A-Z_]+)=(.*)$`)

// adoptExports sets the variables of "export NAME=value" lines in this process, so that what it starts sees them too.
func adoptExports(lines string) error {
	found := exportLine.FindAllStringSubmatch(lines, -1)
	if len(found) == 0 {
		return errors.New("bin/cluster env printed no export lines")
	}
	for _, m := range found {
		value := strings.Trim(m[2], "'\"")
		value = strings.ReplaceAll(value, "$PATH", os.Getenv("PATH"))
		if err := os.Setenv(m[1], value); err != nil {
			return fmt.Errorf("setting %s: %w", m[1], err)
		}
	}
	return nil
}

// loadImages puts the images into the node of our own cluster.
func (e *environment) loadImages(ctx context.Context, out io.Writer) error {
	args := []string{"load-image"}
	for _, archive := range archives {
		args = append(args, filepath.Join("bin", "images", archive))
	}
	return stream(ctx, out, "bin/cluster", args...)
}

// kustomization is the folder to apply for one of config/default and config/samples/demo: the folder itself, or one beside
// the binaries that puts other names of images on top.
func (e *environment) kustomization(base, fields string, images ...string) (string, error) {
	if e.registry == defaultRegistry && e.tag == defaultTag {
		return base, nil
	}
	dir := filepath.Join("bin", "demo-overlay", filepath.Base(base))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("writing an overlay over %s: %w", base, err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [../../../%s]\nconfigurations: [%s]\nimages:\n", base, filepath.Base(fields))
	for _, image := range images {
		fmt.Fprintf(&b, "- {name: %s/%s, newName: %s/%s, newTag: %q}\n", defaultRegistry, image, e.registry, image, e.tag)
	}
	content, err := os.ReadFile(fields)
	if err != nil {
		return "", fmt.Errorf("writing an overlay over %s: %w", base, err)
	}
	for name, data := range map[string][]byte{"kustomization.yaml": []byte(b.String()), filepath.Base(fields): content} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return "", fmt.Errorf("writing an overlay over %s: %w", base, err)
		}
	}
	return dir, nil
}

// stream runs a program with its output going to out.
func stream(ctx context.Context, out io.Writer, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w", program, strings.Join(args, " "), err)
	}
	return nil
}
