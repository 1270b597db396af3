// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import corev1 "k8s.io/api/core/v1"

// Workload is an MCP server that the operator runs as a Deployment with a Service. Its pod always meets the "restricted" Pod
// Security Standard, so the image must be able to run as a user other than root.
//
// The Secrets that env, envFrom and volumes name, at most 32 different ones, must carry the label vmcp.dev/credential: "true". While
// one of them does not, nothing is changed: what runs goes on, and the condition Ready says which.
//
// +kubebuilder:validation:XValidation:rule="!has(self.volumeMounts) || self.volumeMounts.all(m, has(self.volumes) && self.volumes.exists(v, v.name == m.name))",message="each of volumeMounts must name one of volumes"
// +kubebuilder:validation:XValidation:rule="!has(self.volumes) || self.volumes.all(v, !v.name.startsWith('vmcp-'))",message="names of volumes that begin with vmcp- are reserved"
// +kubebuilder:validation:XValidation:rule="has(self.serviceAccountName) || !has(self.volumes) || self.volumes.all(v, !has(v.projected) || v.projected.sources.all(s, !has(s.serviceAccountToken)))",message="a serviceAccountToken needs workload.serviceAccountName: without one a pod gets no token"
type Workload struct {
	// image is the container image of the MCP server.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Image string `json:"image"`

	// imagePullPolicy says when the kubelet pulls the image. Unset means Kubernetes' own default for the tag.
	// +optional
	// +kubebuilder:validation:Enum=Always;IfNotPresent;Never
	ImagePullPolicy corev1.PullPolicy `json:"imagePullPolicy,omitempty"`

	// imagePullSecrets name the Secrets with which the kubelet pulls the image. Unset means none but those of the node. They need no
	// label: the kubelet shows them to nobody but the registry that they are for, and the container never sees them.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	ImagePullSecrets []LocalReference `json:"imagePullSecrets,omitempty"`

	// command replaces the image's entry point. It is required with transport stdio, because the bridge starts the server
	// and cannot read the entry point of an image.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=4096
	Command []string `json:"command,omitempty"`

	// args are the arguments of the command.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=4096
	Args []string `json:"args,omitempty"`

	// env are environment variables of the container.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	Env []EnvVar `json:"env,omitempty"`

	// envFrom makes environment variables of all keys of Secrets and ConfigMaps. Of entries with the same key the last one wins,
	// and env wins over all of them.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	EnvFrom []EnvFromSource `json:"envFrom,omitempty"`

	// port is the TCP port on which the server listens, or with transport stdio the bridge. Unset means 8080.
	// +optional
	// +kubebuilder:validation:Minimum=1024
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`

	// path is the HTTP path of the MCP endpoint. Unset means /mcp.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^/[A-Za-z0-9/._~%!$&'()*+,;=:@-]*$`
	Path string `json:"path,omitempty"`

	// replicas is the number of pods. Unset means that the operator leaves the number alone: it is one at first, and then whatever a
	// HorizontalPodAutoscaler or "kubectl scale" says. A gateway's pod stays with one pod of the backend, because sessions are kept
	// there.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	Replicas *int32 `json:"replicas,omitempty"`

	// resources are the compute resources of the container.
	// +optional
	Resources *ComputeResources `json:"resources,omitempty"`

	// serviceAccountName is the ServiceAccount that the pod runs under; it must carry the label vmcp.dev/workload: "true".
	// Unset means that the pod gets no token for the Kubernetes API.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	ServiceAccountName string `json:"serviceAccountName,omitempty"`

	// volumes are volumes that volumeMounts can refer to.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	Volumes []Volume `json:"volumes,omitempty"`

	// volumeMounts put volumes into the container's file system.
	// +optional
	// +listType=map
	// +listMapKey=mountPath
	// +kubebuilder:validation:MaxItems=16
	VolumeMounts []VolumeMount `json:"volumeMounts,omitempty"`
}
