// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// OutgoingAuthSource says who finds the backends and their authentication.
//
// +kubebuilder:validation:Enum=discovered;inline
type OutgoingAuthSource string

const (
	// OutgoingAuthSourceDiscovered is dynamic mode: the runtime finds backends by itself; the operator never looks at them.
	OutgoingAuthSourceDiscovered OutgoingAuthSource = "discovered"
	// OutgoingAuthSourceInline is static mode: the operator resolves backends and their authentication into the runtime's
	// configuration; the runtime reads neither backends nor Secrets through the API.
	OutgoingAuthSourceInline OutgoingAuthSource = "inline"
)

// MaxBackendAuths is the most entries of spec.outgoingAuth.backends.
const MaxBackendAuths = 256

// DefaultAuth is the authentication to backends that name none.
type DefaultAuth struct {
	// externalAuthConfigRef names an MCPExternalAuthConfig in the same namespace.
	// +required
	ExternalAuthConfigRef LocalReference `json:"externalAuthConfigRef"`
}

// BackendAuth is the authentication to one backend, whatever that backend names itself.
type BackendAuth struct {
	// name is the name of the backend.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// externalAuthConfigRef names an MCPExternalAuthConfig in the same namespace.
	// +required
	ExternalAuthConfigRef LocalReference `json:"externalAuthConfigRef"`
}

// OutgoingAuth says how the gateway finds backends and authenticates to them. The authentication to a backend is that of its entry in
// backends, else the one that the backend names itself, else default, else none.
type OutgoingAuth struct {
	// source says who finds the backends and their authentication. discovered: the runtime does, by itself, and follows
	// every change. inline: the operator does and writes them into the runtime's configuration, so that the runtime needs no
	// right to read backends, nor Secrets. Unset means discovered.
	// +optional
	// +kubebuilder:default=discovered
	Source OutgoingAuthSource `json:"source,omitempty"`

	// default is the authentication to backends that have no entry in backends and name none themselves. Unset means none.
	// +optional
	Default *DefaultAuth `json:"default,omitempty"`

	// backends name the authentication to single backends; it replaces what the backend names itself. Unset means none.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=256
	Backends []BackendAuth `json:"backends,omitempty"`
}
