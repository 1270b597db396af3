// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ExternalAuthType names a way to authenticate to a backend.
//
// +kubebuilder:validation:Enum=headerInjection
type ExternalAuthType string

// ExternalAuthTypeHeaderInjection sends a header whose value comes from a Secret.
const ExternalAuthTypeHeaderInjection ExternalAuthType = "headerInjection"

// SecretKeyReference names one key of a Secret in the same namespace.
type SecretKeyReference struct {
	// name is the name of the Secret. It must carry the label vmcp.dev/credential: "true".
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Name string `json:"name"`

	// key is the key within the Secret's data.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[-._a-zA-Z0-9]+$`
	Key string `json:"key"`
}

// HeaderInjection adds one header to each request to the backend.
type HeaderInjection struct {
	// headerName is the name of the header, for example Authorization (RFC 9110, section 5.1). Headers that HTTP or MCP
	// give a meaning of their own cannot be set.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9!#$%&'*+.^_|~-]+$`
	// +kubebuilder:validation:XValidation:rule="!(self.lowerAscii() in ['host', 'content-length', 'content-type', 'accept', 'connection', 'transfer-encoding', 'upgrade', 'te', 'trailer', 'keep-alive'] || self.lowerAscii().startsWith('mcp-'))",message="headerName must not be a header that HTTP or MCP give a meaning of their own"
	HeaderName string `json:"headerName"`

	// secretRef names the key of a Secret that holds the header's whole value, scheme included, for example "Bearer abc".
	// +required
	SecretRef SecretKeyReference `json:"secretRef"`
}

// MCPExternalAuthConfigSpec says how to authenticate to a backend: a type, and the one block of that type.
//
// +kubebuilder:validation:XValidation:rule="(self.type == 'headerInjection') == has(self.headerInjection)",message="type headerInjection needs the block headerInjection, and no other type may have it"
type MCPExternalAuthConfigSpec struct {
	// type selects the way to authenticate; the block of the same name holds its settings. Acted on by the runtimes.
	// +operator-sdk:csv:customresourcedefinitions:type=spec,displayName="Type"
	// +required
	Type ExternalAuthType `json:"type"`

	// headerInjection holds the settings of type headerInjection. Acted on by the runtimes; the operator gives them the right to read the
	// Secret.
	// +operator-sdk:csv:customresourcedefinitions:type=spec,displayName="Header Injection"
	// +optional
	HeaderInjection *HeaderInjection `json:"headerInjection,omitempty"`
}

// MCPExternalAuthConfigStatus is what the operator observed about the Secrets that a configuration names.
type MCPExternalAuthConfigStatus struct {
	// observedGeneration is the generation of the spec that this status describes. Written by the operator.
	// +operator-sdk:csv:customresourcedefinitions:type=status,displayName="Observed Generation"
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions are: Ready, the Secrets that the configuration names exist and may be used; Stalled, a person has to change
	// something; Paused, the operator leaves the configuration alone. Written by the operator.
	// +operator-sdk:csv:customresourcedefinitions:type=status,displayName="Conditions",xDescriptors={"urn:alm:descriptor:io.kubernetes.conditions"}
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// MCPExternalAuthConfig says how to authenticate to a backend. It holds no secret, only references to Secrets.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=mcpexternalauthconfigs,scope=Namespaced,shortName=mcpauth
// +kubebuilder:printcolumn:name="Type",type=string,JSONPath=`.spec.type`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`,description="the Secrets that this configuration names may be used"
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63",message="the name of an MCPExternalAuthConfig has at most 63 characters: it becomes the value of a label"
// +operator-sdk:csv:customresourcedefinitions:displayName="MCP External Auth Config",order=4,resources={{Role,v1,}}
type MCPExternalAuthConfig struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec says how to authenticate.
	// +required
	Spec MCPExternalAuthConfigSpec `json:"spec"`

	// status is what the operator observed.
	// +optional
	Status MCPExternalAuthConfigStatus `json:"status,omitzero"`
}

// MCPExternalAuthConfigList is a list of MCPExternalAuthConfigs.
//
// +kubebuilder:object:root=true
type MCPExternalAuthConfigList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MCPExternalAuthConfig `json:"items"`
}
