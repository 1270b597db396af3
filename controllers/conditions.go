// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// maxMessage is the most bytes that a condition's message has here. The API allows 32768; nobody reads that.
const maxMessage = 1024

// verdict is what a condition says, without its type and times.
type verdict struct {
	status  metav1.ConditionStatus
	reason  string
	message string
}

func isTrue(reason, message string) verdict  { return verdict{metav1.ConditionTrue, reason, message} }
func isFalse(reason, message string) verdict { return verdict{metav1.ConditionFalse, reason, message} }
func isUnknown(reason, message string) verdict {
	return verdict{metav1.ConditionUnknown, reason, message}
}

// blocked is for a step that was not tried, so that nothing is known about its outcome.
func blocked(by string) verdict {
	return isUnknown(v1alpha1.ReasonBlocked, "not examined: "+by)
}

// conditions builds the conditions of one status. The time of a transition is kept from what is there unless the status changes,
// so that building them again gives the same.
type conditions struct {
	old        []metav1.Condition
	generation int64
	now        time.Time
	built      []*metav1ac.ConditionApplyConfiguration
}

func (c *conditions) add(conditionType string, v verdict) {
	since := metav1.NewTime(c.now.Truncate(time.Second))
	if old := meta.FindStatusCondition(c.old, conditionType); old != nil && old.Status == v.status {
		since = old.LastTransitionTime
	}
	c.built = append(c.built, metav1ac.Condition().
		WithType(conditionType).
		WithStatus(v.status).
		WithReason(v.reason).
		WithMessage(truncate(v.message, maxMessage)).
		WithObservedGeneration(c.generation).
		WithLastTransitionTime(since))
}

// sortConditions orders conditions by type. The order in which the API server keeps them depends on who wrote first.
func sortConditions(c []metav1ac.ConditionApplyConfiguration) []metav1ac.ConditionApplyConfiguration {
	c = slices.Clone(c)
	slices.SortFunc(c, func(a, b metav1ac.ConditionApplyConfiguration) int {
		return strings.Compare(ptr.Deref(a.Type, ""), ptr.Deref(b.Type, ""))
	})
	return c
}

// verdictOf is what the condition of a type says; a condition that is not there says nothing.
func verdictOf(conditions []metav1ac.ConditionApplyConfiguration, conditionType string) verdict {
	for _, c := range conditions {
		if ptr.Deref(c.Type, "") == conditionType {
			return verdict{ptr.Deref(c.Status, ""), ptr.Deref(c.Reason, ""), ptr.Deref(c.Message, "")}
		}
	}
	return verdict{}
}

// truncate shortens s to at most n bytes of whole characters.
func truncate(s string, n int) string {
	const ellipsis = "…"
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n-len(ellipsis)], "") + ellipsis
}

// deploymentVerdict says whether a Deployment has rolled out its template: the controller has seen the present generation, and
// updated = available = wanted.
func deploymentVerdict(d *appsv1.Deployment) verdict {
	wanted := ptr.Deref(d.Spec.Replicas, 1)
	s := d.Status
	if s.ObservedGeneration < d.Generation {
		return isFalse(v1alpha1.ReasonProgressing, "the change of the Deployment is about to be rolled out")
	}
	for _, c := range s.Conditions {
		if c.Type == appsv1.DeploymentProgressing && c.Reason == v1alpha1.ReasonProgressDeadlineExceeded {
			return isFalse(v1alpha1.ReasonProgressDeadlineExceeded, c.Message)
		}
		if c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue {
			return isFalse(v1alpha1.ReasonProgressing, c.Message)
		}
	}
	switch {
	case s.UpdatedReplicas < wanted:
		return isFalse(v1alpha1.ReasonProgressing, fmt.Sprintf("%d of %d pods run the present template", s.UpdatedReplicas, wanted))
	case s.Replicas > s.UpdatedReplicas:
		return isFalse(v1alpha1.ReasonProgressing, fmt.Sprintf("%d pods of an earlier template still run", s.Replicas-s.UpdatedReplicas))
	case s.AvailableReplicas < wanted:
		return isFalse(v1alpha1.ReasonProgressing, fmt.Sprintf("%d of %d pods are available", s.AvailableReplicas, wanted))
	default:
		return isTrue(v1alpha1.ReasonAvailable, fmt.Sprintf("%d of %d pods are available", s.AvailableReplicas, wanted))
	}
}

// failure turns the error of an ensure into a verdict.
func failure(err error) verdict {
	if notOwned, ok := errors.AsType[*notOwnedError](err); ok {
		return isFalse(v1alpha1.ReasonNotOwned, notOwned.Error())
	}
	return isFalse(v1alpha1.ReasonApplyFailed, err.Error())
}

// needsPerson says whether an error of ensure stays until somebody does something: another's object is in the way, or the API
// server refuses what we apply.
func needsPerson(err error) bool {
	if notOwned, ok := errors.AsType[*notOwnedError](err); ok {
		return !notOwned.predecessor
	}
	return apierrors.IsForbidden(err) || apierrors.IsInvalid(err)
}

// namespaceTerminating says that an error is due to the namespace being deleted: there is nothing left to do and nobody to tell.
func namespaceTerminating(err error) bool {
	return apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}
