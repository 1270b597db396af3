// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// Limits of a controller's own waiting.
const (
	// reconcileTimeout bounds one reconciliation, all its requests included.
	reconcileTimeout = time.Minute
	// foreignObjectRetry is how soon the controller looks again at an object of somebody else that is in its way: no watch of
	// ours shows that object.
	foreignObjectRetry = time.Minute
	// conflictRetry is how soon the controller decides again after it was overtaken twice in a row.
	conflictRetry = time.Second
	// concurrency is how many objects of a kind are reconciled at once.
	concurrency = 4
	// minRetry and maxRetry bound the time to the next try after a failure. What fails for one reason must not keep the controller
	// from looking after the rest for long.
	minRetry = 5 * time.Millisecond
	maxRetry = 30 * time.Second
)

func controllerOptions() controller.Options {
	return controller.Options{
		MaxConcurrentReconciles: concurrency,
		ReconciliationTimeout:   reconcileTimeout,
		RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](minRetry, maxRetry),
	}
}

func now(clock func() time.Time) time.Time {
	if clock == nil {
		return time.Now()
	}
	return clock()
}

// outcome turns what kept a reconciliation from applying something into when to try again. What a watch will tell about needs
// no retry.
func outcome(err error) (ctrl.Result, error) {
	if _, ok := errors.AsType[*notOwnedError](err); ok {
		return ctrl.Result{RequeueAfter: foreignObjectRetry}, nil
	}
	if namespaceTerminating(err) {
		return ctrl.Result{}, nil
	}
	return ctrl.Result{}, err
}

// requeueBefore brings a result forward to the earliest of some times; a zero time is none.
func requeueBefore(result ctrl.Result, at time.Time, times ...time.Time) ctrl.Result {
	for _, t := range times {
		if t.IsZero() {
			continue
		}
		// Never zero, which would mean never.
		if wait := max(t.Sub(at), time.Millisecond); result.RequeueAfter == 0 || wait < result.RequeueAfter {
			result.RequeueAfter = wait
		}
	}
	return result
}

// applyStatus applies want, a status of an object of a kind, if it differs from have, what our field manager owns of the status that is there. The
// request carries a resourceVersion: if the object has changed since, it is refused, and the change itself wakes the controller
// to decide again. It says whether the status was written.
func applyStatus[S any](ctx context.Context, c Client, kind string, have, want *S, apply func() runtime.ApplyConfiguration) (bool, error) {
	if equality.Semantic.DeepEqual(have, want) {
		c.countApply(kind, applySkipped)
		return false, nil
	}
	err := sendStatus(ctx, c, kind, apply())
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// sendStatus applies a status: all that our field manager owns of it from then on. The client writes the API server's answer, other
// writers' fields included, into what it is given; that is a copy, so that the caller still has what it wanted.
func sendStatus(ctx context.Context, c Client, kind string, apply runtime.ApplyConfiguration) error {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(apply)
	if err != nil {
		return fmt.Errorf("encoding the status: %w", err)
	}
	err = c.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(&unstructured.Unstructured{Object: content}),
		client.FieldOwner(v1alpha1.OperatorFieldManager), client.ForceOwnership)
	c.countApply(kind, resultOf(err))
	if err != nil {
		return fmt.Errorf("applying the status: %w", err)
	}
	return nil
}
