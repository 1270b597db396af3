// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"testing"

	. "github.com/onsi/gomega"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

func TestEndpoint_Hosts(t *testing.T) {
	own := []string{"service", "service.tools"}
	for title, c := range map[string]struct {
		endpoint v1alpha1.Endpoint
		want     []string
	}{
		"nothing said":          {v1alpha1.Endpoint{}, own},
		"the public host":       {v1alpha1.Endpoint{PublicURL: "https://MCP.example.com:8443/mcp"}, []string{"service", "service.tools", "mcp.example.com"}},
		"the public host again": {v1alpha1.Endpoint{PublicURL: "http://service/mcp"}, own},
		"all there is": {v1alpha1.Endpoint{PublicURL: "https://mcp.example.com", AllowedHosts: []v1alpha1.AllowedHost{"b", "a"}},
			[]string{"b", "a"}},
	} {
		t.Run(title, func(t *testing.T) {
			g := NewWithT(t)
			g.Expect(c.endpoint.Hosts(own)).To(Equal(c.want))
			g.Expect(own).To(Equal([]string{"service", "service.tools"}))
		})
	}
}
