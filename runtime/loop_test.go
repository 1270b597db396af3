// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/auth"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/discovery"
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

// TestCredentialOfTheGatewayItself: a backend whose address is the gateway's own has credentials as others do, and is called with none of
// them. That they change is nothing to it, while it settles and afterwards.
func TestCredentialOfTheGatewayItself(t *testing.T) {
	inUniverse(t, 1, func(u *universe) {
		find := func(url, value string) {
			b := backend.Target{
				Key: backend.Key{Kind: v1alpha1.KindMCPBackend, Name: "a"}, URL: url, Transport: v1alpha1.TransportStreamableHTTP,
				Auth: auth.StrategyOf("token", v1alpha1.MCPExternalAuthConfigSpec{
					Type: v1alpha1.ExternalAuthTypeHeaderInjection, HeaderInjection: &v1alpha1.HeaderInjection{HeaderName: "Authorization"},
				}),
				Credential: auth.NewCredential(value),
			}
			u.find(u.config.Group, discovery.Finding{Complete: true, Targets: []backend.Target{b}})
			synctest.Wait()
		}
		expect := func(status v1alpha1.BackendStatus, reason string) {
			t.Helper()
			u.expectAgreement()
			got := u.last().Backends
			if len(got) != 1 || got[0].Verdict.Status != status || got[0].Verdict.Reason != reason {
				t.Errorf("reported is %+v, want %s %s", got, status, reason)
			}
		}
		u.alter("h1", func(p *place) { p.tools, p.wants = []string{"x"}, "three" })
		own := "http://" + u.control.options.Listen + "/mcp"
		for _, value := range []string{"one", "two", "three"} {
			find(own, value)
			expect(v1alpha1.BackendUnavailable, v1alpha1.ReasonInvalidSpec)
		}
		find("http://h1/mcp", "three") // another backend's address
		time.Sleep(settleDeadline)     // virtual time
		expect(v1alpha1.BackendReady, v1alpha1.ReasonProbeSucceeded)
	})
}
