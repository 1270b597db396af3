// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	libpredicate "github.com/operator-framework/operator-lib/predicate"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	acv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
)

// An object with the annotation vmcp.dev/paused: "true" is left alone: nothing is provisioned, removed, repaired or reported for it,
// a takeover from a silent runtime included. The only write is the condition Paused, once.
//
// Three things work together. operator-lib's predicate drops the events of paused objects. pausedUntold lets through those whose
// status does not say Paused yet, so that it is said, and said again if somebody removes it. And because events of owned and
// referenced objects pass neither, each Reconcile asks paused first. The removal of the annotation is an event that operator-lib's
// predicate passes; the next status is built anew and has no such condition.

// pausePredicate passes the events that concern the controller of a kind.
func pausePredicate() (predicate.Predicate, error) {
	notPaused, err := libpredicate.NewPause[client.Object](v1alpha1.PausedAnnotation)
	if err != nil {
		return nil, fmt.Errorf("building the predicate of %s: %w", v1alpha1.PausedAnnotation, err)
	}
	return predicate.Or(notPaused, predicate.NewPredicateFuncs(pausedUntold)), nil
}

// paused reads the annotation as operator-lib does.
func paused(o client.Object) bool {
	value, err := strconv.ParseBool(o.GetAnnotations()[v1alpha1.PausedAnnotation])
	return err == nil && value
}

// pausedUntold says whether an object is paused and its conditions do not say so.
func pausedUntold(o client.Object) bool {
	return paused(o) && !meta.IsStatusConditionTrue(conditionsOf(o), v1alpha1.ConditionPaused)
}

func conditionsOf(o client.Object) []metav1.Condition {
	switch o := o.(type) {
	case *v1alpha1.VirtualMCPServer:
		return o.Status.Conditions
	case *v1alpha1.MCPGroup:
		return o.Status.Conditions
	case *v1alpha1.MCPBackend:
		return o.Status.Conditions
	case *v1alpha1.MCPExternalAuthConfig:
		return o.Status.Conditions
	default:
		panic(fmt.Sprintf("%T is no kind of ours", o))
	}
}

// withPaused is the conditions that the operator owns of a paused object, Paused added: an apply deletes what it leaves out.
func withPaused(
	owned []metav1ac.ConditionApplyConfiguration, generation int64, now time.Time,
) []metav1ac.ConditionApplyConfiguration {
	c := conditions{generation: generation, now: now}
	c.add(v1alpha1.ConditionPaused, isTrue(v1alpha1.ReasonAnnotationSet, fmt.Sprintf(
		"the operator leaves this object alone; remove the annotation %s to let it go on", v1alpha1.PausedAnnotation)))
	owned = slices.DeleteFunc(slices.Clone(owned), func(c metav1ac.ConditionApplyConfiguration) bool {
		return ptr.Deref(c.Type, "") == v1alpha1.ConditionPaused
	})
	return sortConditions(append(owned, *c.built[0]))
}

// leaveAlone says that the object is paused. A conflict needs no retry: what changed the object is an event that pausedUntold passes.
func (r *VirtualMCPServerReconciler) leaveAlone(ctx context.Context, s *v1alpha1.VirtualMCPServer) (ctrl.Result, error) {
	if !pausedUntold(s) {
		return ctrl.Result{}, nil
	}
	owned, err := acv1alpha1.ExtractVirtualMCPServerStatus(s, v1alpha1.OperatorFieldManager)
	if err != nil {
		return ctrl.Result{}, unreadable(err)
	}
	have, want, at := sortStatus(owned.Status), acv1alpha1.VirtualMCPServerStatus(), now(r.Now)
	if have != nil {
		*want = *have
	}
	before := want.Conditions
	want.Conditions = withPaused(want.Conditions, s.Generation, at)
	if notBefore := r.writes.notBefore(s, have, want, false); at.Before(notBefore) {
		return requeueBefore(ctrl.Result{}, at, notBefore), nil
	}
	err = sendStatus(ctx, r.Client, kindOf(s),
		acv1alpha1.VirtualMCPServer(s.Name, s.Namespace).WithResourceVersion(s.ResourceVersion).WithStatus(want))
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return ctrl.Result{}, nil
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	r.writes.set(client.ObjectKeyFromObject(s), statusWrite{uid: s.UID, status: want, at: at})
	r.Client.announce(s, before, want.Conditions)
	return ctrl.Result{}, nil
}
