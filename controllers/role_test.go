// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	. "github.com/onsi/gomega"
)

// The operator holds explicit rights only: nothing by wildcard, nothing that lets it hand out rights that it lacks, no list of
// Secrets.
func TestGeneratedRoleIsNarrow(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	role, err := readOperatorRole()
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(role.Rules).NotTo(BeEmpty())
	for _, rule := range role.Rules {
		for _, value := range [][]string{rule.APIGroups, rule.Resources, rule.Verbs} {
			g.Expect(value).NotTo(ContainElement("*"))
		}
		g.Expect(rule.Verbs).NotTo(ContainElements("escalate"), "%v", rule)
		g.Expect(rule.Verbs).NotTo(ContainElements("bind"), "%v", rule)
		g.Expect(rule.Verbs).NotTo(ContainElements("impersonate"), "%v", rule)
		g.Expect(rule.Resources).NotTo(ContainElement(Or(HavePrefix("secrets/"), HavePrefix("pods/"), Equal("serviceaccounts/token"))))
		if slices.Contains(rule.Resources, "secrets") {
			g.Expect(rule.Resources).To(HaveLen(1))
			g.Expect(rule.Verbs).To(ConsistOf("get", "watch", "create", "patch"), "what an auth Role gives, and what session keys take; nobody lists Secrets")
		}
		if slices.Contains(rule.Resources, "pods") {
			g.Expect(rule.Verbs).To(Equal([]string{"list"}), "pods are looked at, and nothing else")
		}
	}
}

// OLM itself grants what the operator may do to its OperatorCondition, by name. Nothing that is installed asks for it, with OLM or
// without.
func TestInstallationsAskForNoOperatorConditions(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	files := 0
	for _, dir := range []string{"config", "bundle"} {
		g.Expect(filepath.WalkDir(filepath.Join("..", dir), func(path string, entry os.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			files++
			content, err := os.ReadFile(path)
			g.Expect(string(content)).NotTo(ContainSubstring("operatorconditions"), path)
			return err
		})).To(Succeed())
	}
	g.Expect(files).To(BeNumerically(">", 50))
}
