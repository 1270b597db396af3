//go:build e2e_olm

// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package olm

import (
	"slices"
	"strings"
	"testing"
)

// serviceAccount is the operator's.
const serviceAccount = "vmcp-operator"

// TestInstallModes installs the operator for different namespaces: it works in each of them, and has no rights in any other.
func TestInstallModes(t *testing.T) {
	const home, first, second, foreign = "vmcp-modes", "vmcp-modes-first", "vmcp-modes-second", "vmcp-modes-foreign"
	latest := setting.Versions[len(setting.Versions)-1]
	for _, mode := range []struct {
		name    string
		targets []string
		serves  []string
	}{
		{"OwnNamespace", []string{home}, []string{home}},
		{"SingleNamespace", []string{first}, []string{first}},
		{"MultiNamespace", []string{first, second}, []string{first, second}},
		{"AllNamespaces", nil, []string{first, second}},
	} {
		t.Run(mode.name, func(t *testing.T) {
			makeNamespaces(t, home, first, second, foreign)
			operator := install(t, home, latest, mode.targets...)
			for _, namespace := range mode.serves {
				apply(t, gatewayManifests(namespace))
			}
			for _, namespace := range mode.serves {
				awaitGateways(t, namespace)
			}
			if mode.targets != nil {
				nothingMore(t, home, foreign)
			}
			operator.remove(t)
		})
	}
}

// nothingMore fails the test if the operator may do anything in a namespace that not every ServiceAccount may.
func nothingMore(t *testing.T, home, namespace string) {
	t.Helper()
	everybody := rights(t, namespace, "default", namespace)
	operator := rights(t, home, serviceAccount, namespace)
	t.Logf("the operator of %s has %d lines of rights in %s, everybody has %d", home, len(operator), namespace, len(everybody))
	if !slices.Equal(operator, everybody) {
		t.Errorf("in %s the operator may\n%s\nand everybody may\n%s", namespace, strings.Join(operator, "\n"), strings.Join(everybody, "\n"))
	}
	if own := rights(t, home, serviceAccount, home); len(own) <= len(everybody) {
		t.Errorf("in its own namespace it may no more than\n%s", strings.Join(own, "\n"))
	}
}

// rights are the lines of "kubectl auth can-i --list" in a namespace, sorted, for a ServiceAccount of a home namespace with all the groups that
// the API server puts it into: whoever impersonates says them.
func rights(t *testing.T, home, account, namespace string) []string {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(must(t, "auth", "can-i", "--list", "--no-headers", "--as=system:serviceaccount:"+home+":"+account,
		"--as-group=system:serviceaccounts", "--as-group=system:serviceaccounts:"+home, "--as-group=system:authenticated",
		"--namespace", namespace)), "\n")
	for i, line := range lines {
		lines[i] = strings.Join(strings.Fields(line), " ")
	}
	slices.Sort(lines)
	return lines
}
