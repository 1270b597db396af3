// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package packaging_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// One version names all images: "kubectl apply -k config/default" from the tag of a release installs what was released.
func TestManifestsNameTheVersionOfTheMakefile(t *testing.T) {
	read := func(file, pattern string) []string {
		text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(file)))
		if err != nil {
			t.Fatal(err)
		}
		var found []string
		for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(text), -1) {
			found = append(found, match[1])
		}
		if len(found) == 0 {
			t.Fatalf("%s has nothing like %s", file, pattern)
		}
		return found
	}
	version := "v" + read("Makefile", `(?m)^VERSION +\?= (\S+)$`)[0]
	for file, pattern := range map[string]string{
		"config/default/kustomization.yaml":           `newTag: (\S+)`,
		"config/components/images/kustomization.yaml": `newTag: (\S+)`,
		"config/samples/demo/kustomization.yaml":      `newTag: (\S+)`,
		"hack/demo/cluster.go":                        `defaultTag += "(\S+)"`,
		"docs/install.md":                             `(?:releases/download/|IMAGE_TAG=|vmcp-operator-catalog:)(v[\d.]+\d)`,
	} {
		for _, tag := range read(file, pattern) {
			if tag != version {
				t.Errorf("%s names %s, and the version is %s", file, tag, version)
			}
		}
	}
}
