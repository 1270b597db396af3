// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"cmp"
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Health says how the runtime judges backends, by probes and by the outcome of calls.
//
// +kubebuilder:validation:XValidation:rule="(has(self.timeoutSeconds) ? self.timeoutSeconds : 12) > (has(self.slowSeconds) ? self.slowSeconds : 2)",message="timeoutSeconds must be greater than slowSeconds; unset they are 12 and 2"
type Health struct {
	// intervalSeconds is the time between two probes of a backend that is well. After an error the next probes follow sooner. Unset means 5.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=300
	IntervalSeconds int32 `json:"intervalSeconds,omitempty"`

	// failureThreshold is the number of errors in a row that make a backend unavailable. Unset means 3.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10
	FailureThreshold int32 `json:"failureThreshold,omitempty"`

	// slowSeconds is the time after which an unanswered probe makes a backend degraded: it is served, and the phase says so. Unset means 2.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=60
	SlowSeconds int32 `json:"slowSeconds,omitempty"`

	// timeoutSeconds is the time without any answer, to a probe or to a call, that makes a backend unavailable. Unset means 12.
	// +optional
	// +kubebuilder:validation:Minimum=2
	// +kubebuilder:validation:Maximum=300
	TimeoutSeconds int32 `json:"timeoutSeconds,omitempty"`
}

// Defaults of Health.
const (
	defaultHealthInterval  = 5
	defaultHealthThreshold = 3
	defaultHealthSlow      = 2
	defaultHealthTimeout   = 12
)

// Complete is h with its defaults.
func (h Health) Complete() Health {
	return Health{
		IntervalSeconds:  cmp.Or(h.IntervalSeconds, defaultHealthInterval),
		FailureThreshold: cmp.Or(h.FailureThreshold, defaultHealthThreshold),
		SlowSeconds:      cmp.Or(h.SlowSeconds, defaultHealthSlow),
		TimeoutSeconds:   cmp.Or(h.TimeoutSeconds, defaultHealthTimeout),
	}
}

func (h Health) validate(path *field.Path) field.ErrorList {
	c := h.Complete()
	errs := between(path.Child("intervalSeconds"), c.IntervalSeconds, 1, 300)
	errs = append(errs, between(path.Child("failureThreshold"), c.FailureThreshold, 1, 10)...)
	errs = append(errs, between(path.Child("slowSeconds"), c.SlowSeconds, 1, 60)...)
	errs = append(errs, between(path.Child("timeoutSeconds"), c.TimeoutSeconds, 2, 300)...)
	if c.TimeoutSeconds <= c.SlowSeconds {
		errs = append(errs, field.Invalid(path.Child("timeoutSeconds"), c.TimeoutSeconds, fmt.Sprintf("must be greater than slowSeconds, which is %d", c.SlowSeconds)))
	}
	return errs
}
