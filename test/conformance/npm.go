// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/vmcp-dev/vmcp-operator/test/process"
)

// packages says which suites and clients, of which version, and holds the scripts that drive those that are libraries.
//
//go:embed package.json package-lock.json clients/*.mjs
var packages embed.FS

const npmTimeout = 10 * time.Minute

// node is an installation of the suites and clients.
type node struct {
	dir string
}

// program is that of Node.js, which is one of the packages.
func (n node) program() string { return n.path("node_modules", ".bin", "node") }

// path is that of a file below the installation.
func (n node) path(elements ...string) string {
	return filepath.Join(append([]string{n.dir}, elements...)...)
}

// install installs the packages of package-lock.json below a folder, unless they are there already.
func install(ctx context.Context, cache, logs string) (node, error) {
	sum := sha256.New()
	files := map[string][]byte{}
	err := fs.WalkDir(packages, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := packages.ReadFile(path)
		files[path] = text
		fmt.Fprintf(sum, "%s %d\n%s", path, len(text), text)
		return err
	})
	if err != nil {
		return node{}, fmt.Errorf("reading the list of packages: %w", err)
	}
	n := node{dir: filepath.Join(cache, hex.EncodeToString(sum.Sum(nil))[:12])}
	complete := n.path("complete")
	if _, err := os.Stat(complete); err == nil {
		return n, nil
	}
	for path, text := range files {
		if err := os.MkdirAll(filepath.Dir(n.path(path)), 0o755); err != nil {
			return node{}, fmt.Errorf("installing the suites: %w", err)
		}
		if err := os.WriteFile(n.path(path), text, 0o644); err != nil {
			return node{}, fmt.Errorf("installing the suites: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, npmTimeout)
	defer cancel()
	npm, err := process.Start(process.Options{
		Name: "npm", Dir: logs, Program: "npm", Args: []string{"--prefix", n.dir, "ci", "--no-audit", "--no-fund", "--prefer-offline"},
	})
	if err != nil {
		return node{}, fmt.Errorf("installing the suites, which come as npm packages: %w", err)
	}
	if _, err := npm.Wait(ctx); err != nil {
		return node{}, fmt.Errorf("installing the suites: %w", err)
	}
	if err := os.WriteFile(complete, nil, 0o644); err != nil {
		return node{}, fmt.Errorf("installing the suites: %w", err)
	}
	return n, nil
}
