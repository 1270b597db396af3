// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// strategy is all that depends on spec.outgoingAuth.source, decided once for each reconciliation.
type strategy interface {
	// complete adds to the scope what the mode needs: to the input of the rendering, and of the rights.
	complete(ctx context.Context, scope *virtualMCPServerScope) error
}

// strategyFor chooses the strategy for a valid source; validate has refused any other.
func (r *VirtualMCPServerReconciler) strategyFor(source v1alpha1.OutgoingAuthSource) strategy {
	if source == v1alpha1.OutgoingAuthSourceInline {
		return staticStrategy{r.Client, &r.mcpServers}
	}
	return dynamicStrategy{}
}
