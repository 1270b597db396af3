// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// Most of the operator's memory would be objects that it provisioned itself and only compares with what it wants. So the cache keeps a
// fingerprint of what our field manager owns of them, and of the rest what is asked for: a kilobyte instead of ten or twenty.

// fingerprint identifies what a field manager owns of an object, or wants of it: the SHA-256 sum of its apply configuration as JSON.
type fingerprint [sha256.Size]byte

func newFingerprint(applyConfiguration any) (fingerprint, error) {
	data, err := json.Marshal(applyConfiguration)
	if err != nil {
		return fingerprint{}, fmt.Errorf("encoding: %w", err)
	}
	return sha256.Sum256(data), nil
}

// fields is the fingerprint in the syntax of managed fields, as a field of that name.
func (f fingerprint) fields() string { return fmt.Sprintf(`{"f:%x":{}}`, f[:]) }

// operationFingerprint marks the entry of managedFields that holds a fingerprint in place of fields. It is in no object that comes from
// the API server, which knows Apply and Update alone.
const operationFingerprint metav1.ManagedFieldsOperationType = "Fingerprint"

// fingerprinted is a cache's transformation of objects that the operator provisions: the managed fields become a fingerprint, and trim
// removes what nobody asks for. It returns what is asked of the managed fields.
func fingerprinted[A intent, O client.Object](
	extract func(O, string) (A, error), trim func(O) []metav1.ManagedFieldsEntry,
) cache.TransformFunc {
	return func(object any) (any, error) {
		o, ok := object.(O)
		if !ok {
			return object, nil // a tombstone of the informer
		}
		if _, ok := fingerprintOf(o); ok {
			return o, nil // informers transform some objects twice
		}
		owned, err := extract(o, v1alpha1.OperatorFieldManager)
		if err != nil {
			return o, nil //nolint:nilerr // Whoever compares it reads its managed fields again, and has somebody to tell.
		}
		sum, err := newFingerprint(owned)
		if err != nil {
			return o, nil //nolint:nilerr // As before.
		}
		o.SetManagedFields(append(trim(o), metav1.ManagedFieldsEntry{
			Manager: v1alpha1.OperatorFieldManager, Operation: operationFingerprint, FieldsV1: metav1.NewFieldsV1(sum.fields()),
		}))
		return o, nil
	}
}

// isApplied says whether what our field manager owns of an object is what we want, whether the object has a fingerprint or not.
func isApplied[A intent, O client.Object](live O, want A, extract func(O, string) (A, error)) (bool, error) {
	if fields, ok := fingerprintOf(live); ok {
		sum, err := newFingerprint(want)
		return sum.fields() == fields, err
	}
	have, err := extract(live, v1alpha1.OperatorFieldManager)
	if err != nil {
		return false, fmt.Errorf("reading the managed fields: %w", err)
	}
	return equality.Semantic.DeepEqual(have, want), nil
}

// fingerprintOf is the fingerprint that an object from the cache has in place of its managed fields.
func fingerprintOf(o client.Object) (fields string, ok bool) {
	for _, e := range o.GetManagedFields() {
		if e.Operation == operationFingerprint {
			return e.FieldsV1.GetRawString(), true
		}
	}
	return "", false
}

// ours applies a transformation to what the operator provisions, and another to what others did.
func ours(provisioned, foreign cache.TransformFunc) cache.TransformFunc {
	return func(object any) (any, error) {
		if o, ok := object.(client.Object); ok && o.GetLabels()[v1alpha1.ManagedByLabel] != v1alpha1.ManagedByValue {
			return foreign(object)
		}
		return provisioned(object)
	}
}

func trimNothing[O client.Object](O) []metav1.ManagedFieldsEntry { return nil }

func trimConfigMap(c *corev1.ConfigMap) []metav1.ManagedFieldsEntry {
	c.Data, c.BinaryData = nil, nil
	return nil
}

func trimRoleBinding(b *rbacv1.RoleBinding) []metav1.ManagedFieldsEntry {
	b.Subjects = nil
	return nil
}

func trimAutoscaler(a *autoscalingv2.HorizontalPodAutoscaler) []metav1.ManagedFieldsEntry {
	a.Spec, a.Status = autoscalingv2.HorizontalPodAutoscalerSpec{}, autoscalingv2.HorizontalPodAutoscalerStatus{}
	return nil
}

// trimDeployment leaves what says how a rollout goes, who finds the backends of the pods, and who changed the pod template when.
func trimDeployment(d *appsv1.Deployment) []metav1.ManagedFieldsEntry {
	kept := appsv1.DeploymentSpec{
		Replicas: d.Spec.Replicas, Selector: d.Spec.Selector, ProgressDeadlineSeconds: d.Spec.ProgressDeadlineSeconds,
	}
	if source, ok := d.Spec.Template.Annotations[v1alpha1.OutgoingAuthSourceAnnotation]; ok {
		kept.Template.Annotations = map[string]string{v1alpha1.OutgoingAuthSourceAnnotation: source}
	}
	d.Spec = kept
	var template []metav1.ManagedFieldsEntry
	for _, e := range d.ManagedFields {
		if e.Subresource == "" && holdsTemplate(e.FieldsV1) {
			e.FieldsV1 = metav1.NewFieldsV1(`{"f:spec":{"f:template":{"f:spec":{}}}}`)
			template = append(template, e)
		}
	}
	return template
}
