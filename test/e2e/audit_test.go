//go:build e2e

// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
)

// auditEvent is the part of audit.k8s.io/v1 Event that the tests look at.
type auditEvent struct {
	Verb      string `json:"verb"`
	UserAgent string `json:"userAgent"`
	ObjectRef struct {
		Resource  string `json:"resource"`
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
		APIGroup  string `json:"apiGroup"`
	} `json:"objectRef"`
}

// neverLookedAtBackends counts the requests of the VirtualMCPServer controller in the audit log of the API server: in dynamic
// mode it asks for no backend, no auth config and no Secret. It is told last, when all that could have made it look has happened.
func neverLookedAtBackends(t *testing.T) {
	path := os.Getenv("VMCP_AUDIT_LOG")
	if path == "" {
		t.Fatal("VMCP_AUDIT_LOG is not set: bin/cluster env names the audit log of the API server")
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	const controller = "vmcp-operator/virtualmcpserver"
	forbidden := []string{"mcpbackends", "mcpexternalauthconfigs", "secrets"}
	requests := map[string]int{}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var e auditEvent
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			continue // the API server is writing the last line
		}
		agent, _, _ := strings.Cut(e.UserAgent, " ")
		if agent != controller {
			continue
		}
		requests[e.Verb+" "+e.ObjectRef.Resource]++
		if slices.Contains(forbidden, e.ObjectRef.Resource) {
			t.Errorf("%s: %s %s %s/%s", e.UserAgent, e.Verb, e.ObjectRef.Resource, e.ObjectRef.Namespace, e.ObjectRef.Name)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if requests["patch deployments"] == 0 {
		t.Errorf("the audit log has no apply of a Deployment by %s, so it proves nothing: %v", controller, requests)
	}
	t.Logf("requests of %s: %v", controller, requests)
}
