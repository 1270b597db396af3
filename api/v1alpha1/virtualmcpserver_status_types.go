// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Phase sums up a VirtualMCPServer in one word.
//
// +kubebuilder:validation:Enum=Pending;Ready;Degraded;Failed;Unknown
type Phase string

const (
	// PhasePending means that no report has been made yet.
	PhasePending Phase = "Pending"
	// PhaseReady means that every discovered backend is served.
	PhaseReady Phase = "Ready"
	// PhaseDegraded means that something is served and something is not, or that there is nothing to serve.
	PhaseDegraded Phase = "Degraded"
	// PhaseFailed means that nothing is served although something should be, or that the pods of the runtime cannot run.
	PhaseFailed Phase = "Failed"
	// PhaseUnknown means that the runtime stopped reporting.
	PhaseUnknown Phase = "Unknown"
)

// BackendStatus is the verdict of the runtime on one backend. The same verdict decides whether the backend is in the catalog
// and is called.
//
// +kubebuilder:validation:Enum=ready;degraded;unauthenticated;unavailable;unknown
type BackendStatus string

const (
	// BackendReady means that the backend answers; it is served.
	BackendReady BackendStatus = "ready"
	// BackendDegraded means that the backend is slow or fails partly; it is served.
	BackendDegraded BackendStatus = "degraded"
	// BackendUnauthenticated means that the backend refused the credentials or wants some; it is not served.
	BackendUnauthenticated BackendStatus = "unauthenticated"
	// BackendUnavailable means that the backend does not answer, or not as an MCP server; it is not served.
	BackendUnavailable BackendStatus = "unavailable"
	// BackendUnknown means that there is no verdict yet; the backend is not served.
	BackendUnknown BackendStatus = "unknown"
)

// Served says whether a backend of this status is in the catalog and is called.
func (s BackendStatus) Served() bool { return s == BackendReady || s == BackendDegraded }

// MaxDiscoveredBackends is the most entries that status.discoveredBackends holds. A larger group is reported truncated, with
// the whole number in status.backends.total.
const MaxDiscoveredBackends = 256

// DiscoveredBackend is one backend as the runtime found it.
type DiscoveredBackend struct {
	// kind is the kind of the object that describes the backend, for example MCPBackend.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Kind string `json:"kind"`

	// name is the name of that object.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// source says where the backend is.
	// +optional
	Source BackendSource `json:"source,omitempty"`

	// url is the address at which the runtime calls the backend.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	URL string `json:"url,omitempty"`

	// transport is the transport of the backend.
	// +optional
	Transport Transport `json:"transport,omitempty"`

	// authType is the way in which the runtime authenticates to the backend. Absent means not at all.
	// +optional
	AuthType ExternalAuthType `json:"authType,omitempty"`

	// authConfigRef names the MCPExternalAuthConfig that was chosen for the backend. Absent means none.
	// +optional
	AuthConfigRef *LocalReference `json:"authConfigRef,omitempty"`

	// status is the runtime's verdict.
	// +optional
	Status BackendStatus `json:"status,omitempty"`

	// reason is the cause of the verdict in one CamelCase word.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Reason string `json:"reason,omitempty"`

	// message is the cause of the verdict in a sentence.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`

	// protocolVersion is the MCP revision that the runtime speaks with the backend, for example 2025-11-25.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	ProtocolVersion string `json:"protocolVersion,omitempty"`

	// tools is the number of tools that the backend offers.
	// +optional
	Tools *int32 `json:"tools,omitempty"`

	// lastTransitionTime is when status last changed.
	// +optional
	LastTransitionTime metav1.Time `json:"lastTransitionTime,omitzero"`
}

// BackendsSummary counts backends.
type BackendsSummary struct {
	// total is the number of discovered backends.
	// +required
	Total int32 `json:"total"`

	// ready is the number of discovered backends whose status is ready.
	// +required
	Ready int32 `json:"ready"`
}

// RuntimeInfo identifies the process that reports.
type RuntimeInfo struct {
	// reporter is the name of the pod that reports.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Reporter string `json:"reporter,omitempty"`

	// version is the version of the runtime.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Version string `json:"version,omitempty"`

	// observedGeneration is the generation of the spec that the runtime serves.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
}

// VirtualMCPServerStatus has two writers. The operator owns url, observedGeneration and the conditions GroupRefValid,
// OperandRendered, RBACReady, ConfigReady, DeploymentReady, ServiceReady, RuntimeReporting, Stalled and Paused; the runtime owns
// everything else. Each applies its own fields only (server-side apply, managers vmcp-operator and vmcp-runtime). While the
// runtime does not report, the operator says so in its place: in phase, message, the condition Ready, backends.ready, and in the
// status, reason, message and lastTransitionTime of the entries of discoveredBackends.
type VirtualMCPServerStatus struct {
	// observedGeneration is the newest generation of the spec that is served by every pod, or about which the operator has
	// said in the condition Stalled why it cannot be. Written by the operator.
	// +operator-sdk:csv:customresourcedefinitions:type=status,displayName="Observed Generation"
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// phase sums up what the runtime reports: Ready, Degraded or Failed. While it does not report: Pending before the first
	// report, Failed when its pods cannot run, Unknown when it stopped reporting. Written by the runtime; by the operator while no runtime
	// reports.
	// +operator-sdk:csv:customresourcedefinitions:type=status,displayName="Phase",xDescriptors={"urn:alm:descriptor:io.kubernetes.phase"}
	// +optional
	Phase Phase `json:"phase,omitempty"`

	// message says in a sentence why phase is what it is. Written by the runtime; by the operator while no runtime reports.
	// +operator-sdk:csv:customresourcedefinitions:type=status,displayName="Message",xDescriptors={"urn:alm:descriptor:io.kubernetes.phase:reason"}
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`

	// url is the address of the gateway's MCP endpoint. Written by the operator.
	// +operator-sdk:csv:customresourcedefinitions:type=status,displayName="URL",xDescriptors={"urn:alm:descriptor:org.w3:link"}
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	URL string `json:"url,omitempty"`

	// conditions are, written by the operator: GroupRefValid, OperandRendered, RBACReady, ConfigReady, DeploymentReady,
	// ServiceReady, RuntimeReporting, Stalled and Paused; written by the runtime: Ready, BackendsDiscovered and CatalogReady. Ready is
	// written by the operator while no runtime reports.
	// +operator-sdk:csv:customresourcedefinitions:type=status,displayName="Conditions",xDescriptors={"urn:alm:descriptor:io.kubernetes.conditions"}
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// discoveredBackends are the backends that the runtime found, and its verdict on each. Written by the runtime; status, reason, message
	// and lastTransitionTime by the operator while no runtime reports; in static mode source, url, transport, authType and authConfigRef
	// by the operator.
	// +operator-sdk:csv:customresourcedefinitions:type=status,displayName="Discovered Backends"
	// +optional
	// +listType=map
	// +listMapKey=kind
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=256
	DiscoveredBackends []DiscoveredBackend `json:"discoveredBackends,omitempty"`

	// backends counts the discovered backends. Written by the runtime; ready by the operator while no runtime reports.
	// +operator-sdk:csv:customresourcedefinitions:type=status,displayName="Backends"
	// +optional
	Backends *BackendsSummary `json:"backends,omitempty"`

	// catalog counts what the gateway offers, and lists what it does not offer as the backends do. Written by the runtime.
	// +operator-sdk:csv:customresourcedefinitions:type=status,displayName="Catalog"
	// +optional
	Catalog *CatalogSummary `json:"catalog,omitempty"`

	// runtime identifies the process that reports. Written by the runtime.
	// +operator-sdk:csv:customresourcedefinitions:type=status,displayName="Runtime"
	// +optional
	Runtime *RuntimeInfo `json:"runtime,omitempty"`
}
