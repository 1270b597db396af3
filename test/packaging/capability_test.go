// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package packaging_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
)

var (
	testInDocument = regexp.MustCompile("`(Test[A-Za-z0-9_]+)`")
	testInCode     = regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9_]+)\(`)
)

// The capability level that the bundle claims is argued by tests that there are.
func TestCapabilityLevelNamesTests(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	tests := map[string]bool{}
	g.Expect(filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == ".git" || entry.Name() == "bin" || entry.Name() == "dist") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(file, "_test.go") {
			return nil
		}
		code, err := os.ReadFile(file)
		for _, m := range testInCode.FindAllSubmatch(code, -1) {
			tests[string(m[1])] = true
		}
		return err
	})).To(Succeed())
	page, err := os.ReadFile(filepath.Join(root, "docs", "capability-level.md"))
	g.Expect(err).NotTo(HaveOccurred())
	named := testInDocument.FindAllSubmatch(page, -1)
	g.Expect(named).NotTo(BeEmpty())
	for _, m := range named {
		g.Expect(tests).To(HaveKey(string(m[1])))
	}
	g.Expect(string(page)).To(ContainSubstring("claims **"+readCSV(g).Annotations["capabilities"]+"**"), "another level than the bundle's")
}
