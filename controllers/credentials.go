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
	// refusedCredentialsRecheck is for a spec that waits for somebody to create or to label a Secret: less than 10 s, jitter included.
	refusedCredentialsRecheck = 8 * time.Second
	// absentCredentialsRecheck is for a spec that does without a Secret that may come; it is about as soon as the kubelet looks.
	absentCredentialsRecheck = time.Minute
	// credentialsRecheck is for a spec whose Secrets may all be used, until somebody deletes one or takes the label away.
	credentialsRecheck = 5 * time.Minute
	// recheckJitter is the most by which a recheck comes late, as a part of its interval: what started together drifts apart.
	recheckJitter = 0.2
)

// credentials are what one look at the Secrets that a spec names found out.
type credentials struct {
	// allowed are the names of the Secrets that exist and carry the label, each once, in the order of the spec.
	allowed []string
	// absent are the names of the Secrets that do not exist and that the spec can do without.
	absent map[string]bool
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
	case len(c.absent) > 0:
		return at.Add(wait.Jitter(absentCredentialsRecheck, recheckJitter))
	default:
		return at.Add(wait.Jitter(credentialsRecheck, recheckJitter))
	}
}

// lookAtCredentials looks at each Secret of uses by its name and asks for its metadata only: whether it exists and carries the label
// is all that the operator wants to know. The error is about the API server, not about a Secret.
func lookAtCredentials(ctx context.Context, live client.Reader, namespace string, uses []v1alpha1.SecretUse) (credentials, error) {
	found := credentials{none: len(uses) == 0}
	var refusals []verdict
	for _, secret := range requiredFirst(uses) {
		refusal, err := secretRefusal(ctx, live, client.ObjectKey{Namespace: namespace, Name: secret.Name})
		switch {
		case err != nil:
			return credentials{}, err
		case refusal.reason == "":
			found.allowed = append(found.allowed, secret.Name)
		case refusal.reason == v1alpha1.ReasonSecretNotFound && secret.Optional:
			if found.absent == nil {
				found.absent = map[string]bool{}
			}
			found.absent[secret.Name] = true
		default:
			refusal.message = secret.Path.String() + ": " + refusal.message
			refusals = append(refusals, refusal)
		}
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

// requiredFirst is one use of each Secret, in the order of the first: one that cannot do without the Secret, if there is such a use.
func requiredFirst(uses []v1alpha1.SecretUse) []v1alpha1.SecretUse {
	var chosen []v1alpha1.SecretUse
	at := map[string]int{}
	for _, use := range uses {
		i, seen := at[use.Name]
		switch {
		case !seen:
			at[use.Name] = len(chosen)
			chosen = append(chosen, use)
		case chosen[i].Optional && !use.Optional:
			chosen[i] = use
		}
	}
	return chosen
}

// secretRefusal says why a Secret may not be used. Whoever may create our kinds must not thereby be able to send any Secret of the
// namespace to a server of their own.
func secretRefusal(ctx context.Context, live client.Reader, key client.ObjectKey) (verdict, error) {
	secret := &metav1.PartialObjectMetadata{}
	secret.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
	err := live.Get(ctx, key, secret)
	switch {
	case apierrors.IsNotFound(err):
		return isFalse(v1alpha1.ReasonSecretNotFound, fmt.Sprintf("Secret %q does not exist in namespace %q; create it with the label %s: \"true\"",
			key.Name, key.Namespace, v1alpha1.CredentialLabel)), nil
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
