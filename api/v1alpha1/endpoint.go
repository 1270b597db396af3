// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"maps"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// MaxAllowedHosts is the most entries of spec.endpoint.allowedHosts, and of allowedOrigins.
const MaxAllowedHosts = 64

// maxOrigin is the most characters of an origin: scheme, host and port.
const maxOrigin = 320

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

// Origins are allowedOrigins.
func (e Endpoint) Origins() []string { return texts(e.AllowedOrigins) }

// Hosts are allowedHosts; if they are unset, those that the gateway has by itself, and the host of publicURL.
func (e Endpoint) Hosts(own []string) []string {
	if len(e.AllowedHosts) > 0 {
		return texts(e.AllowedHosts)
	}
	if public := e.PublicHost(); public != "" && !slices.Contains(own, public) {
		own = append(slices.Clip(own), public)
	}
	return own
}

func texts[T ~string](values []T) []string {
	var texts []string
	for _, v := range values {
		texts = append(texts, string(v))
	}
	return texts
}

// allowedOrigin is the rule of AllowedOrigin.
var allowedOrigin = regexp.MustCompile(`^https?://([a-zA-Z0-9.-]+|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?$`)

func validateHosts(path *field.Path, hosts []AllowedHost) field.ErrorList {
	var errs field.ErrorList
	if len(hosts) > MaxAllowedHosts {
		errs = append(errs, field.TooMany(path, len(hosts), MaxAllowedHosts))
	}
	seen := map[string]bool{}
	for i, host := range hosts {
		errs = append(errs, once(path.Index(i), string(host), seen)...)
		if net.ParseIP(string(host)) == nil && len(validation.IsDNS1123Subdomain(string(host))) > 0 {
			errs = append(errs, field.Invalid(path.Index(i), host, "an allowed host is a DNS name in lower case, or an IP address, without a port"))
		}
	}
	return errs
}

func validateOrigins(path *field.Path, origins []AllowedOrigin) field.ErrorList {
	var errs field.ErrorList
	if len(origins) > MaxAllowedHosts {
		errs = append(errs, field.TooMany(path, len(origins), MaxAllowedHosts))
	}
	seen := map[string]bool{}
	for i, origin := range origins {
		errs = append(errs, required(path.Index(i), string(origin), maxOrigin)...)
		errs = append(errs, once(path.Index(i), string(origin), seen)...)
		if _, err := url.Parse(string(origin)); err != nil || !allowedOrigin.MatchString(string(origin)) {
			errs = append(errs, field.Invalid(path.Index(i), redactUserinfo(string(origin)),
				"an allowed origin is http or https, a host and perhaps a port, with nothing behind: https://app.example.com"))
		}
	}
	return errs
}

func (e Endpoint) validate(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if e.PublicURL != "" {
		errs = append(errs, validateURL(path, "publicURL", e.PublicURL)...)
		if strings.Contains(e.PublicURL, "?") {
			errs = append(errs, field.Invalid(path.Child("publicURL"), redactUserinfo(e.PublicURL), "publicURL must not have a query"))
		}
	}
	errs = append(errs, validateHosts(path.Child("allowedHosts"), e.AllowedHosts)...)
	errs = append(errs, validateOrigins(path.Child("allowedOrigins"), e.AllowedOrigins)...)
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
