// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// How soon the operator looks again at the Secrets that a spec names. It watches no Secret, because a watch of Secrets at large is a
// right to read them all.
const (
	// refusedCredentialsRecheck is for a spec that waits for somebody to create or to label a Secret.
	refusedCredentialsRecheck = 10 * time.Second
	// credentialsRecheck is for a spec whose Secrets may all be used, until somebody deletes one or takes the label away.
	credentialsRecheck = 5 * time.Minute
	// recheckJitter is the most by which a recheck comes late, as a part of its interval: what started together drifts apart.
	recheckJitter = 0.2
)

// credentials are what one look at the Secrets that a spec names found out.
type credentials struct {
	// allowed are the names of the Secrets that exist and carry the label, each once, in the order of the spec.
	allowed []string
	// refusal says why the others may not be used; its zero value says that there are no others.
	refusal verdict
	// none is true if the spec names no Secret.
	none bool
}

// recheckAt is when to look again, after a look at a time; zero if there is nothing to look at.
func (c credentials) recheckAt(at time.Time) time.Time {
	switch {
	case c.none:
		return time.Time{}
	case c.refusal.reason != "":
		return at.Add(wait.Jitter(refusedCredentialsRecheck, recheckJitter))
	default:
		return at.Add(wait.Jitter(credentialsRecheck, recheckJitter))
	}
}

// lookAtCredentials looks at each Secret of uses by its name and asks for its metadata only: whether it exists and carries the label
// is all that the operator wants to know. The error is about the API server, not about a Secret.
func lookAtCredentials(ctx context.Context, live client.Reader, namespace string, uses []v1alpha1.SecretUse) (credentials, error) {
	found := credentials{none: len(uses) == 0}
	var refusals []verdict
	seen := map[string]bool{}
	for _, use := range uses {
		if seen[use.Name] {
			continue
		}
		seen[use.Name] = true
		refusal, err := secretRefusal(ctx, live, client.ObjectKey{Namespace: namespace, Name: use.Name})
		if err != nil {
			return credentials{}, err
		}
		if refusal.reason == "" {
			found.allowed = append(found.allowed, use.Name)
			continue
		}
		refusal.message = use.Path.String() + ": " + refusal.message
		refusals = append(refusals, refusal)
	}
	if len(refusals) > 0 {
		messages := make([]string, len(refusals))
		for i, r := range refusals {
			messages[i] = r.message
		}
		found.refusal = isFalse(refusals[0].reason, strings.Join(messages, "; "))
	}
	return found, nil
}

// secretRefusal says why a Secret may not be used. Whoever may create our kinds must not thereby be able to send any Secret of the
// namespace to a server of their own.
func secretRefusal(ctx context.Context, live client.Reader, key client.ObjectKey) (verdict, error) {
	secret := &metav1.PartialObjectMetadata{}
	secret.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
	err := live.Get(ctx, key, secret)
	switch {
	case apierrors.IsNotFound(err):
		return isFalse(v1alpha1.ReasonSecretNotFound, fmt.Sprintf("Secret %q does not exist in namespace %q", key.Name, key.Namespace)), nil
	case apierrors.IsForbidden(err):
		return isFalse(v1alpha1.ReasonSecretUnreadable, fmt.Sprintf("the operator may not look at Secret %q", key.Name)), nil
	case err != nil:
		return verdict{}, fmt.Errorf("looking at Secret %s: %w", key.Name, err)
	case secret.Labels[v1alpha1.CredentialLabel] != "true":
		return isFalse(v1alpha1.ReasonSecretNotAllowed,
			fmt.Sprintf("Secret %q does not carry the label %s: \"true\", by which its owner lets backends use it",
				key.Name, v1alpha1.CredentialLabel)), nil
	default:
		return verdict{}, nil
	}
}
