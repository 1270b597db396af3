// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// withoutSecrets is the backend without what it names of some Secrets, which do not exist and which it can do without.
//
// Kubernetes has optional references, too, and yet must not see these. The kubelet looks whenever a container starts, and again and
// again for volumes: a Secret that comes later would be in the pod before anybody asked for its label.
func withoutSecrets(b *v1alpha1.MCPBackend, absent map[string]bool) *v1alpha1.MCPBackend {
	if len(absent) == 0 {
		return b
	}
	b = b.DeepCopy()
	w := b.Spec.Workload
	w.Env = slices.DeleteFunc(w.Env, func(e v1alpha1.EnvVar) bool {
		return e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil && absent[e.ValueFrom.SecretKeyRef.Name]
	})
	w.EnvFrom = slices.DeleteFunc(w.EnvFrom, func(e v1alpha1.EnvFromSource) bool {
		return e.SecretRef != nil && absent[e.SecretRef.Name]
	})
	for i := range w.Volumes {
		v := &w.Volumes[i]
		switch {
		case v.Secret != nil && absent[v.Secret.SecretName]:
			// A projected volume of nothing is what an optional Secret that is not there looks like: a folder to read from.
			v.Secret, v.Projected = nil, &v1alpha1.ProjectedVolume{}
		case v.Projected != nil:
			v.Projected.Sources = slices.DeleteFunc(v.Projected.Sources, func(s v1alpha1.VolumeProjection) bool {
				return s.Secret != nil && absent[s.Secret.Name]
			})
		}
	}
	return b
}

func newWorkloadEnv(e v1alpha1.EnvVar) *corev1ac.EnvVarApplyConfiguration {
	variable := corev1ac.EnvVar().WithName(e.Name)
	if e.ValueFrom == nil {
		return variable.WithValue(e.Value)
	}
	source := corev1ac.EnvVarSource()
	if s := e.ValueFrom.SecretKeyRef; s != nil {
		ref := corev1ac.SecretKeySelector().WithName(s.Name).WithKey(s.Key)
		ref.Optional = optional(s.Optional)
		source.WithSecretKeyRef(ref)
	}
	if c := e.ValueFrom.ConfigMapKeyRef; c != nil {
		ref := corev1ac.ConfigMapKeySelector().WithName(c.Name).WithKey(c.Key)
		ref.Optional = optional(c.Optional)
		source.WithConfigMapKeyRef(ref)
	}
	return variable.WithValueFrom(source)
}

func newWorkloadEnvFrom(e v1alpha1.EnvFromSource) *corev1ac.EnvFromSourceApplyConfiguration {
	source := corev1ac.EnvFromSource()
	if e.Prefix != "" {
		source.WithPrefix(e.Prefix)
	}
	if s := e.SecretRef; s != nil {
		ref := corev1ac.SecretEnvSource().WithName(s.Name)
		ref.Optional = optional(s.Optional)
		source.WithSecretRef(ref)
	}
	if c := e.ConfigMapRef; c != nil {
		ref := corev1ac.ConfigMapEnvSource().WithName(c.Name)
		ref.Optional = optional(c.Optional)
		source.WithConfigMapRef(ref)
	}
	return source
}

func newWorkloadVolume(v v1alpha1.Volume) *corev1ac.VolumeApplyConfiguration {
	volume := corev1ac.Volume().WithName(v.Name)
	switch {
	case v.EmptyDir != nil:
		volume.WithEmptyDir(corev1ac.EmptyDirVolumeSource())
	case v.ConfigMap != nil:
		source := corev1ac.ConfigMapVolumeSource().WithName(v.ConfigMap.Name).WithItems(keysToPaths(v.ConfigMap.Items)...)
		source.Optional = optional(v.ConfigMap.Optional)
		volume.WithConfigMap(source)
	case v.Secret != nil:
		source := corev1ac.SecretVolumeSource().WithSecretName(v.Secret.SecretName).WithItems(keysToPaths(v.Secret.Items)...)
		source.Optional = optional(v.Secret.Optional)
		volume.WithSecret(source)
	case v.PersistentVolumeClaim != nil:
		volume.WithPersistentVolumeClaim(corev1ac.PersistentVolumeClaimVolumeSource().WithClaimName(v.PersistentVolumeClaim.ClaimName))
	case v.Projected != nil:
		// The mode is Kubernetes' own default. It is said, because managedFields do not tell an empty volume from none at all.
		source := corev1ac.ProjectedVolumeSource().WithDefaultMode(corev1.ProjectedVolumeSourceDefaultMode)
		for _, s := range v.Projected.Sources {
			source.WithSources(newWorkloadProjection(s))
		}
		volume.WithProjected(source)
	}
	return volume
}

// newWorkloadProjection leaves no field to the API server's defaults: the list of sources is atomic, so that a default in it would be a
// difference for ever.
func newWorkloadProjection(p v1alpha1.VolumeProjection) *corev1ac.VolumeProjectionApplyConfiguration {
	projection := corev1ac.VolumeProjection()
	switch {
	case p.Secret != nil:
		source := corev1ac.SecretProjection().WithName(p.Secret.Name).WithItems(keysToPaths(p.Secret.Items)...)
		source.Optional = optional(p.Secret.Optional)
		projection.WithSecret(source)
	case p.ConfigMap != nil:
		source := corev1ac.ConfigMapProjection().WithName(p.ConfigMap.Name).WithItems(keysToPaths(p.ConfigMap.Items)...)
		source.Optional = optional(p.ConfigMap.Optional)
		projection.WithConfigMap(source)
	case p.ServiceAccountToken != nil:
		t := p.ServiceAccountToken
		source := corev1ac.ServiceAccountTokenProjection().WithPath(t.Path).WithExpirationSeconds(int64(t.TokenSeconds()))
		if t.Audience != "" {
			source.WithAudience(t.Audience)
		}
		projection.WithServiceAccountToken(source)
	}
	return projection
}

func keysToPaths(items []v1alpha1.KeyToPath) []*corev1ac.KeyToPathApplyConfiguration {
	paths := make([]*corev1ac.KeyToPathApplyConfiguration, len(items))
	for i, item := range items {
		paths[i] = corev1ac.KeyToPath().WithKey(item.Key).WithPath(item.Path)
	}
	return paths
}

// optional is a reference's field of that name: a reference that is not optional does not say so.
func optional(o bool) *bool {
	if !o {
		return nil
	}
	return new(true)
}
