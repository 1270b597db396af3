//go:build e2e

// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/test/faulty"
	"github.com/vmcp-dev/vmcp-operator/test/harness"
)

// faultyServer is a server in a pod that behaves as a test says. Its Service has its name, and port 80.
type faultyServer struct {
	control string // URL
}

// newFaultyServer starts one that has no faults yet.
func newFaultyServer(t *testing.T, name string) *faultyServer {
	t.Helper()
	server{name: name, image: ownImage("faultyserver"), ready: 8081}.start(t)
	ip := must(t, "get", "pods", "--selector=app="+name, "--output=jsonpath={.items[0].status.podIP}")
	return &faultyServer{control: "http://" + net.JoinHostPort(ip, "8081")}
}

// behave has it behave from now on. It offers what it always offers.
func (f *faultyServer) behave(t *testing.T, b faulty.Behaviour) {
	t.Helper()
	b.Tools = []string{faulty.BaseTool}
	body, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	f.ask(t, http.MethodPut, faulty.BehaviourPath, body, nil)
}

// counts is what it was asked so far.
func (f *faultyServer) counts(t *testing.T) faulty.Counts {
	t.Helper()
	var c faulty.Counts
	f.ask(t, http.MethodGet, faulty.CountsPath, nil, &c)
	return c
}

func (f *faultyServer) ask(t *testing.T, method, path string, body []byte, into any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, f.control+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s", method, path, response.Status)
	}
	if into == nil {
		return
	}
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
}

// member is a backend of a gateway: an MCPBackend of this name for a Service.
type member struct {
	name, service string
	port          int
}

// Servers of others, of the demo.
var (
	everythingServer = member{service: "everything", port: 80}
	kubernetesServer = member{service: "mcpb-kubernetes", port: 8080}
	filesServer      = member{service: "mcpb-files", port: 8080}
)

// as is the member under a name.
func (m member) as(name string) member {
	m.name = name
	return m
}

// manifest joins the member to a group.
func (m member) manifest(group string) string {
	return fmt.Sprintf(`
---
apiVersion: vmcp.dev/v1alpha1
kind: MCPBackend
metadata: {name: %s}
spec: {groupRef: {name: %s}, service: {name: %s, port: %d, path: /mcp}}
---
`, m.name, group, m.service, m.port)
}

// over makes a gateway over some members, whose group has its name, and waits until every pod serves it and it is in a phase.
func over(t *testing.T, name string, phase v1alpha1.Phase, members ...member) *subject {
	t.Helper()
	x := &subject{name: name}
	var err error
	if x.status, err = harness.Watch[v1alpha1.VirtualMCPServer](t.Context(), kubectl, namespace, "virtualmcpservers.vmcp.dev", name); err != nil {
		t.Fatal(err)
	}
	if x.lease, err = harness.Watch[coordinationv1.Lease](t.Context(), kubectl, namespace, "leases.coordination.k8s.io", v1alpha1.OperandName(name)); err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	manifests := fmt.Sprintf("{apiVersion: vmcp.dev/v1alpha1, kind: MCPGroup, metadata: {name: %s}}", name)
	for _, m := range members {
		manifests += m.manifest(name)
	}
	apply(t, manifests+"\n---\n"+x.manifest(t))
	x.await(t, started, startLimit, fmt.Sprintf("every pod to serve %d backends", len(members)), func(s *v1alpha1.VirtualMCPServer) error {
		if s.Status.Backends == nil || int(s.Status.Backends.Total) != len(members) {
			return fmt.Errorf("backends are %+v", s.Status.Backends)
		}
		return served(s, phase)
	})
	return x
}
