// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"testing"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
)

func TestRefuseLoop(t *testing.T) {
	own := []string{
		"http://vmcp-team.ns/mcp", "http://vmcp-team.ns.svc/mcp", "http://vmcp-team.ns.svc.cluster.local:8080/mcp", "https://MCP.example.com/team",
	}
	invalid := backend.Refusal{Reason: v1alpha1.ReasonInvalidSpec, Message: "another reason"}
	tests := map[string]struct {
		url     string
		listen  string
		before  backend.Refusal
		refused bool
	}{
		"own Service":                   {url: "http://vmcp-team.ns.svc/mcp", listen: ":4483", refused: true},
		"own Service, port written out": {url: "http://vmcp-team.ns.svc.:80/mcp", listen: ":4483", refused: true},
		"own Service, own port":         {url: "http://vmcp-team.ns.svc.cluster.local:8080/mcp", listen: ":4483", refused: true},
		"own Service, another port":     {url: "http://vmcp-team.ns.svc:4484/mcp", listen: ":4483"},
		"own Service, another path":     {url: "http://vmcp-team.ns.svc/other", listen: ":4483"},
		"another Service":               {url: "http://vmcp-other.ns.svc/mcp", listen: ":4483"},
		"public URL":                    {url: "https://mcp.example.com:443/team", listen: ":4483", refused: true},
		"public host, another path":     {url: "https://mcp.example.com/mcp", listen: ":4483"},
		"public host, no path":          {url: "https://mcp.example.com", listen: ":4483"},
		"public host, another port":     {url: "https://mcp.example.com:8443/team", listen: ":4483"},
		"public host, another scheme":   {url: "http://mcp.example.com/team", listen: ":4483"},
		"own port on loopback":          {url: "http://127.0.0.1:4483/mcp", listen: ":4483", refused: true},
		"own port on IPv6 loopback":     {url: "http://[::1]:4483/mcp", listen: "127.0.0.1:4483", refused: true},
		"own port on localhost":         {url: "http://localhost:4483/mcp", listen: "127.0.0.1:4483", refused: true},
		"own address":                   {url: "http://192.0.2.7:4483/mcp", listen: "192.0.2.7:4483", refused: true},
		"another port on loopback":      {url: "http://127.0.0.1:9101/mcp", listen: "127.0.0.1:4483"},
		"another path on loopback":      {url: "http://127.0.0.1:4483/other", listen: "127.0.0.1:4483"},
		"own port on another host":      {url: "http://192.0.2.8:4483/mcp", listen: "192.0.2.7:4483"},
		"refused already, and a loop":   {url: "http://vmcp-team.ns/mcp", listen: ":4483", before: invalid, refused: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := refuseLoop(backend.Target{URL: test.url, Refused: test.before}, own, test.listen).Refused
			if refused := got != (backend.Refusal{}); refused != test.refused {
				t.Fatalf("refused: %+v, want %t", got, test.refused)
			}
			if test.before != (backend.Refusal{}) && got != test.before {
				t.Errorf("an earlier refusal became %+v", got)
			}
		})
	}
}
