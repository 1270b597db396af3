// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// PatchKinds are the kinds that a patch may have as its target: everything that is provisioned for a VirtualMCPServer.
func PatchKinds() []PatchKind {
	return []PatchKind{"ServiceAccount", "Role", "RoleBinding", "ConfigMap", "Lease", "Deployment", "Service", "HorizontalPodAutoscaler"}
}

// Bounds of what a user says about the operand.
const (
	maxPullSecrets     = 16
	maxCommonMetadata  = 16
	maxAnnotationValue = 4096
	maxResources       = 16
)

// OperatorLabel says whether a label is the operator's own, so that no user may set it on an operand.
func OperatorLabel(key string) bool {
	switch key {
	case "app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component", "app.kubernetes.io/part-of", ManagedByLabel:
		return true
	default:
		return ownDomain(key)
	}
}

// OperatorAnnotation says whether an annotation is the operator's own, or one that Kubernetes' controllers write, so that no
// user may set it on an operand.
func OperatorAnnotation(key string) bool {
	return ownDomain(key) || strings.HasPrefix(key, "deployment.kubernetes.io/")
}

func ownDomain(key string) bool {
	prefix, _, found := strings.Cut(key, "/")
	return found && (prefix == GroupVersion.Group || strings.HasSuffix(prefix, "."+GroupVersion.Group))
}

// validate checks what the API server would refuse only after other objects have changed already.
func (r *ComputeResources) validate(path *field.Path) field.ErrorList {
	if r == nil {
		return nil
	}
	errs := append(validateResourceList(r.Requests, path.Child("requests")), validateResourceList(r.Limits, path.Child("limits"))...)
	for _, name := range slices.Sorted(maps.Keys(r.Requests)) {
		request := r.Requests[name]
		if limit, limited := r.Limits[name]; limited && request.Cmp(limit) > 0 {
			errs = append(errs, field.Invalid(path.Child("requests").Key(string(name)), request.String(),
				fmt.Sprintf("must not exceed the limit of %s", limit.String())))
		}
	}
	return errs
}

func validateResourceList(list corev1.ResourceList, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(list) > maxResources {
		errs = append(errs, field.TooMany(path, len(list), maxResources))
	}
	for _, name := range slices.Sorted(maps.Keys(list)) {
		for _, text := range validation.IsQualifiedName(string(name)) {
			errs = append(errs, field.Invalid(path, name, text))
		}
		if quantity := list[name]; quantity.Sign() < 0 {
			errs = append(errs, field.Invalid(path.Key(string(name)), quantity.String(), "must not be negative"))
		}
	}
	return errs
}

func validatePullSecrets(secrets []LocalReference, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(secrets) > maxPullSecrets {
		errs = append(errs, field.TooMany(path, len(secrets), maxPullSecrets))
	}
	seen := map[string]bool{}
	for i, s := range secrets {
		name := path.Index(i).Child("name")
		errs = append(errs, validateObjectName(name, s.Name)...)
		if seen[s.Name] {
			errs = append(errs, field.Duplicate(name, s.Name))
		}
		seen[s.Name] = true
	}
	return errs
}

func (m CommonMetadata) validate(path *field.Path) field.ErrorList {
	labels, annotations := path.Child("labels"), path.Child("annotations")
	errs := append(validateKeys(m.Labels, labels), validateKeys(m.Annotations, annotations)...)
	for _, key := range slices.Sorted(maps.Keys(m.Labels)) {
		for _, text := range validation.IsValidLabelValue(string(m.Labels[key])) {
			errs = append(errs, field.Invalid(labels.Key(key), m.Labels[key], text))
		}
		if OperatorLabel(key) {
			errs = append(errs, field.Forbidden(labels.Key(key), "this label is the operator's own: it finds its objects by it"))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(m.Annotations)) {
		errs = append(errs, atMost(annotations.Key(key), string(m.Annotations[key]), maxAnnotationValue)...)
		if OperatorAnnotation(key) {
			errs = append(errs, field.Forbidden(annotations.Key(key), "this annotation is written by the operator or by Kubernetes itself"))
		}
	}
	return errs
}

func validateKeys[V ~string](m map[string]V, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(m) > maxCommonMetadata {
		errs = append(errs, field.TooMany(path, len(m), maxCommonMetadata))
	}
	for _, key := range slices.Sorted(maps.Keys(m)) {
		for _, text := range validation.IsQualifiedName(key) {
			errs = append(errs, field.Invalid(path, key, text))
		}
	}
	return errs
}

func validatePatches(patches []Patch, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(patches) > MaxPatches {
		errs = append(errs, field.TooMany(path, len(patches), MaxPatches))
	}
	for i, p := range patches {
		if !slices.Contains(PatchKinds(), p.Target.Kind) {
			errs = append(errs, field.NotSupported(path.Index(i).Child("target", "kind"), p.Target.Kind, PatchKinds()))
		}
		if p.Patch == "" {
			errs = append(errs, field.Required(path.Index(i).Child("patch"), "write a strategic merge patch or a JSON patch"))
		}
		errs = append(errs, atMost(path.Index(i).Child("patch"), p.Patch, MaxPatchLength)...)
	}
	return errs
}
