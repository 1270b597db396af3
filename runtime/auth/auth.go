// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package auth is how the gateway authenticates to backends: which credentials, where they come from, and how they get onto the
// requests. What a client of the gateway sends as its own credentials plays no part in it.
package auth

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// Strategy is how the gateway authenticates to one backend. It holds intent only, never a credential, and is comparable. The zero
// Strategy is to send no credentials.
type Strategy struct {
	// Config names the MCPExternalAuthConfig that was chosen; it is set whenever credentials are wanted.
	Config string
	// Type is what that MCPExternalAuthConfig says; empty if it cannot be used.
	Type v1alpha1.ExternalAuthType
	// Header holds the settings of type headerInjection.
	Header v1alpha1.HeaderInjection
}

// StrategyOf is the strategy of a valid MCPExternalAuthConfig. An empty spec is that of one that cannot be used.
func StrategyOf(config string, spec v1alpha1.MCPExternalAuthConfigSpec) Strategy {
	s := Strategy{Config: config, Type: spec.Type}
	if spec.HeaderInjection != nil {
		s.Header = *spec.HeaderInjection
	}
	return s
}

// UnusableError says why credentials cannot be used. The backend must not be called then, least of all without them.
type UnusableError struct {
	// Reason is one of the reasons of v1alpha1, such as SecretNotFound.
	Reason string
	// Message is a sentence that names what is wrong and what to do about it. It holds no credential.
	Message string
}

// Error implements error.
func (p *UnusableError) Error() string { return p.Message }

// problem makes an UnusableError of the Secret that a strategy names.
func (s Strategy) problem(reason, format string, args ...any) *UnusableError {
	return &UnusableError{Reason: reason, Message: fmt.Sprintf("Secret %q, which MCPExternalAuthConfig %q names, ", s.Header.SecretRef.Name, s.Config) +
		fmt.Sprintf(format, args...)}
}

// FromSecret takes the credential out of the Secret that s names; nil says that there is none. The error is an *UnusableError.
func (s Strategy) FromSecret(secret *corev1.Secret) (Credential, error) {
	key := s.Header.SecretRef.Key
	switch {
	case secret == nil:
		return Credential{}, s.problem(v1alpha1.ReasonSecretNotFound,
			"does not exist; create it with the key %q and the label %s: \"true\"", key, v1alpha1.CredentialLabel)
	case secret.Labels[v1alpha1.CredentialLabel] != "true":
		return Credential{}, s.problem(v1alpha1.ReasonSecretNotAllowed,
			"may not be used as a credential; label it %s: \"true\"", v1alpha1.CredentialLabel)
	}
	value, there := secret.Data[key]
	if !there {
		return Credential{}, s.problem(v1alpha1.ReasonSecretKeyNotFound, "has no key %q", key)
	}
	return s.Parse(value)
}

// Parse makes a credential of the value of the key that s names. The error is an *UnusableError.
func (s Strategy) Parse(value []byte) (Credential, error) {
	c, err := headerValue(value)
	if err != nil {
		return Credential{}, s.problem(v1alpha1.ReasonSecretUnusable, "cannot be used: the value of key %q %v", s.Header.SecretRef.Key, err)
	}
	return c, nil
}

// Unreadable is the UnusableError of a Secret that could not be read.
func (s Strategy) Unreadable(why string) *UnusableError {
	return s.problem(v1alpha1.ReasonSecretUnreadable, "cannot be read: %s", why)
}
