// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// letGoOfReplicas keeps the number of pods as it is when the operator is about to stop applying it, because an autoscaler or "kubectl
// scale" chooses it from now on. A field that nobody applies any more vanishes, and the API server's default for it is one pod: so
// the present number is applied under another name first. Whoever scales next takes it over from there. The number is
// raised to least: an autoscaler that is to come does nothing about zero, which means to it that somebody has switched it off.
func letGoOfReplicas(ctx context.Context, c Client, owner client.Object, want *appsv1ac.DeploymentApplyConfiguration, least int32) error {
	if want.Spec.Replicas != nil {
		return nil
	}
	live, ours, err := choosesReplicas(ctx, c, want)
	if err != nil || live == nil || !metav1.IsControlledBy(live, owner) || live.Spec.Replicas == nil {
		return err
	}
	replicas := max(*live.Spec.Replicas, least)
	if !ours && replicas == *live.Spec.Replicas {
		return nil
	}
	kept := appsv1ac.Deployment(live.Name, live.Namespace).
		WithResourceVersion(live.ResourceVersion).
		WithSpec(appsv1ac.DeploymentSpec().WithReplicas(replicas))
	err = c.Apply(ctx, kept, client.FieldOwner(v1alpha1.ReplicasFieldManager), client.ForceOwnership)
	// After a conflict the next reconciliation finds out who chose which number meanwhile.
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("keeping the number of pods of Deployment %s: %w", live.Name, err)
	}
	return nil
}

// choosesReplicas returns the live Deployment, if there is one, and whether the operator applies its number of pods. The cache shows
// that it does not if the operator applies what it wants, which has none; otherwise the API server is asked.
func choosesReplicas(
	ctx context.Context, c Client, want *appsv1ac.DeploymentApplyConfiguration,
) (live *appsv1.Deployment, ours bool, err error) {
	key := client.ObjectKey{Namespace: *want.Namespace, Name: *want.Name}
	for _, reader := range []client.Reader{c, c.Live} {
		if live, err = find[appsv1.Deployment](ctx, reader, key); err != nil {
			return nil, false, fmt.Errorf("reading Deployment %s: %w", key.Name, err)
		}
		if live == nil {
			return nil, false, nil
		}
		applied, err := isApplied(live, want, appsv1ac.ExtractDeployment)
		if err != nil {
			return nil, false, fmt.Errorf("comparing Deployment %s: %w", key.Name, err)
		}
		if applied {
			return live, false, nil
		}
	}
	owned, err := appsv1ac.ExtractDeployment(live, v1alpha1.OperatorFieldManager)
	if err != nil {
		return nil, false, fmt.Errorf("reading the managed fields of Deployment %s: %w", key.Name, err)
	}
	return live, owned.Spec != nil && owned.Spec.Replicas != nil, nil
}
