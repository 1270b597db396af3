// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package packaging_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	. "github.com/onsi/gomega"
)

var (
	// testInDocument is a test as the page names it: its package and its name, and the target that runs it if make test does not.
	testInDocument   = regexp.MustCompile("`([a-z0-9/]*?)\\.?(Test[A-Za-z0-9_]+)`(?: of `make ([a-z0-9-]+)`)?")
	targetInDocument = regexp.MustCompile("`make ([a-z0-9-]+)`")
)

// astray are the tests that a page names and are not where it says, and the targets that there are not.
func astray(g *WithT, page []byte) []string {
	var problems []string
	for _, m := range testInDocument.FindAllSubmatch(page, -1) {
		folder, name, target := string(m[1]), string(m[2]), string(m[3])
		switch tagged, found := findTest(g, folder, name); {
		case folder == "":
			problems = append(problems, name+" is named without its package")
		case !found:
			problems = append(problems, fmt.Sprintf("%s is not in %s", name, folder))
		case tagged && target == "":
			problems = append(problems, fmt.Sprintf("%s.%s is not of make test", folder, name))
		case !tagged && target != "":
			problems = append(problems, fmt.Sprintf("%s.%s is not of make %s", folder, name, target))
		}
	}
	var targets []byte
	for _, file := range files(g, filepath.Join(root, "hack", "make", "*.mk")) {
		targets = append(targets, file...)
	}
	for _, m := range targetInDocument.FindAllSubmatch(page, -1) {
		if !bytes.Contains(targets, []byte("\n.PHONY: "+string(m[1])+"\n")) {
			problems = append(problems, "there is no make "+string(m[1]))
		}
	}
	return problems
}

// findTest looks for a test in a folder, and says whether it needs a tag, as no test that make test runs does.
func findTest(g *WithT, folder, name string) (tagged, found bool) {
	for _, code := range files(g, filepath.Join(root, folder, "*_test.go")) {
		if bytes.Contains(code, []byte("\nfunc "+name+"(t *testing.T)")) {
			return bytes.HasPrefix(code, []byte("//go:build ")), true
		}
	}
	return false, false
}

// files are the contents of those that match a pattern.
func files(g *WithT, pattern string) [][]byte {
	names, err := filepath.Glob(pattern)
	g.Expect(err).NotTo(HaveOccurred())
	contents := make([][]byte, len(names))
	for i, name := range names {
		contents[i], err = os.ReadFile(name)
		g.Expect(err).NotTo(HaveOccurred())
	}
	return contents
}

// The capability level that the bundle claims is argued by tests that there are, where the page says.
func TestCapabilityLevelNamesTests(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	page, err := os.ReadFile(filepath.Join(root, "docs", "capability-level.md"))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(testInDocument.FindAll(page, -1)).NotTo(BeEmpty())
	g.Expect(astray(g, page)).To(BeEmpty())
	g.Expect(string(page)).To(ContainSubstring("claims **"+readCSV(g).Annotations["capabilities"]+"**"), "another level than the bundle's")
}

func TestAstray(t *testing.T) {
	t.Parallel()
	for page, want := range map[string][]string{
		"`test/packaging.TestAstray`":                        nil,
		"`test/e2e.TestStory` of `make e2e`, `make e2e-olm`": nil,
		"`TestAstray`":                                   {"TestAstray is named without its package"},
		"`controllers.TestAstray`":                       {"TestAstray is not in controllers"},
		"`test/packaging.TestAstra`":                     {"TestAstra is not in test/packaging"},
		"`cmd/vmcp.TestReplicaThatDrains` of `make e2e`": {"cmd/vmcp.TestReplicaThatDrains is not of make e2e"},
		"`test/e2e.TestStory`":                           {"test/e2e.TestStory is not of make test"},
		"`test/e2e.TestStory` of `make e2`":              {"there is no make e2"},
	} {
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			g.Expect(astray(g, []byte(page))).To(Equal(want))
		})
	}
}
