// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"fmt"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// transitions are the backends that the status says are no longer served, and those that it says are served again or for the first time,
// in the order of the status. What is not known yet is neither, and a backend that left the group is not missed.
func transitions(before, after []v1alpha1.DiscoveredBackend) (lost, found []v1alpha1.DiscoveredBackend) {
	type key struct{ kind, name string }
	was := make(map[key]v1alpha1.BackendStatus, len(before))
	for i := range before {
		was[key{before[i].Kind, before[i].Name}] = before[i].Status
	}
	for i := range after {
		switch then, now := was[key{after[i].Kind, after[i].Name}], after[i].Status; {
		case now.Served() && !then.Served():
			found = append(found, after[i])
		case refuses(now) && !refuses(then):
			lost = append(lost, after[i])
		}
	}
	return lost, found
}

// refuses says that a backend is known not to be served.
func refuses(s v1alpha1.BackendStatus) bool {
	return s == v1alpha1.BackendUnavailable || s == v1alpha1.BackendUnauthenticated
}

// describeLost says for each backend why it is not served.
func describeLost(backends []v1alpha1.DiscoveredBackend) string {
	texts := make([]string, len(backends))
	for i := range backends {
		texts[i] = fmt.Sprintf("%s %s: %s", backends[i].Name, backends[i].Status, backends[i].Message)
	}
	return named(texts, " ")
}

func describeFound(backends []v1alpha1.DiscoveredBackend) string {
	names := make([]string, len(backends))
	for i := range backends {
		names[i] = backends[i].Name
	}
	return "Served: " + named(names, ", ") + "."
}

// describeCatalog says how much is offered and was before; it is empty if that is the same, or if nothing was reported before.
func describeCatalog(before, after *v1alpha1.CatalogSummary) string {
	if before == nil || after == nil || sizeOf(before) == sizeOf(after) {
		return ""
	}
	return fmt.Sprintf("%s are offered; it was %s.", sizeOf(after), sizeOf(before))
}

func sizeOf(c *v1alpha1.CatalogSummary) string {
	return fmt.Sprintf("%d tools, %d prompts and %d resources", c.Tools, c.Prompts, c.Resources)
}
