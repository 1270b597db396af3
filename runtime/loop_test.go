// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"testing"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
)

func TestRefuseLoop(t *testing.T) {
	hosts := []string{"vmcp-team", "vmcp-team.ns.svc"}
	invalid := backend.Refusal{Reason: v1alpha1.ReasonInvalidSpec, Message: "another reason"}
	tests := map[string]struct {
		url     string
		listen  string
		before  backend.Refusal
		refused bool
	}{
		"own Service":                 {url: "http://vmcp-team.ns.svc/mcp", listen: ":4483", refused: true},
		"own Service, another path":   {url: "http://vmcp-team.ns.svc/other", listen: ":4483"},
		"another Service":             {url: "http://vmcp-other.ns.svc/mcp", listen: ":4483"},
		"own port on loopback":        {url: "http://127.0.0.1:4483/mcp", listen: ":4483", refused: true},
		"own port on IPv6 loopback":   {url: "http://[::1]:4483/mcp", listen: "127.0.0.1:4483", refused: true},
		"own port on localhost":       {url: "http://localhost:4483/mcp", listen: "127.0.0.1:4483", refused: true},
		"own address":                 {url: "http://192.0.2.7:4483/mcp", listen: "192.0.2.7:4483", refused: true},
		"another port on loopback":    {url: "http://127.0.0.1:9101/mcp", listen: "127.0.0.1:4483"},
		"own port on another host":    {url: "http://192.0.2.8:4483/mcp", listen: "192.0.2.7:4483"},
		"refused already, and a loop": {url: "http://vmcp-team/mcp", listen: ":4483", before: invalid, refused: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := refuseLoop(backend.Target{URL: test.url, Refused: test.before}, hosts, test.listen).Refused
			if refused := got != (backend.Refusal{}); refused != test.refused {
				t.Fatalf("refused: %+v, want %t", got, test.refused)
			}
			if test.before != (backend.Refusal{}) && got != test.before {
				t.Errorf("an earlier refusal became %+v", got)
			}
		})
	}
}
