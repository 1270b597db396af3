// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	acv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
)

// authConfigFacts are what one reconciliation of an MCPExternalAuthConfig found out.
type authConfigFacts struct {
	// invalid are the mistakes of the spec; with any of them nothing else was tried.
	invalid field.ErrorList
	// credentials are the Secrets that the spec names.
	credentials credentials
	// failedErr says why the Role could not be provisioned.
	failedErr error
}

// newAuthConfigStatus is the whole status of an MCPExternalAuthConfig; the operator is its only writer.
func newAuthConfigStatus(
	c *v1alpha1.MCPExternalAuthConfig, f authConfigFacts, now time.Time,
) *acv1alpha1.MCPExternalAuthConfigStatusApplyConfiguration {
	built := conditions{old: c.Status.Conditions, generation: c.Generation, now: now}
	ready := f.readyVerdict()
	built.add(v1alpha1.ConditionReady, ready)
	if f.stalled() {
		built.add(v1alpha1.ConditionStalled, isTrue(ready.reason, ready.message))
	}
	return acv1alpha1.MCPExternalAuthConfigStatus().WithObservedGeneration(c.Generation).WithConditions(built.built...)
}

// readyVerdict says whether the credentials may be used. A gateway in static mode relies on it.
func (f *authConfigFacts) readyVerdict() verdict {
	switch {
	case len(f.invalid) > 0:
		return isFalse(v1alpha1.ReasonAuthConfigInvalid, f.invalid.ToAggregate().Error())
	case f.failedErr != nil:
		return failure(f.failedErr)
	case f.credentials.refusal.reason != "":
		return f.credentials.refusal
	default:
		return isTrue(v1alpha1.ReasonCredentialsFound, "the Secrets exist and their owner lets backends use them")
	}
}

// stalled says whether a person has to do something.
func (f *authConfigFacts) stalled() bool {
	if f.failedErr != nil {
		return needsPerson(f.failedErr)
	}
	return len(f.invalid) > 0 || f.credentials.refusal.reason != ""
}
