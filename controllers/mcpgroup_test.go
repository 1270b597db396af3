// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"testing"

	. "github.com/onsi/gomega"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

func (f *fixture) eventuallyCounts(group string, backends, servers int) {
	f.t.Helper()
	f.Eventually(func(g Gomega) {
		o, err := get[v1alpha1.MCPGroup](f, group)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(o.Status.Backends).To(HaveValue(BeEquivalentTo(backends)))
		g.Expect(o.Status.VirtualMCPServers).To(HaveValue(BeEquivalentTo(servers)))
		g.Expect(o.Status.ObservedGeneration).To(Equal(o.Generation))
	}).Should(Succeed())
}

func TestGroupCountsItsMembers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(f.group("team"), f.group("other"))
	f.eventuallyCounts("team", 0, 0)

	f.create(
		f.backend("a", remote("https://a.example.com/mcp")),
		f.backend("b", remote("https://b.example.com/mcp")),
		f.server("gateway", "team"),
	)
	f.eventuallyCounts("team", 2, 1)
	f.eventuallyCounts("other", 0, 0)

	edit(f, "b", func(b *v1alpha1.MCPBackend) { b.Spec.GroupRef.Name = "other" })
	f.eventuallyCounts("team", 1, 1)
	f.eventuallyCounts("other", 1, 0)

	a, err := get[v1alpha1.MCPBackend](f, "a")
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(admin.Delete(f.ctx, a)).To(Succeed())
	f.eventuallyCounts("team", 0, 1)
}
