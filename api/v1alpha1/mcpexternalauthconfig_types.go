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
	Name string `json:"name"`

	// key is the key within the Secret's data.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
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
	// type selects the way to authenticate; the block of the same name holds its settings.
	// +required
	Type ExternalAuthType `json:"type"`

	// headerInjection holds the settings of type headerInjection.
	// +optional
	HeaderInjection *HeaderInjection `json:"headerInjection,omitempty"`
}

// MCPExternalAuthConfig says how to authenticate to a backend. It holds no secret, only references to Secrets.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=mcpexternalauthconfigs,scope=Namespaced,shortName=mcpauth
// +kubebuilder:printcolumn:name="Type",type=string,JSONPath=`.spec.type`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type MCPExternalAuthConfig struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec says how to authenticate.
	// +required
	Spec MCPExternalAuthConfigSpec `json:"spec"`
}

// MCPExternalAuthConfigList is a list of MCPExternalAuthConfigs.
//
// +kubebuilder:object:root=true
type MCPExternalAuthConfigList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MCPExternalAuthConfig `json:"items"`
}
