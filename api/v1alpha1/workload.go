// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"fmt"
	"regexp"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// MaxWorkloadSecrets is the most different Secrets that a workload may name, imagePullSecrets aside. The operator asks for each of
// them by its name, again and again.
const MaxWorkloadSecrets = 32

// Bounds of a workload that the schema has, too.
const (
	maxWorkloadReplicas = 100
	maxFilePath         = 512
	minTokenSeconds     = 600
	maxTokenSeconds     = 86400
)

// DefaultTokenSeconds is how long a serviceAccountToken is valid if the spec does not say.
const DefaultTokenSeconds int32 = 3600

// filePath is a relative path none of whose elements is . or begins with two dots; the kubelet keeps those names for itself.
var filePath = regexp.MustCompile(`^(\.?[A-Za-z0-9_-][A-Za-z0-9._-]*/)*\.?[A-Za-z0-9_-][A-Za-z0-9._-]*$`)

// ListenPort is the TCP port of the workload, the default included.
func (w *Workload) ListenPort() int32 {
	if w.Port != 0 {
		return w.Port
	}
	return DefaultWorkloadPort
}

// EndpointPath is the HTTP path of the workload, the default included.
func (w *Workload) EndpointPath() string { return pathOrDefault(w.Path) }

// TokenSeconds is how long a token is valid, the default included.
func (t *ServiceAccountTokenProjection) TokenSeconds() int32 {
	if t.ExpirationSeconds != 0 {
		return t.ExpirationSeconds
	}
	return DefaultTokenSeconds
}

// SecretUses are the places at which w names Secrets that its container can read, in the order of the fields. Those in
// imagePullSecrets are not among them: the kubelet uses them, and the container never sees them.
func (w *Workload) SecretUses() []SecretUse {
	var uses []SecretUse
	add := func(path *field.Path, name string, optional bool) {
		uses = append(uses, SecretUse{Path: path, Name: name, Optional: optional})
	}
	workload := field.NewPath("spec", "workload")
	for i, e := range w.Env {
		if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
			ref := e.ValueFrom.SecretKeyRef
			add(workload.Child("env").Index(i).Child("valueFrom", "secretKeyRef"), ref.Name, ref.Optional)
		}
	}
	for i, e := range w.EnvFrom {
		if e.SecretRef != nil {
			add(workload.Child("envFrom").Index(i).Child("secretRef"), e.SecretRef.Name, e.SecretRef.Optional)
		}
	}
	for i, v := range w.Volumes {
		volume := workload.Child("volumes").Index(i)
		if v.Secret != nil {
			add(volume.Child("secret"), v.Secret.SecretName, v.Secret.Optional)
		}
		if v.Projected == nil {
			continue
		}
		for j, s := range v.Projected.Sources {
			if s.Secret != nil {
				add(volume.Child("projected", "sources").Index(j).Child("secret"), s.Secret.Name, s.Secret.Optional)
			}
		}
	}
	return uses
}

func (w *Workload) validate(path *field.Path) field.ErrorList {
	errs := validatePullSecrets(w.ImagePullSecrets, path.Child("imagePullSecrets"))
	for i, e := range w.Env {
		errs = append(errs, e.validate(path.Child("env").Index(i))...)
	}
	for i, e := range w.EnvFrom {
		errs = append(errs, e.validate(path.Child("envFrom").Index(i))...)
	}
	if w.Replicas != nil {
		errs = append(errs, between(path.Child("replicas"), *w.Replicas, 0, maxWorkloadReplicas)...)
	}
	errs = append(errs, w.Resources.validate(path.Child("resources"))...)
	for i, v := range w.Volumes {
		errs = append(errs, v.validate(path.Child("volumes").Index(i), w.ServiceAccountName)...)
	}
	secrets := map[string]bool{}
	for _, use := range w.SecretUses() {
		secrets[use.Name] = true
	}
	if len(secrets) > MaxWorkloadSecrets {
		errs = append(errs, field.Invalid(path, fmt.Sprintf("%d Secrets", len(secrets)),
			fmt.Sprintf("env, envFrom and volumes may name at most %d different Secrets", MaxWorkloadSecrets)))
	}
	return errs
}

func (e EnvVar) validate(path *field.Path) field.ErrorList {
	if e.ValueFrom == nil {
		return nil
	}
	if e.Value != "" {
		// The value is left out: it may be a secret in the wrong place.
		return field.ErrorList{field.Forbidden(path.Child("valueFrom"), "a variable has value or valueFrom, not both")}
	}
	path = path.Child("valueFrom")
	secret, configMap := e.ValueFrom.SecretKeyRef, e.ValueFrom.ConfigMapKeyRef
	switch {
	case (secret != nil) == (configMap != nil):
		return field.ErrorList{oneOf(path, "secretKeyRef", "configMapKeyRef")}
	case secret != nil:
		return validateKeyReference(path.Child("secretKeyRef"), secret.Name, secret.Key)
	default:
		return validateKeyReference(path.Child("configMapKeyRef"), configMap.Name, configMap.Key)
	}
}

func (e EnvFromSource) validate(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if e.Prefix != "" {
		for _, text := range validation.IsEnvVarName(e.Prefix) {
			errs = append(errs, field.Invalid(path.Child("prefix"), e.Prefix, text))
		}
	}
	switch {
	case (e.SecretRef != nil) == (e.ConfigMapRef != nil):
		return append(errs, oneOf(path, "secretRef", "configMapRef"))
	case e.SecretRef != nil:
		return append(errs, validateObjectName(path.Child("secretRef", "name"), e.SecretRef.Name)...)
	default:
		return append(errs, validateObjectName(path.Child("configMapRef", "name"), e.ConfigMapRef.Name)...)
	}
}
