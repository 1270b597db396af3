// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	autoscalingv2ac "k8s.io/client-go/applyconfigurations/autoscaling/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// stopAutoscaling removes the autoscaler of a gateway that has none any more, before the number of pods is somebody else's choice: two
// who choose would take turns.
func (r *VirtualMCPServerReconciler) stopAutoscaling(ctx context.Context, s *v1alpha1.VirtualMCPServer) error {
	if s.Spec.Autoscaling != nil {
		return nil
	}
	key := client.ObjectKey{Namespace: s.Namespace, Name: v1alpha1.OperandName(s.Name)}
	return remove[autoscalingv2.HorizontalPodAutoscaler](ctx, r.Client, s, key)
}

// leastPods is the number of pods with which an autoscaler has to begin that is not there yet, zero if there is none to come.
func (r *VirtualMCPServerReconciler) leastPods(ctx context.Context, s *v1alpha1.VirtualMCPServer) (int32, error) {
	if s.Spec.Autoscaling == nil {
		return 0, nil
	}
	key := client.ObjectKey{Namespace: s.Namespace, Name: v1alpha1.OperandName(s.Name)}
	scaler, err := find[autoscalingv2.HorizontalPodAutoscaler](ctx, r.Client, key)
	if err != nil {
		return 0, fmt.Errorf("reading HorizontalPodAutoscaler %s: %w", key.Name, err)
	}
	if scaler != nil {
		return 0, nil
	}
	return s.Spec.Autoscaling.MinPods(), nil
}

// autoscale provisions the autoscaler, once the Deployment is without a number of pods of ours.
func (r *VirtualMCPServerReconciler) autoscale(ctx context.Context, scope *virtualMCPServerScope) error {
	if scope.operand.HorizontalPodAutoscaler == nil {
		return nil
	}
	_, err := ensure[autoscalingv2.HorizontalPodAutoscaler](
		ctx, r.Client, scope.server, scope.operand.HorizontalPodAutoscaler, autoscalingv2ac.ExtractHorizontalPodAutoscaler)
	return err
}
