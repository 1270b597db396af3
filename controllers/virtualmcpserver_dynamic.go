// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/controllers/operand"
)

// strategy is all that depends on spec.outgoingAuth.source, decided once for each reconciliation.
type strategy interface {
	// complete adds to in what the mode needs.
	complete(ctx context.Context, s *v1alpha1.VirtualMCPServer, in *operand.Input) error
}

func strategyFor(source v1alpha1.OutgoingAuthSource) (strategy, error) {
	switch source {
	case v1alpha1.OutgoingAuthSourceDiscovered:
		return dynamicStrategy{}, nil
	default:
		return nil, fmt.Errorf("spec.outgoingAuth.source: %q is not known", source)
	}
}

// dynamicStrategy leaves backends and their authentication to the runtime: it gives it the rights to find them and looks at
// none of them.
type dynamicStrategy struct{}

func (dynamicStrategy) complete(_ context.Context, _ *v1alpha1.VirtualMCPServer, in *operand.Input) error {
	in.DiscoversBackends = true
	in.Configuration.Source = v1alpha1.OutgoingAuthSourceDiscovered
	return nil
}
