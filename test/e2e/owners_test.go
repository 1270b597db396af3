//go:build e2e

// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"slices"
	"strings"

	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// statusOwners returns a function that names the managers of a field of a backend's entry in status.discoveredBackends, with commas
// between them.
func statusOwners(s *v1alpha1.VirtualMCPServer) (func(backend, field string) string, error) {
	sets := map[string]*fieldpath.Set{}
	for _, entry := range s.ManagedFields {
		if entry.Subresource != "status" {
			continue
		}
		set := &fieldpath.Set{}
		if err := set.FromJSON(entry.FieldsV1.GetRawReader()); err != nil {
			return nil, fmt.Errorf("decoding the managed fields of %s: %w", entry.Manager, err)
		}
		sets[entry.Manager] = set
	}
	return func(backend, field string) string {
		key := fieldpath.KeyByFields("kind", "MCPBackend", "name", backend)
		path := fieldpath.MakePathOrDie("status", "discoveredBackends", key, field)
		var owners []string
		for manager, set := range sets {
			if has(set, path) {
				owners = append(owners, manager)
			}
		}
		slices.Sort(owners)
		return strings.Join(owners, ",")
	}, nil
}
