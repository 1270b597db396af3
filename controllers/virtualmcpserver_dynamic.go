// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
)

// dynamicStrategy leaves backends and their authentication to the runtime: it gives it the rights to find them and looks at
// none of them.
type dynamicStrategy struct{}

func (dynamicStrategy) complete(_ context.Context, scope *virtualMCPServerScope) error {
	auth := scope.server.Spec.OutgoingAuth
	scope.input.DiscoversBackends = true
	scope.input.Discovery = scope.group.Spec.Discovery
	scope.input.Configuration.Discovery = scope.group.Spec.Discovery
	scope.input.Configuration.DefaultAuth = auth.Default
	scope.input.Configuration.BackendAuths = auth.Backends
	scope.boundConfigs = auth.ConfigNames()
	return nil
}
