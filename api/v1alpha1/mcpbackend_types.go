// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Transport names how a backend is spoken to.
//
// +kubebuilder:validation:Enum=streamable-http;sse;stdio
type Transport string

const (
	// TransportStreamableHTTP is MCP's streamable HTTP transport.
	TransportStreamableHTTP Transport = "streamable-http"
	// TransportSSE is the HTTP+SSE transport of revision 2024-11-05.
	TransportSSE Transport = "sse"
	// TransportStdio is MCP's stdio transport; a bridge in the pod turns it into streamable HTTP.
	TransportStdio Transport = "stdio"
)

// Defaults of a backend's address.
const (
	// DefaultWorkloadPort is the TCP port of a workload that names none.
	DefaultWorkloadPort int32 = 8080
	// DefaultPath is the HTTP path of a backend that names none.
	DefaultPath = "/mcp"
)

// ServiceBackend is an MCP server behind a Service in the same namespace.
type ServiceBackend struct {
	// name is the name of the Service.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`

	// port is the number of the Service's port.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`

	// path is the HTTP path of the MCP endpoint. Unset means /mcp.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^/[A-Za-z0-9/._~%!$&'()*+,;=:@-]*$`
	Path string `json:"path,omitempty"`
}

// RemoteBackend is an MCP server at a URL, outside or inside the cluster.
type RemoteBackend struct {
	// url is the MCP endpoint: http or https, without user information and fragment.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:XValidation:rule="isURL(self) && url(self).getScheme() in ['http', 'https'] && url(self).getHost() != ''",message="url must be an absolute http or https URL"
	// +kubebuilder:validation:XValidation:rule="!self.contains('#')",message="url must not have a fragment"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^[a-zA-Z][a-zA-Z0-9+.-]*://[^/?#]*@')",message="url must not contain user information; credentials do not belong into a URL"
	URL string `json:"url"`
}

// MCPBackendSpec describes one backend: the group that it joins, how to speak to it, and exactly one of workload, service and
// remote, which says where it is.
//
// +kubebuilder:validation:XValidation:rule="[has(self.workload), has(self.service), has(self.remote)].filter(x, x).size() == 1",message="exactly one of workload, service and remote must be set"
// +kubebuilder:validation:XValidation:rule="self.transport != 'stdio' || has(self.workload)",message="transport stdio is for workload only: a service or remote backend is reached over HTTP"
// +kubebuilder:validation:XValidation:rule="self.transport != 'stdio' || !has(self.workload) || (has(self.workload.command) && self.workload.command.size() > 0)",message="workload.command is required with transport stdio: the bridge starts the server and cannot read the image's entry point"
type MCPBackendSpec struct {
	// groupRef names the MCPGroup that the backend belongs to. Acted on by the runtimes of the group; in static mode by the operator.
	// +operator-sdk:csv:customresourcedefinitions:type=spec,displayName="Group"
	// +required
	GroupRef LocalReference `json:"groupRef"`

	// transport says how the backend is spoken to. Unset means streamable-http. Acted on by the runtimes; stdio by the operator, which
	// puts a bridge in front of the server.
	// +operator-sdk:csv:customresourcedefinitions:type=spec,displayName="Transport",xDescriptors={"urn:alm:descriptor:com.tectonic.ui:select:streamable-http","urn:alm:descriptor:com.tectonic.ui:select:sse","urn:alm:descriptor:com.tectonic.ui:select:stdio"}
	// +optional
	// +kubebuilder:default=streamable-http
	Transport Transport `json:"transport,omitempty"`

	// externalAuthConfigRef names the MCPExternalAuthConfig with which gateways authenticate to the backend, unless a gateway says
	// otherwise in its spec.outgoingAuth.backends. Unset means the default of the gateway. Acted on by the runtimes; the operator gives
	// them the right to read the Secrets.
	// +operator-sdk:csv:customresourcedefinitions:type=spec,displayName="External Authentication"
	// +optional
	ExternalAuthConfigRef *LocalReference `json:"externalAuthConfigRef,omitempty"`

	// workload makes the operator run the MCP server from an image. Acted on by the operator.
	// +operator-sdk:csv:customresourcedefinitions:type=spec,displayName="Workload"
	// +optional
	Workload *Workload `json:"workload,omitempty"`

	// service is an MCP server behind a Service in the same namespace. Acted on by the runtimes.
	// +operator-sdk:csv:customresourcedefinitions:type=spec,displayName="Service"
	// +optional
	Service *ServiceBackend `json:"service,omitempty"`

	// remote is an MCP server at a URL. Acted on by the runtimes.
	// +operator-sdk:csv:customresourcedefinitions:type=spec,displayName="Remote"
	// +optional
	Remote *RemoteBackend `json:"remote,omitempty"`
}

// MCPBackendStatus is what the operator observed about what it provisions for a backend. Whether the backend answers is not
// said here: each VirtualMCPServer reports that itself, in status.discoveredBackends, as it sees it.
type MCPBackendStatus struct {
	// observedGeneration is the generation of the spec that this status describes. Written by the operator.
	// +operator-sdk:csv:customresourcedefinitions:type=status,displayName="Observed Generation"
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// url is the address at which gateways reach the backend. Written by the operator.
	// +operator-sdk:csv:customresourcedefinitions:type=status,displayName="URL",xDescriptors={"urn:alm:descriptor:org.w3:link"}
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	URL string `json:"url,omitempty"`

	// conditions are: GroupRefValid, the group exists; Ready, what the operator provisions or looks for is there; Stalled, a
	// person has to change something; Paused, the operator leaves the backend alone. Written by the operator.
	// +operator-sdk:csv:customresourcedefinitions:type=status,displayName="Conditions",xDescriptors={"urn:alm:descriptor:io.kubernetes.conditions"}
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// MCPBackend is one MCP server that gateways put behind their endpoint.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=mcpbackends,scope=Namespaced,shortName=mcpb
// +kubebuilder:selectablefield:JSONPath=`.spec.groupRef.name`
// +kubebuilder:printcolumn:name="Group",type=string,JSONPath=`.spec.groupRef.name`
// +kubebuilder:printcolumn:name="Transport",type=string,JSONPath=`.spec.transport`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`,description="what the operator provisions for this backend is there"
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="URL",type=string,JSONPath=`.status.url`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && self.metadata.name.size() <= 52",message="the name of an MCPBackend is a DNS label of at most 52 characters that begins with a letter: it becomes part of the name of a Service"
// +operator-sdk:csv:customresourcedefinitions:displayName="MCP Backend",order=3,resources={{Deployment,v1,},{Service,v1,}}
type MCPBackend struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec describes the backend.
	// +required
	Spec MCPBackendSpec `json:"spec"`

	// status is what the operator observed.
	// +optional
	Status MCPBackendStatus `json:"status,omitzero"`
}

// MCPBackendList is a list of MCPBackends.
//
// +kubebuilder:object:root=true
type MCPBackendList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MCPBackend `json:"items"`
}
