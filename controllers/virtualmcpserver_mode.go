// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// strategy is all that depends on spec.outgoingAuth.source, decided once for each reconciliation.
type strategy interface {
	// complete adds to the scope what the mode needs: to the input of the rendering, and of the rights.
	complete(ctx context.Context, scope *virtualMCPServerScope) error
}

func (r *VirtualMCPServerReconciler) strategyFor(source v1alpha1.OutgoingAuthSource) (strategy, error) {
	switch source {
	case v1alpha1.OutgoingAuthSourceDiscovered:
		return dynamicStrategy{}, nil
	case v1alpha1.OutgoingAuthSourceInline:
		return staticStrategy{r.Client}, nil
	default:
		return nil, fmt.Errorf("spec.outgoingAuth.source: %q is not known", source)
	}
}
