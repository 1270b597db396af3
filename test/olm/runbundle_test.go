//go:build e2e_olm

// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package olm

import (
	"testing"
)

// TestRunBundle tries the operator as somebody does who has only its bundle: "operator-sdk run bundle", then "run bundle-upgrade".
func TestRunBundle(t *testing.T) {
	const namespace, team = "vmcp-run-bundle", "vmcp-run-bundle-team"
	before, after := setting.Versions[0], setting.Versions[1]
	makeNamespaces(t, namespace, team)
	operator := installation{namespace: namespace}
	sdk := func(args ...string) {
		t.Helper()
		out, err := tool(t.Context(), setting.OperatorSDK, append(args, "--namespace="+namespace, "--timeout="+installLimit.String())...)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	// The cluster's image of opm has a shell and a catalog, both of which operator-sdk insists on.
	sdk("run", "bundle", bundleImage(before), "--index-image="+setting.Registry+"/opm:v1.73.0",
		"--install-mode=AllNamespaces", "--security-context-config=restricted", "--skip-tls-verify")
	operator.awaitVersion(t, before)
	apply(t, gatewayManifests(team))
	awaitGateways(t, team)

	sdk("run", "bundle-upgrade", bundleImage(after), "--security-context-config=restricted", "--skip-tls-verify")
	operator.awaitVersion(t, after)
	awaitRuntime(t, team, after)
	awaitGateways(t, team)

	// Without the flag CRDs go as well, and all that is declared with them.
	sdk("cleanup", packageName, "--delete-all=false")
}
