//go:build e2e

// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"strings"
	"testing"

	"github.com/vmcp-dev/vmcp-operator/test/audit"
)

// keptTheRules counts the requests in the audit log of the API server. In dynamic mode the VirtualMCPServer controller asks for no
// backend, no auth config and no Secret; nobody at all lists or watches Secrets without naming one. It is told last, when all that could
// have made them look has happened.
func keptTheRules(t *testing.T) {
	path := os.Getenv("VMCP_AUDIT_LOG")
	if path == "" {
		t.Fatal("VMCP_AUDIT_LOG is not set: bin/cluster env names the audit log of the API server")
	}
	found, err := audit.Check(path, audit.SecretsAreNamed, audit.ControllerLooksAtNoBackend)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range found.Broken {
		t.Error(text)
	}
	for _, proof := range []string{
		"vmcp-operator/virtualmcpserver patch deployments", // the controller worked
		"vmcp-operator/sessionkeys patch secrets",          // another one provided the session keys
		"vmcp-runtime/" + gateway + " watch mcpbackends",   // the runtime looks instead
	} {
		if found.Counts[proof] == 0 {
			t.Errorf("the audit log has no %q, so it proves nothing", proof)
		}
	}
	for request, n := range found.Counts {
		if strings.HasPrefix(request, "vmcp-") {
			t.Logf("%4d %s", n, request)
		}
	}
}
