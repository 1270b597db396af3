// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// modsBelowRepo is where the repository keeps the pinned modules.
const modsBelowRepo = "hack/cluster/mods"

// FindMods returns the directory of the pinned modules: the one given, or the
// one of the repository that holds a starting point (the program's own file,
// or the working directory). go:embed cannot carry directories with a go.mod.
func FindMods(given string, starts ...string) (string, error) {
	if given != "" {
		if !isMods(given) {
			return "", fmt.Errorf("VMCP_CLUSTER_MODS: %s does not hold the pinned modules (no %s/go.mod)", given, products[0].Name)
		}
		return filepath.Abs(given)
	}
	for _, start := range starts {
		for dir := start; ; dir = filepath.Dir(dir) {
			for _, candidate := range []string{filepath.Join(dir, modsBelowRepo), filepath.Join(dir, "mods")} {
				if isMods(candidate) {
					return candidate, nil
				}
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return "", fmt.Errorf("cannot find %s at or above %s: run this inside the repository, or set VMCP_CLUSTER_MODS", modsBelowRepo, strings.Join(starts, " or "))
}

func isMods(dir string) bool {
	for _, p := range products {
		if _, err := os.Stat(filepath.Join(dir, p.Name, "go.mod")); err != nil {
			return false
		}
	}
	return true
}
