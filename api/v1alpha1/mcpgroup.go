// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import "k8s.io/apimachinery/pkg/util/validation/field"

// Validate checks what the schema of the CRD demands, for objects that never passed an API server.
func (g *MCPGroup) Validate() field.ErrorList {
	return append(validateName(g), atMost(field.NewPath("spec", "description"), g.Spec.Description, 1024)...)
}
