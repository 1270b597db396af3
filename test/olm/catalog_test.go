//go:build e2e_olm

// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package olm

import "testing"

// TestCatalog installs from the very catalog and bundle that are released: they are pulled by the names that they are released under.
func TestCatalog(t *testing.T) {
	const namespace, team = "vmcp-catalog", "vmcp-catalog-team"
	makeNamespaces(t, namespace, team)
	operator := installation{namespace}
	operator.catalog(t, setting.CatalogImage, "")
	operator.subscribe(t)
	operator.awaitVersion(t, setting.Versions[len(setting.Versions)-1])
	apply(t, gatewayManifests(team))
	awaitGateway(t, team)
	operator.remove(t)
}
