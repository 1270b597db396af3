// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// A workload takes its environment and its volumes in the words of a Kubernetes pod. The types are our own and smaller: what is not
// here cannot be asked for, and every list has a bound.

// EnvVar is an environment variable: its value, or where the value comes from. With neither it is empty.
//
// +kubebuilder:validation:XValidation:rule="!has(self.valueFrom) || !has(self.value) || size(self.value) == 0",message="a variable has value or valueFrom, not both"
type EnvVar struct {
	// name is the name of the variable.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[-._a-zA-Z][-._a-zA-Z0-9]*$`
	Name string `json:"name"`

	// value is the value of the variable. Do not put secrets here: whoever may read the MCPBackend can read them.
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	Value string `json:"value,omitempty"`

	// valueFrom says where the value comes from.
	// +optional
	ValueFrom *EnvVarSource `json:"valueFrom,omitempty"`
}

// EnvVarSource is where the value of an environment variable comes from: exactly one of its fields. The kubelet reads it when the
// container starts; a later change reaches the container with its next start.
//
// +kubebuilder:validation:XValidation:rule="has(self.secretKeyRef) != has(self.configMapKeyRef)",message="valueFrom has exactly one of secretKeyRef and configMapKeyRef"
type EnvVarSource struct {
	// secretKeyRef names a key of a Secret in the same namespace.
	// +optional
	SecretKeyRef *SecretKeySelector `json:"secretKeyRef,omitempty"`

	// configMapKeyRef names a key of a ConfigMap in the same namespace.
	// +optional
	ConfigMapKeyRef *ConfigMapKeySelector `json:"configMapKeyRef,omitempty"`
}

// SecretKeySelector names one key of a Secret.
type SecretKeySelector struct {
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

	// optional lets the pod start without the Secret or the key. A Secret that exists needs the label all the same.
	// +optional
	Optional bool `json:"optional,omitempty"`
}

// ConfigMapKeySelector names one key of a ConfigMap.
type ConfigMapKeySelector struct {
	// name is the name of the ConfigMap.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// key is the key within the ConfigMap's data.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key"`

	// optional lets the pod start without the ConfigMap or the key.
	// +optional
	Optional bool `json:"optional,omitempty"`
}

// EnvFromSource makes an environment variable of each key of a Secret or a ConfigMap: exactly one of them.
//
// +kubebuilder:validation:XValidation:rule="has(self.secretRef) != has(self.configMapRef)",message="an entry of envFrom has exactly one of secretRef and configMapRef"
type EnvFromSource struct {
	// prefix is put before each key. Unset means that a variable is called as its key.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[-._a-zA-Z][-._a-zA-Z0-9]*$`
	Prefix string `json:"prefix,omitempty"`

	// secretRef names a Secret in the same namespace.
	// +optional
	SecretRef *SecretEnvSource `json:"secretRef,omitempty"`

	// configMapRef names a ConfigMap in the same namespace.
	// +optional
	ConfigMapRef *ConfigMapEnvSource `json:"configMapRef,omitempty"`
}

// SecretEnvSource names a Secret whose keys become environment variables.
type SecretEnvSource struct {
	// name is the name of the Secret. It must carry the label vmcp.dev/credential: "true".
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// optional lets the pod start without the Secret. A Secret that exists needs the label all the same.
	// +optional
	Optional bool `json:"optional,omitempty"`
}

// ConfigMapEnvSource names a ConfigMap whose keys become environment variables.
type ConfigMapEnvSource struct {
	// name is the name of the ConfigMap.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// optional lets the pod start without the ConfigMap.
	// +optional
	Optional bool `json:"optional,omitempty"`
}
