// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// KeyToPath shows one key of a Secret or a ConfigMap as a file.
type KeyToPath struct {
	// key is the key within the data.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key"`

	// path is the path of the file within the volume: relative, and without elements that begin with two dots.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^(\.?[A-Za-z0-9_-][A-Za-z0-9._-]*/)*\.?[A-Za-z0-9_-][A-Za-z0-9._-]*$`
	Path string `json:"path"`
}

// EmptyDirVolume is an empty folder that lives as long as the pod.
type EmptyDirVolume struct{}

// ConfigMapVolume shows the keys of a ConfigMap as files.
type ConfigMapVolume struct {
	// name is the name of the ConfigMap in the same namespace.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// items are the keys to show, and where. Unset means all of them, each in a file of its name.
	// +optional
	// +listType=map
	// +listMapKey=path
	// +kubebuilder:validation:MaxItems=32
	Items []KeyToPath `json:"items,omitempty"`

	// optional lets the pod start without the ConfigMap or some of the items.
	// +optional
	Optional bool `json:"optional,omitempty"`
}

// SecretVolume shows the keys of a Secret as files. A change of the Secret shows in them within about a minute.
type SecretVolume struct {
	// secretName is the name of the Secret in the same namespace. It must carry the label vmcp.dev/credential: "true".
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	SecretName string `json:"secretName"`

	// items are the keys to show, and where. Unset means all of them, each in a file of its name.
	// +optional
	// +listType=map
	// +listMapKey=path
	// +kubebuilder:validation:MaxItems=32
	Items []KeyToPath `json:"items,omitempty"`

	// optional lets the pod start without the Secret or some of the items; the folder is empty then. A Secret that exists needs
	// the label all the same.
	// +optional
	Optional bool `json:"optional,omitempty"`
}

// PersistentVolumeClaimVolume mounts a PersistentVolumeClaim.
type PersistentVolumeClaimVolume struct {
	// claimName is the name of the PersistentVolumeClaim in the same namespace.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	ClaimName string `json:"claimName"`
}

// ProjectedVolume shows several sources in one folder.
type ProjectedVolume struct {
	// sources are what the folder holds. No two of them may have a file of the same path.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Sources []VolumeProjection `json:"sources"`
}

// VolumeProjection is one source of a projected volume: exactly one of its fields.
//
// +kubebuilder:validation:XValidation:rule="[has(self.secret), has(self.configMap), has(self.serviceAccountToken)].filter(x, x).size() == 1",message="a source of a projected volume has exactly one of secret, configMap and serviceAccountToken"
type VolumeProjection struct {
	// secret shows the keys of a Secret as files.
	// +optional
	Secret *SecretProjection `json:"secret,omitempty"`

	// configMap shows the keys of a ConfigMap as files.
	// +optional
	ConfigMap *ConfigMapVolume `json:"configMap,omitempty"`

	// serviceAccountToken is a token of the ServiceAccount that the pod runs under. It takes workload.serviceAccountName.
	// +optional
	ServiceAccountToken *ServiceAccountTokenProjection `json:"serviceAccountToken,omitempty"`
}

// SecretProjection shows the keys of a Secret as files of a projected volume.
type SecretProjection struct {
	// name is the name of the Secret in the same namespace. It must carry the label vmcp.dev/credential: "true".
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// items are the keys to show, and where. Unset means all of them, each in a file of its name.
	// +optional
	// +listType=map
	// +listMapKey=path
	// +kubebuilder:validation:MaxItems=32
	Items []KeyToPath `json:"items,omitempty"`

	// optional lets the pod start without the Secret or some of the items. A Secret that exists needs the label all the same.
	// +optional
	Optional bool `json:"optional,omitempty"`
}

// ServiceAccountTokenProjection is a file with a token that the kubelet renews before it expires.
type ServiceAccountTokenProjection struct {
	// audience is whom the token is for (aud, RFC 7519, section 4.1.3); others must refuse it. Unset means the Kubernetes API.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Audience string `json:"audience,omitempty"`

	// expirationSeconds is how long a token is valid, from 600 to 86400. Unset means 3600.
	// +optional
	// +kubebuilder:validation:Minimum=600
	// +kubebuilder:validation:Maximum=86400
	ExpirationSeconds int32 `json:"expirationSeconds,omitempty"`

	// path is the path of the file within the volume: relative, and without elements that begin with two dots.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^(\.?[A-Za-z0-9_-][A-Za-z0-9._-]*/)*\.?[A-Za-z0-9_-][A-Za-z0-9._-]*$`
	Path string `json:"path"`
}

// Volume is a volume of a workload: a name and exactly one source.
//
// +kubebuilder:validation:XValidation:rule="[has(self.emptyDir), has(self.configMap), has(self.secret), has(self.persistentVolumeClaim), has(self.projected)].filter(x, x).size() == 1",message="a volume has exactly one of emptyDir, configMap, secret, persistentVolumeClaim and projected"
type Volume struct {
	// name is the name that volumeMounts refer to.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`

	// emptyDir is an empty folder that lives as long as the pod.
	// +optional
	EmptyDir *EmptyDirVolume `json:"emptyDir,omitempty"`

	// configMap shows the keys of a ConfigMap as files.
	// +optional
	ConfigMap *ConfigMapVolume `json:"configMap,omitempty"`

	// secret shows the keys of a Secret as files.
	// +optional
	Secret *SecretVolume `json:"secret,omitempty"`

	// persistentVolumeClaim mounts a PersistentVolumeClaim.
	// +optional
	PersistentVolumeClaim *PersistentVolumeClaimVolume `json:"persistentVolumeClaim,omitempty"`

	// projected shows Secrets, ConfigMaps and tokens of the pod's ServiceAccount in one folder.
	// +optional
	Projected *ProjectedVolume `json:"projected,omitempty"`
}

// VolumeMount puts a volume into the container's file system.
type VolumeMount struct {
	// name is the name of one of the volumes.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`

	// mountPath is where the volume appears in the container.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^/[^:]*$`
	MountPath string `json:"mountPath"`
}
