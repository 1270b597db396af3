//go:build e2e_olm

// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package olm

import "testing"

// TestCatalog upgrades an older version, which it says nothing of but olm.skipRange, from the very catalog and bundle that are released: they
// are pulled by the names that they are released under.
func TestCatalog(t *testing.T) {
	const namespace, team = "vmcp-catalog", "vmcp-catalog-team"
	makeNamespaces(t, namespace, team)
	operator := install(t, namespace, setting.Versions[0])
	operator.catalog(t, setting.CatalogImage)
	operator.awaitVersion(t, setting.Versions[len(setting.Versions)-1])
	apply(t, gatewayManifests(team))
	awaitGateways(t, team)
	operator.remove(t)
}
