// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// LocalReference names an object of a known kind in the same namespace.
type LocalReference struct {
	// name is the name of the object.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// SecretUse is a place in a spec that names a Secret which must carry the CredentialLabel.
//
// +kubebuilder:object:generate=false
type SecretUse struct {
	// Path is the place.
	Path *field.Path
	// Name is the name of the Secret.
	Name string
	// Optional says that whoever uses the Secret can do without it. One that exists needs the label all the same.
	Optional bool
}

// ComputeResources are requests and limits of compute resources, by resource name.
type ComputeResources struct {
	// requests are the resources that the scheduler sets aside.
	// +optional
	// +kubebuilder:validation:MaxProperties=16
	Requests corev1.ResourceList `json:"requests,omitempty"`

	// limits are the most that the container may use.
	// +optional
	// +kubebuilder:validation:MaxProperties=16
	Limits corev1.ResourceList `json:"limits,omitempty"`
}

// SessionKeysSecretType is the type of the Secrets that hold session keys.
const SessionKeysSecretType corev1.SecretType = "vmcp.dev/session-keys" //nolint:gosec // G101: the name of a type, not a secret.

// Labels and annotations that the operator sets or honours.
const (
	// PausedAnnotation, set to "true", makes the operator leave an object alone and say so in the condition Paused.
	PausedAnnotation = "vmcp.dev/paused"
	// OutgoingAuthSourceAnnotation says of a pod of a gateway which spec.outgoingAuth.source it was made for.
	OutgoingAuthSourceAnnotation = "vmcp.dev/outgoing-auth-source"
	// RotateSessionKeysAnnotation on a VirtualMCPServer asks for a rotation of its session keys before its time, with each new value. On
	// the Secret that holds them it is the value of the last request that was carried out.
	RotateSessionKeysAnnotation = "vmcp.dev/rotate-session-keys"
	// SessionKeysRotatedAnnotation says of a Secret with session keys since when the current one seals, RFC 3339.
	SessionKeysRotatedAnnotation = "vmcp.dev/session-keys-rotated"
	// SessionKeysNextSinceAnnotation says of a Secret with session keys since when it has the next one, RFC 3339.
	SessionKeysNextSinceAnnotation = "vmcp.dev/session-keys-next-since"
	// VirtualMCPServerLabel names the VirtualMCPServer that an object was provisioned for.
	VirtualMCPServerLabel = "vmcp.dev/virtualmcpserver"
	// BackendLabel names the MCPBackend that an object was provisioned for.
	BackendLabel = "vmcp.dev/backend"
	// WorkloadServiceAccountLabel, set to "true" on a ServiceAccount, lets workloads of backends run under it. Without this
	// consent whoever may create an MCPBackend could run code with any ServiceAccount of the namespace.
	WorkloadServiceAccountLabel = "vmcp.dev/workload"
	// CredentialLabel, set to "true" on a Secret, lets gateways send what it holds to backends, and workloads read it. Without this
	// consent whoever may create an MCPBackend could send any Secret of the namespace to a server of their own.
	CredentialLabel = "vmcp.dev/credential" //nolint:gosec // G101: the name of a label, not a secret.
	// AuthConfigLabel names the MCPExternalAuthConfig that an object was provisioned for.
	AuthConfigLabel = "vmcp.dev/authconfig"
	// GroupLabel names the MCPGroup that an object was provisioned for. On a Service or an MCPServer that somebody else made it
	// names the group to join.
	GroupLabel = "vmcp.dev/group"
	// PortAnnotation, PathAnnotation and TransportAnnotation say where the MCP endpoint of a Service is that joins a group by
	// GroupLabel, and how to speak to it.
	PortAnnotation      = "vmcp.dev/port"
	PathAnnotation      = "vmcp.dev/path"
	TransportAnnotation = "vmcp.dev/transport"
	// ManagedByLabel is the recommended label for the tool that manages an object.
	ManagedByLabel = "app.kubernetes.io/managed-by"
	// ManagedByValue is the value of ManagedByLabel on everything that the operator provisions.
	ManagedByValue = "vmcp-operator"
)
