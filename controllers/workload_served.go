// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// servedGenerationLabel says on the Deployment of a stdio server which generation of its MCPBackend every pod has run last. The status
// of an MCPBackend does not: its observedGeneration rises when the spec is provisioned, before pods are. It is a label, because another
// annotation of a Deployment would be a new generation of it to the API server.
const servedGenerationLabel = "vmcp.dev/served-generation"

// hasBridge says whether the pods of a backend hold the runtime's binary, so that another version of the operator replaces them.
func hasBridge(b *v1alpha1.MCPBackend) bool {
	return b.Spec.Transport == v1alpha1.TransportStdio && b.Source() == v1alpha1.BackendSourceWorkload
}

// servesGeneration says whether every pod of a Deployment, which may be nil, has run a generation, and no later one since.
func servesGeneration(d *appsv1.Deployment, generation int64) bool {
	return d != nil && d.Labels[servedGenerationLabel] == strconv.FormatInt(generation, 10)
}

func setServedGeneration(want *appsv1ac.DeploymentApplyConfiguration, generation int64) {
	want.WithLabels(map[string]string{servedGenerationLabel: strconv.FormatInt(generation, 10)})
}

// keepServedGeneration wants what a live Deployment, which may be nil, says.
func keepServedGeneration(want *appsv1ac.DeploymentApplyConfiguration, live *appsv1.Deployment) {
	delete(want.Labels, servedGenerationLabel)
	if live == nil {
		return
	}
	if served, ok := live.Labels[servedGenerationLabel]; ok {
		want.WithLabels(map[string]string{servedGenerationLabel: served})
	}
}
