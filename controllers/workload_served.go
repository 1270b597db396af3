// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// servedGenerationLabel says on the Deployment of a stdio server which generation of its MCPBackend every pod has run last. The status
// of an MCPBackend does not: its observedGeneration rises when the spec is provisioned, before pods are. It is a label, because another
// annotation of a Deployment would be a new generation of it to the API server; and it has a field manager of its own, so that applying the
// rest neither needs to know it nor takes it away.
const (
	servedGenerationLabel   = "vmcp.dev/served-generation"
	servedGenerationManager = v1alpha1.OperatorFieldManager + "-served-generation"
)

// hasBridge says whether the pods of a backend hold the runtime's binary, so that another version of the operator replaces them.
func hasBridge(b *v1alpha1.MCPBackend) bool {
	return b.Spec.Transport == v1alpha1.TransportStdio && b.Source() == v1alpha1.BackendSourceWorkload
}

// servesGeneration says whether every pod of a Deployment, which may be nil, has run a generation, and no later one since.
func servesGeneration(d *appsv1.Deployment, generation int64) bool {
	return d != nil && d.Labels[servedGenerationLabel] == strconv.FormatInt(generation, 10)
}

// noteServedGeneration says on a Deployment which generation its pods have served: a rollout that comes later for the same generation has
// the operator for its cause. What changed it meanwhile wakes the controller, which then looks again.
func noteServedGeneration(ctx context.Context, c client.Client, d *appsv1.Deployment, generation int64) error {
	err := c.Apply(ctx, appsv1ac.Deployment(d.Name, d.Namespace).WithUID(d.UID).WithResourceVersion(d.ResourceVersion).
		WithLabels(map[string]string{servedGenerationLabel: strconv.FormatInt(generation, 10)}),
		client.FieldOwner(servedGenerationManager), client.ForceOwnership)
	if err != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("labelling Deployment %s: %w", d.Name, err)
	}
	return nil
}
