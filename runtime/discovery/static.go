// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"context"
	"slices"

	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
)

type static []backend.Target

// Static is a Discoverer of backends that never change.
func Static(targets []backend.Target) Discoverer {
	sorted := slices.Clone(targets)
	slices.SortFunc(sorted, func(a, b backend.Target) int { return a.Key.Compare(b.Key) })
	return static(sorted)
}

func (s static) Run(ctx context.Context, publish func(Finding)) error {
	publish(Finding{Complete: true, Targets: slices.Clone(s)})
	<-ctx.Done()
	return nil
}
