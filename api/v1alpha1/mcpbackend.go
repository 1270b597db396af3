// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"fmt"
	"strconv"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// BackendSource says where a backend is.
//
// +kubebuilder:validation:Enum=workload;service;remote
type BackendSource string

const (
	// BackendSourceWorkload is a backend that the operator runs.
	BackendSourceWorkload BackendSource = "workload"
	// BackendSourceService is a backend behind a Service that somebody else runs.
	BackendSourceService BackendSource = "service"
	// BackendSourceRemote is a backend at a URL.
	BackendSourceRemote BackendSource = "remote"
)

// WorkloadName is the name of the Deployment and the Service of a workload backend.
func WorkloadName(backend string) string { return "mcpb-" + backend }

// Source says which of workload, service and remote is set, or "" if none is.
func (b *MCPBackend) Source() BackendSource {
	switch {
	case b.Spec.Workload != nil:
		return BackendSourceWorkload
	case b.Spec.Service != nil:
		return BackendSourceService
	case b.Spec.Remote != nil:
		return BackendSourceRemote
	default:
		return ""
	}
}

// URL is the address of the backend's MCP endpoint. It depends on nothing but the backend's name, namespace and spec, so
// that whoever may read the spec knows the address without trusting another object's status. It is "" for a spec without a
// source.
func (b *MCPBackend) URL() string {
	switch b.Source() {
	case BackendSourceWorkload:
		return serviceURL(WorkloadName(b.Name), b.Namespace, b.Spec.Workload.ListenPort(), b.Spec.Workload.Path)
	case BackendSourceService:
		return serviceURL(b.Spec.Service.Name, b.Namespace, b.Spec.Service.Port, b.Spec.Service.Path)
	case BackendSourceRemote:
		return b.Spec.Remote.URL
	default:
		return ""
	}
}

// WireTransport is the transport that the gateway speaks to the backend: a stdio server is reached through its bridge.
func (b *MCPBackend) WireTransport() Transport {
	if b.Spec.Transport == TransportSSE {
		return TransportSSE
	}
	return TransportStreamableHTTP
}

func serviceURL(service, namespace string, port int32, path string) string {
	return urlOfService("http", 80, service, namespace, port, path)
}

func urlOfService(scheme string, defaultPort int32, service, namespace string, port int32, path string) string {
	host := service + "." + namespace + ".svc"
	if port != defaultPort {
		host += ":" + strconv.Itoa(int(port))
	}
	return scheme + "://" + host + pathOrDefault(path)
}

func pathOrDefault(path string) string {
	if path != "" {
		return path
	}
	return DefaultPath
}

// Validate checks what the schema of the CRD demands, for objects that never passed an API server (vmcp serve -f) or were
// stored under an older schema.
func (b *MCPBackend) Validate() field.ErrorList {
	errs := validateName(b)
	spec := field.NewPath("spec")
	if b.Spec.GroupRef.Name == "" {
		errs = append(errs, field.Required(spec.Child("groupRef", "name"), "name the MCPGroup that the backend belongs to"))
	}
	switch b.Spec.Transport {
	case "", TransportStreamableHTTP, TransportSSE, TransportStdio:
	default:
		errs = append(errs, field.NotSupported(spec.Child("transport"), b.Spec.Transport,
			[]Transport{TransportStreamableHTTP, TransportSSE, TransportStdio}))
	}
	if sources := count(b.Spec.Workload != nil, b.Spec.Service != nil, b.Spec.Remote != nil); sources != 1 {
		errs = append(errs, field.Invalid(spec, fmt.Sprintf("%d of them set", sources),
			"exactly one of workload, service and remote must be set"))
	}
	if b.Spec.Transport == TransportStdio {
		switch {
		case b.Spec.Workload == nil:
			errs = append(errs, field.Invalid(spec.Child("transport"), b.Spec.Transport,
				"transport stdio is for workload only: a service or remote backend is reached over HTTP"))
		case len(b.Spec.Workload.Command) == 0:
			errs = append(errs, field.Required(spec.Child("workload", "command"),
				"required with transport stdio: the bridge starts the server and cannot read the image's entry point"))
		}
	}
	if b.Spec.ExternalAuthConfigRef != nil {
		errs = append(errs, b.Spec.ExternalAuthConfigRef.validate(spec.Child("externalAuthConfigRef"))...)
	}
	if b.Spec.Workload != nil {
		errs = append(errs, b.Spec.Workload.validate(spec.Child("workload"))...)
	}
	if b.Spec.Remote != nil {
		errs = append(errs, validateURL(spec.Child("remote"), "url", b.Spec.Remote.URL)...)
	}
	return errs
}
