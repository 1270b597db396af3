// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"errors"
	"fmt"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/auth"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
)

// Authenticate is t with the credentials that were chosen for it. It is refused if they cannot be used: a backend that is meant to
// be called with credentials is never called without.
func Authenticate(t backend.Target, chosen v1alpha1.ResolvedAuth, get func(auth.Strategy) (auth.Credential, error)) backend.Target {
	if chosen.Config == "" {
		return t
	}
	t.Auth = auth.StrategyOf(chosen.Config, chosen.Spec)
	if t.Refused != (backend.Refusal{}) {
		return t
	}
	if chosen.Reason != "" {
		t.Refused = unauthenticated(&auth.UnusableError{Reason: chosen.Reason, Message: chosen.Message})
		return t
	}
	if t.Auth.Type != v1alpha1.ExternalAuthTypeHeaderInjection { // of a configuration for a newer runtime
		t.Refused = unauthenticated(&auth.UnusableError{
			Reason:  v1alpha1.ReasonAuthConfigInvalid,
			Message: fmt.Sprintf("MCPExternalAuthConfig %q has the type %q, which this version of the runtime does not know", chosen.Config, t.Auth.Type),
		})
		return t
	}
	credential, err := get(t.Auth)
	if err != nil {
		t.Refused = unauthenticated(err)
		return t
	}
	t.Credential = credential
	return t
}

func unauthenticated(err error) backend.Refusal {
	r := backend.Refusal{Status: v1alpha1.BackendUnauthenticated, Reason: v1alpha1.ReasonSecretUnreadable, Message: err.Error()}
	if problem, ok := errors.AsType[*auth.UnusableError](err); ok {
		r.Reason = problem.Reason
	}
	return r
}
