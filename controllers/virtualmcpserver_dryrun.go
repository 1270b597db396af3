// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	autoscalingv2ac "k8s.io/client-go/applyconfigurations/autoscaling/v2"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// tryPatched asks the API server about the patched Deployment, Service and HorizontalPodAutoscaler before anything changes, by a dry run. It knows rules
// that rendering does not, for example that a toleration has an operator of its own; without asking, rights and configuration
// would have changed by the time it refuses. Nothing is sent if nothing is to change. Other objects have only labels and
// annotations that a patch may change, and rendering checks those.
func (r *VirtualMCPServerReconciler) tryPatched(ctx context.Context, scope *virtualMCPServerScope) (bool, error) {
	o := scope.operand
	for _, target := range []struct {
		kind v1alpha1.PatchKind
		try  func() error
	}{
		{"Deployment", func() error {
			return tryApply[appsv1.Deployment](ctx, r.Client, scope.server, o.Deployment, appsv1ac.ExtractDeployment)
		}},
		{"Service", func() error {
			return tryApply[corev1.Service](ctx, r.Client, scope.server, o.Service, corev1ac.ExtractService)
		}},
		{"HorizontalPodAutoscaler", func() error {
			return tryApply[autoscalingv2.HorizontalPodAutoscaler](
				ctx, r.Client, scope.server, o.HorizontalPodAutoscaler, autoscalingv2ac.ExtractHorizontalPodAutoscaler)
		}},
	} {
		if !slices.ContainsFunc(scope.server.Spec.Patches, func(p v1alpha1.Patch) bool { return p.Target.Kind == target.kind }) {
			continue
		}
		// Anything but a verdict on the object itself is for the apply to report, which happens in any case.
		if err := target.try(); apierrors.IsInvalid(err) {
			scope.facts.renderErr = fmt.Errorf("spec.patches: the API server refuses the patched %s: %w", target.kind, err)
			return false, nil
		}
	}
	return true, nil
}

// tryApply is ensure as a dry run: the API server's verdict on want, if it differs from what is there.
func tryApply[T any, A intent, O object[T]](
	ctx context.Context, c Client, owner client.Object, want A, extract func(O, string) (A, error),
) error {
	live, err := find[T, O](ctx, c, client.ObjectKey{
		Namespace: ptr.Deref(want.GetNamespace(), ""), Name: ptr.Deref(want.GetName(), ""),
	})
	if err != nil {
		return err
	}
	resourceVersion := createOnly
	if live != nil {
		applied, err := isApplied(live, want, extract)
		if err != nil || applied || !metav1.IsControlledBy(live, owner) {
			return err
		}
		resourceVersion = live.GetResourceVersion()
	}
	_, err = applyAt[T, A, O](ctx, c, want, resourceVersion, client.DryRunAll)
	return err
}
