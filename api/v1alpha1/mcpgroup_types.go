// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// MCPGroupSpec describes a group. A backend joins a group by naming it; the group lists nobody.
type MCPGroupSpec struct {
	// description says what the group is for, in a sentence or two for people. Acted on by neither the operator nor a runtime.
	// +operator-sdk:csv:customresourcedefinitions:type=spec,displayName="Description",xDescriptors={"urn:alm:descriptor:com.tectonic.ui:text"}
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Description string `json:"description,omitempty"`

	// discovery says which objects besides MCPBackends join the group when they are labelled vmcp.dev/group with its name. Whoever may
	// label one of them then puts tools in front of every agent of the group, and receives the credentials of outgoingAuth.default. Acted on by
	// the runtimes; the operator gives them the rights, and in static mode it discovers.
	// +operator-sdk:csv:customresourcedefinitions:type=spec,displayName="Discovery"
	// +optional
	Discovery GroupDiscovery `json:"discovery,omitzero"`
}

// DiscoveryMode says whether objects of a kind join a group.
//
// +kubebuilder:validation:Enum=Disabled;Labelled
type DiscoveryMode string

const (
	// DiscoveryDisabled keeps objects of the kind out.
	DiscoveryDisabled DiscoveryMode = "Disabled"
	// DiscoveryLabelled lets those join that are labelled GroupLabel with the name of the group.
	DiscoveryLabelled DiscoveryMode = "Labelled"
)

// GroupDiscovery says which kinds join a group by a label.
type GroupDiscovery struct {
	// services says whether Services join by the label. Unset means Disabled. A Service says by annotations where its MCP endpoint is:
	// vmcp.dev/port (name or number; else its only port, or the one named mcp), vmcp.dev/path (else /mcp), vmcp.dev/transport (else
	// streamable-http). One of type ExternalName is not called.
	// +optional
	Services DiscoveryMode `json:"services,omitempty"`

	// mcpServers says whether MCPServers of mcp.x-k8s.io join by the label. Unset means Disabled. Their kind need not be installed.
	// +optional
	MCPServers DiscoveryMode `json:"mcpServers,omitempty"`
}

// MCPGroupStatus is what the operator observed about a group.
type MCPGroupStatus struct {
	// observedGeneration is the generation of the spec that this status describes. Written by the operator.
	// +operator-sdk:csv:customresourcedefinitions:type=status,displayName="Observed Generation"
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// backends is the number of MCPBackends in the namespace that name this group. Written by the operator.
	// +operator-sdk:csv:customresourcedefinitions:type=status,displayName="Backends"
	// +optional
	Backends *int32 `json:"backends,omitempty"`

	// virtualMCPServers is the number of VirtualMCPServers in the namespace that serve this group. Written by the operator.
	// +operator-sdk:csv:customresourcedefinitions:type=status,displayName="Virtual MCP Servers"
	// +optional
	VirtualMCPServers *int32 `json:"virtualMCPServers,omitempty"`

	// conditions are Ready (the gateways of the group have the rights to read the credentials that its backends name), and Stalled and
	// Paused, which are absent unless they are true. Written by the operator.
	// +operator-sdk:csv:customresourcedefinitions:type=status,displayName="Conditions",xDescriptors={"urn:alm:descriptor:io.kubernetes.conditions"}
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// MCPGroup is a named set of MCP backends in a namespace.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=mcpgroups,scope=Namespaced,shortName=mcpg
// +kubebuilder:printcolumn:name="Backends",type=integer,JSONPath=`.status.backends`,description="MCPBackends that name this group"
// +kubebuilder:printcolumn:name="Gateways",type=integer,JSONPath=`.status.virtualMCPServers`,description="VirtualMCPServers that serve this group"
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`,description="Whether the gateways have the rights to read the credentials that the backends name"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63",message="the name of an MCPGroup has at most 63 characters"
// +operator-sdk:csv:customresourcedefinitions:displayName="MCP Group",order=2,resources={{RoleBinding,v1,}}
type MCPGroup struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec describes the group.
	// +optional
	Spec MCPGroupSpec `json:"spec,omitzero"`

	// status is what the operator observed.
	// +optional
	Status MCPGroupStatus `json:"status,omitzero"`
}

// MCPGroupList is a list of MCPGroups.
//
// +kubebuilder:object:root=true
type MCPGroupList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MCPGroup `json:"items"`
}
