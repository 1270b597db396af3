// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
)

// goFlags replace the user's, so that the same inputs give the same programs.
const goFlags = "-trimpath -buildvcs=false -mod=readonly"

// stamp identifies everything that decides what a product's programs are: the
// toolchain, the flags and the files of its module.
func stamp(module fs.FS, p Product, toolchain string) (string, error) {
	h := sha256.New()
	for _, s := range []string{toolchain, goFlags, p.Version, p.LDFlags, p.Tags} {
		fmt.Fprintf(h, "%q\n", s)
	}
	err := fs.WalkDir(module, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Ext(name) == ".md" {
			return err
		}
		content, err := fs.ReadFile(module, name)
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%q %x\n", name, sha256.Sum256(content))
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("read module of %s: %w", p.Name, err)
	}
	return hex.EncodeToString(h.Sum(nil))[:12], nil
}
