// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/controllers/operand"
)

// The life of a session key. All pods have it as next for a day before any of them seals with it; for another day it is current; then
// it is previous until the last session has ended that a pod may have sealed with it.
const (
	// sessionKeyPeriod is how long a key seals. 2^32 seals are allowed with one (NIST SP 800-38D, section 8.3), 50,000 a second for a day.
	sessionKeyPeriod = 24 * time.Hour
	// sessionKeySpread is how long it may take until every pod has what the Secret holds. The kubelet needs a minute or two, unless its
	// node is cut off from the API server.
	sessionKeySpread = time.Hour
	// maxRotationRequest bounds what is kept of a request for a rotation, in bytes.
	maxRotationRequest = 253
)

// sessionKeys are the keys of a gateway and what is known of their age. Treat the keys as immutable; those that are not there are nil.
type sessionKeys struct {
	previous, current, next []byte
	// rotated is when current began to seal, and previous ceased to.
	rotated time.Time
	// added is when next came in.
	added time.Time
	// request is the last request for a rotation that was carried out.
	request string
}

// turn is what the keys are to be at a time, and when to look at them again: equal keys mean that nothing is due. A rotation that
// somebody requests comes as soon as it can without ending a session; one that is due anyway fulfils it.
//
// It heals what was lost: a missing current key is replaced by the next one, if all pods have that, and times that nobody can know by
// the present one, so that keys are kept too long rather than dropped too early.
func (k sessionKeys) turn(request string, at time.Time, newKey func() []byte) (turned sessionKeys, due time.Time) {
	at = at.UTC().Truncate(time.Second)
	k.rotated, k.added = credible(k.rotated, at), credible(k.added, at)
	if k.current == nil {
		if k.next != nil && !at.Before(k.added.Add(sessionKeySpread)) {
			k.current, k.next = k.next, nil
		} else {
			k.current = newKey()
		}
		k.rotated, k.request = at, request
	}
	if k.next == nil {
		k.next, k.added = newKey(), at
	}
	if k.previous != nil && !at.Before(k.dropPrevious()) {
		k.previous = nil
	}
	if !at.Before(k.rotation(request)) {
		k.previous, k.current, k.next = k.current, k.next, newKey()
		k.rotated, k.added, k.request = at, at, request
	}
	if k.previous != nil {
		return k, k.dropPrevious() // a rotation is never earlier
	}
	return k, k.rotation(request)
}

// dropPrevious is when no session is left that the previous key sealed: the last pods went on sealing with it until they had the present
// keys.
func (k sessionKeys) dropPrevious() time.Time {
	return k.rotated.Add(sessionKeySpread + configv1alpha1.SessionLife)
}

// rotation is when the keys are to be rotated. It is never before every pod has the next key and none needs the previous one.
func (k sessionKeys) rotation(request string) time.Time {
	at := k.added.Add(sessionKeySpread)
	if k.previous != nil {
		at = latest(at, k.dropPrevious())
	}
	if request != "" && request != k.request {
		return at
	}
	return latest(at, k.rotated.Add(sessionKeyPeriod))
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// credible is t unless it is unknown or of a future that no clock of a sane cluster can have told of.
func credible(t, at time.Time) time.Time {
	if t.IsZero() || t.After(at.Add(sessionKeySpread)) {
		return at
	}
	return t
}

// sessionKeysOf reads the keys from a Secret. What cannot be used of it is left out.
func sessionKeysOf(s *corev1.Secret) sessionKeys {
	key := func(name string) []byte {
		if key := s.Data[name]; len(key) == configv1alpha1.SessionKeySize {
			return key
		}
		return nil
	}
	since := func(annotation string) time.Time {
		t, err := time.Parse(time.RFC3339, s.Annotations[annotation])
		if err != nil {
			return time.Time{}
		}
		return t.UTC()
	}
	return sessionKeys{
		previous: key(configv1alpha1.SessionKeyPrevious),
		current:  key(configv1alpha1.SessionKeyCurrent),
		next:     key(configv1alpha1.SessionKeyNext),
		rotated:  since(v1alpha1.SessionKeysRotatedAnnotation),
		added:    since(v1alpha1.SessionKeysNextSinceAnnotation),
		request:  s.Annotations[v1alpha1.RotateSessionKeysAnnotation],
	}
}

// rotationRequest is what a gateway's owner asks for, "" for nothing.
func rotationRequest(s *v1alpha1.VirtualMCPServer) string {
	request := s.Annotations[v1alpha1.RotateSessionKeysAnnotation]
	return strings.ToValidUTF8(request[:min(len(request), maxRotationRequest)], "")
}

// newSessionKeysSecret is the Secret that the pods of a gateway mount.
func newSessionKeysSecret(s *v1alpha1.VirtualMCPServer, k sessionKeys) *corev1ac.SecretApplyConfiguration {
	secret := corev1ac.Secret(v1alpha1.OperandName(s.Name), s.Namespace).
		WithLabels(operand.Labels(s.Name, s.Spec.CommonMetadata)).
		WithAnnotations(operand.Plain(s.Spec.CommonMetadata.Annotations)).
		WithAnnotations(map[string]string{
			v1alpha1.SessionKeysRotatedAnnotation:   k.rotated.UTC().Format(time.RFC3339),
			v1alpha1.SessionKeysNextSinceAnnotation: k.added.UTC().Format(time.RFC3339),
		}).
		WithOwnerReferences(ownerReference(s)).
		WithType(v1alpha1.SessionKeysSecretType).
		WithData(map[string][]byte{configv1alpha1.SessionKeyCurrent: k.current, configv1alpha1.SessionKeyNext: k.next})
	if k.previous != nil {
		secret.WithData(map[string][]byte{configv1alpha1.SessionKeyPrevious: k.previous})
	}
	if k.request != "" {
		secret.WithAnnotations(map[string]string{v1alpha1.RotateSessionKeysAnnotation: k.request})
	}
	return secret
}
