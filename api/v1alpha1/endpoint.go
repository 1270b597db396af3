// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"maps"
	"net/url"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Bounds of the number of a gateway's pods, and of what an autoscaler aims at.
const (
	maxReplicas       = 100
	maxUtilization    = 1000
	maxServicePort    = 65535
	defaultMinPods    = 1
	defaultCPUPercent = 80
)

// MinPods is minReplicas, the default included.
func (a *Autoscaling) MinPods() int32 {
	if a.MinReplicas != nil {
		return *a.MinReplicas
	}
	return defaultMinPods
}

// TargetCPU is targetCPUUtilizationPercentage, the default included.
func (a *Autoscaling) TargetCPU() int32 {
	if a.TargetCPUUtilizationPercentage != nil {
		return *a.TargetCPUUtilizationPercentage
	}
	return defaultCPUPercent
}

// PublicHost is the host of publicURL, in lower case and without a port; it is empty without a publicURL.
func (e Endpoint) PublicHost() string {
	u, err := url.Parse(e.PublicURL)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Hostname())
}

func (e Endpoint) validate(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if e.PublicURL != "" {
		errs = append(errs, validateURL(path, "publicURL", e.PublicURL)...)
		if strings.Contains(e.PublicURL, "?") {
			errs = append(errs, field.Invalid(path.Child("publicURL"), redactUserinfo(e.PublicURL), "publicURL must not have a query"))
		}
	}
	service := path.Child("service")
	switch e.Service.Type {
	case "", corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer:
	default:
		errs = append(errs, field.NotSupported(service.Child("type"), e.Service.Type,
			[]corev1.ServiceType{corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer}))
	}
	errs = append(errs, between(service.Child("port"), e.Service.ListenPort(), 1, maxServicePort)...)
	annotations := service.Child("annotations")
	errs = append(errs, validateKeys(e.Service.Annotations, annotations)...)
	for _, key := range slices.Sorted(maps.Keys(e.Service.Annotations)) {
		errs = append(errs, atMost(annotations.Key(key), string(e.Service.Annotations[key]), maxAnnotationValue)...)
		if OperatorAnnotation(key) {
			errs = append(errs, field.Forbidden(annotations.Key(key), "this annotation is written by the operator or by Kubernetes itself"))
		}
	}
	return errs
}

func (s *VirtualMCPServerSpec) validateReplicas(spec *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s.Replicas != nil {
		errs = append(errs, between(spec.Child("replicas"), *s.Replicas, 0, maxReplicas)...)
	}
	a, path := s.Autoscaling, spec.Child("autoscaling")
	if a == nil {
		return errs
	}
	if s.Replicas != nil {
		errs = append(errs, field.Forbidden(spec.Child("replicas"), "replicas and autoscaling exclude each other: the autoscaler chooses the number of pods"))
	}
	errs = append(errs, between(path.Child("minReplicas"), a.MinPods(), 1, maxReplicas)...)
	errs = append(errs, between(path.Child("maxReplicas"), a.MaxReplicas, 1, maxReplicas)...)
	errs = append(errs, between(path.Child("targetCPUUtilizationPercentage"), a.TargetCPU(), 1, maxUtilization)...)
	if a.MinPods() > a.MaxReplicas {
		errs = append(errs, field.Invalid(path.Child("minReplicas"), a.MinPods(), "minReplicas must not exceed maxReplicas"))
	}
	if s.Resources != nil {
		if _, requested := s.Resources.Requests[corev1.ResourceCPU]; !requested {
			errs = append(errs, field.Required(spec.Child("resources", "requests").Key("cpu"),
				"autoscaling needs it: the use of CPU is measured in percent of it"))
		}
	}
	return errs
}
