// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package discovery_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/auth"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/discovery"
)

func TestTargetOf(t *testing.T) {
	group := v1alpha1.LocalReference{Name: "team"}
	for name, c := range map[string]struct {
		spec v1alpha1.MCPBackendSpec
		want backend.Target
	}{
		"remote": {
			v1alpha1.MCPBackendSpec{GroupRef: group, Transport: v1alpha1.TransportSSE, Remote: &v1alpha1.RemoteBackend{URL: "https://mcp.example.com/sse"}},
			backend.Target{
				Source: v1alpha1.BackendSourceRemote, URL: "https://mcp.example.com/sse",
				Transport: v1alpha1.TransportSSE, DeclaredTransport: v1alpha1.TransportSSE,
			},
		},
		"service, with the defaults": {
			v1alpha1.MCPBackendSpec{GroupRef: group, Service: &v1alpha1.ServiceBackend{Name: "docs-mcp", Port: 80}},
			backend.Target{
				Source: v1alpha1.BackendSourceService, URL: "http://docs-mcp.apps.svc/mcp",
				Transport: v1alpha1.TransportStreamableHTTP, DeclaredTransport: v1alpha1.TransportStreamableHTTP,
			},
		},
		"stdio workload, behind its bridge": {
			v1alpha1.MCPBackendSpec{GroupRef: group, Transport: v1alpha1.TransportStdio, Workload: &v1alpha1.Workload{Image: "files:v1", Command: []string{"serve"}}},
			backend.Target{
				Source: v1alpha1.BackendSourceWorkload, URL: "http://mcpb-one.apps.svc:8080/mcp",
				Transport: v1alpha1.TransportStreamableHTTP, DeclaredTransport: v1alpha1.TransportStdio,
			},
		},
		"credentials in the URL are refused, and not repeated": {
			v1alpha1.MCPBackendSpec{GroupRef: group, Remote: &v1alpha1.RemoteBackend{URL: "https://me:secret@mcp.example.com/mcp"}},
			backend.Target{
				Source: v1alpha1.BackendSourceRemote, Transport: v1alpha1.TransportStreamableHTTP, DeclaredTransport: v1alpha1.TransportStreamableHTTP,
				Refused: backend.Refusal{
					Reason:  v1alpha1.ReasonInvalidSpec,
					Message: `spec.remote.url: Invalid value: "https://me:xxxxx@mcp.example.com/mcp": url must not contain user information; credentials do not belong into a URL`,
				},
			},
		},
		"nothing to call": {
			v1alpha1.MCPBackendSpec{GroupRef: group},
			backend.Target{
				Transport: v1alpha1.TransportStreamableHTTP, DeclaredTransport: v1alpha1.TransportStreamableHTTP,
				Refused: backend.Refusal{
					Reason:  v1alpha1.ReasonInvalidSpec,
					Message: `spec: Invalid value: "0 of them set": exactly one of workload, service and remote must be set`,
				},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.want.Key = backend.Key{Kind: v1alpha1.KindMCPBackend, Name: "one"}
			got := discovery.TargetOf((&v1alpha1.MCPBackend{ObjectMeta: metav1.ObjectMeta{Name: "one", Namespace: "apps"}, Spec: c.spec}).Member())
			if diff := cmp.Diff(c.want, got, cmpopts.EquateComparable(auth.Credential{})); diff != "" {
				t.Errorf("target (-want +got):\n%s", diff)
			}
		})
	}
}
