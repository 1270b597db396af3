// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"k8s.io/apimachinery/pkg/fields"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/kube"
)

// GroupField is the field of an MCPBackend that names its group. The CRD declares it selectable, so that the API server sends a
// runtime the backends of its own group only.
const GroupField = "spec.groupRef.name"

type kubernetes struct {
	backends kube.Lister[*v1alpha1.MCPBackendList]
	group    string
	logger   *slog.Logger
}

// Kubernetes finds the MCPBackends of a group by a watch. It outlives any absence of the API server; what it found stays valid.
func Kubernetes(backends kube.Lister[*v1alpha1.MCPBackendList], group string, logger *slog.Logger) Discoverer {
	return &kubernetes{backends: backends, group: group, logger: logger}
}

// Run implements Discoverer.
func (k *kubernetes) Run(ctx context.Context, publish func([]backend.Target), fail func(error)) error {
	var (
		last      []backend.Target
		published bool
	)
	kube.FollowList(ctx, k.logger, k.backends, fields.OneTermEqualSelector(GroupField, k.group).String(),
		func(objects map[string]*v1alpha1.MCPBackend) {
			targets := make([]backend.Target, 0, len(objects))
			for _, b := range objects {
				targets = append(targets, TargetOf(b))
			}
			slices.SortFunc(targets, func(a, b backend.Target) int { return a.Compare(b.Key) })
			if published && slices.Equal(last, targets) {
				return // a change of labels, or of a status
			}
			last, published = targets, true
			publish(targets)
		},
		func(err error) {
			published = false
			fail(fmt.Errorf("listing the MCPBackends of group %q: %w", k.group, err))
		})
	return nil
}
