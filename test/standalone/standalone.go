// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package standalone starts the gateway as users without a cluster do, "vmcp serve -f", on loopback, for what measures it from
// outside.
package standalone

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vmcp-dev/vmcp-operator/test/process"
)

// readyTimeout is what a gateway has to reach all its backends.
const readyTimeout = 30 * time.Second

// Backend is a remote MCP server.
type Backend struct {
	Name string
	// URL is that of its MCP endpoint.
	URL string
}

// Options says which gateway to start. All fields but Args are required.
type Options struct {
	// Program is the path of vmcp.
	Program string
	// Name tells gateways in one folder apart.
	Name string
	// Dir is where the manifests and the log are kept.
	Dir string
	// Backends are those of its group, at least one. The first has a name that several of them offer.
	Backends []Backend
	// Args are flags of vmcp serve besides those that name the manifests and the addresses.
	Args []string
}

// Gateway is a running gateway.
type Gateway struct {
	*process.Process
	// Endpoint and Admin are the URLs of its MCP endpoint and of what /metrics and /readyz are below.
	Endpoint, Admin string
}

// Start starts a gateway and waits until it has heard of every backend. It serves tools and prompts under their own names.
func Start(ctx context.Context, o Options) (*Gateway, error) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	manifests := filepath.Join(o.Dir, o.Name+".yaml")
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("writing the manifests of %s: %w", o.Name, err)
	}
	if err := os.WriteFile(manifests, []byte(Manifests(o.Backends)), 0o600); err != nil {
		return nil, fmt.Errorf("writing the manifests of %s: %w", o.Name, err)
	}
	listen, err := process.FreeAddress()
	if err != nil {
		return nil, err
	}
	admin, err := process.FreeAddress()
	if err != nil {
		return nil, err
	}
	p, err := process.Start(process.Options{
		Name: o.Name, Dir: o.Dir, Program: o.Program,
		Args: append([]string{"serve", "-f", manifests, "--listen", listen, "--admin-listen", admin}, o.Args...),
	})
	if err != nil {
		return nil, err
	}
	g := &Gateway{Process: p, Endpoint: "http://" + listen + "/mcp", Admin: "http://" + admin}
	if err := p.WaitReady(ctx, g.Admin+"/readyz"); err != nil {
		p.Stop()
		return nil, err
	}
	return g, nil
}

// Manifests are the documents of a gateway before the backends, as kubectl apply takes them.
func Manifests(backends []Backend) string {
	var b strings.Builder
	b.WriteString(`apiVersion: vmcp.dev/v1alpha1
kind: MCPGroup
metadata: {name: measured}
`)
	names := make([]string, len(backends))
	for i, backend := range backends {
		names[i] = backend.Name
		fmt.Fprintf(&b, `---
apiVersion: vmcp.dev/v1alpha1
kind: MCPBackend
metadata: {name: %s}
spec:
  groupRef: {name: measured}
  remote: {url: %q}
`, backend.Name, backend.URL)
	}
	fmt.Fprintf(&b, `---
apiVersion: vmcp.dev/v1alpha1
kind: VirtualMCPServer
metadata: {name: measured}
spec:
  groupRef: {name: measured}
  aggregation:
    conflictResolution: {strategy: priority, priority: [%s]}
`, strings.Join(names, ", "))
	return b.String()
}
