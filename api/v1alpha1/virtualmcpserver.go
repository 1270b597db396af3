// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"cmp"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// OperandName is the name of everything that the operator provisions for a VirtualMCPServer, but for one Service: ServiceAccount, Role,
// RoleBinding, ConfigMap, Lease, Deployment and Service, and the Secret with its session keys.
func OperandName(virtualMCPServer string) string { return "vmcp-" + virtualMCPServer }

// PeersServiceName is the name of the headless Service by which the pods of a VirtualMCPServer find each other. No VirtualMCPServer and no
// MCPBackend has an object of this name.
func PeersServiceName(virtualMCPServer string) string { return "mcp-peers-" + virtualMCPServer }

// Ports of the runtime.
const (
	// GatewayPort is the TCP port of the MCP endpoint in the runtime's pod.
	GatewayPort int32 = 4483
	// AdminPort is the TCP port of /livez, /readyz and /metrics in the runtime's pod.
	AdminPort int32 = 4484
	// PeerPort is the TCP port at which the pods of one gateway reach each other.
	PeerPort int32 = 4485
	// ServicePort is the TCP port of the runtime's Service, unless spec.endpoint.service.port says otherwise.
	ServicePort int32 = 80
	// EndpointPath is the HTTP path of the MCP endpoint.
	EndpointPath = "/mcp"
)

// URL is the address of the gateway's MCP endpoint: the public one, if there is one, else that within the cluster.
func (s *VirtualMCPServer) URL() string {
	return cmp.Or(s.Spec.Endpoint.PublicURL,
		serviceURL(OperandName(s.Name), s.Namespace, s.Spec.Endpoint.Service.ListenPort(), EndpointPath))
}

// ListenPort is the TCP port of the Service, the default included.
func (s EndpointService) ListenPort() int32 { return cmp.Or(s.Port, ServicePort) }

// Source is spec.outgoingAuth.source, the default included.
func (s *VirtualMCPServer) Source() OutgoingAuthSource {
	if s.Spec.OutgoingAuth.Source != "" {
		return s.Spec.OutgoingAuth.Source
	}
	return OutgoingAuthSourceDiscovered
}

// Validate checks what the schema of the CRD demands, for objects that never passed an API server (vmcp serve -f) or were
// stored under an older schema.
func (s *VirtualMCPServer) Validate() field.ErrorList {
	return append(validateName(s), s.Spec.Validate(field.NewPath("spec"))...)
}

// Validate checks a spec at a path.
func (s *VirtualMCPServerSpec) Validate(spec *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s.GroupRef.Name == "" {
		errs = append(errs, field.Required(spec.Child("groupRef", "name"), "name the MCPGroup whose backends are served"))
	}
	errs = append(errs, s.OutgoingAuth.validate(spec.Child("outgoingAuth"))...)
	errs = append(errs, s.Endpoint.validate(spec.Child("endpoint"))...)
	errs = append(errs, s.validateReplicas(spec)...)
	errs = append(errs, s.Aggregation.validate(spec.Child("aggregation"))...)
	errs = append(errs, s.Health.validate(spec.Child("health"))...)
	errs = append(errs, s.Resources.validate(spec.Child("resources"))...)
	errs = append(errs, validatePullSecrets(s.ImagePullSecrets, spec.Child("imagePullSecrets"))...)
	errs = append(errs, s.CommonMetadata.validate(spec.Child("commonMetadata"))...)
	return append(errs, validatePatches(s.Patches, spec.Child("patches"))...)
}
