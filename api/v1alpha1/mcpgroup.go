// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import "k8s.io/apimachinery/pkg/util/validation/field"

// Validate checks what the schema of the CRD demands, for objects that never passed an API server.
func (g *MCPGroup) Validate() field.ErrorList {
	spec := field.NewPath("spec")
	errs := append(validateName(g), atMost(spec.Child("description"), g.Spec.Description, 1024)...)
	errs = append(errs, g.Spec.Discovery.Services.validate(spec.Child("discovery", "services"))...)
	return append(errs, g.Spec.Discovery.MCPServers.validate(spec.Child("discovery", "mcpServers"))...)
}

// Any says whether any kind joins by a label.
func (d GroupDiscovery) Any() bool {
	return d.Services == DiscoveryLabelled || d.MCPServers == DiscoveryLabelled
}

func (m DiscoveryMode) validate(path *field.Path) field.ErrorList {
	switch m {
	case "", DiscoveryDisabled, DiscoveryLabelled:
		return nil
	default:
		return field.ErrorList{field.NotSupported(path, m, []DiscoveryMode{DiscoveryDisabled, DiscoveryLabelled})}
	}
}
