// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// EndpointService is the Service before the gateway's pods.
type EndpointService struct {
	// type is the type of the Service. Unset means ClusterIP.
	// +optional
	// +kubebuilder:validation:Enum=ClusterIP;NodePort;LoadBalancer
	Type corev1.ServiceType `json:"type,omitempty"`

	// port is the TCP port of the Service. Unset means 80.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`

	// annotations are added to the Service alone, for example for the cloud's load balancer. Unset means none.
	// +optional
	// +kubebuilder:validation:MaxProperties=16
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() <= 317 && !format.qualifiedName().validate(k).hasValue())",message="the key of an annotation is a name of at most 63 characters of A-Z a-z 0-9 - _ . that begins and ends with a letter or digit, after an optional DNS prefix and a slash"
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.matches('^([^/]*[.])?vmcp[.]dev/'))",message="annotations of vmcp.dev are the operator's own"
	Annotations map[string]AnnotationValue `json:"annotations,omitempty"`
}

// AllowedHost is a DNS name or an IP address, without a port.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:XValidation:rule="isIP(self) || !format.dns1123Subdomain().validate(self).hasValue()",message="an allowed host is a DNS name in lower case, or an IP address, without a port"
type AllowedHost string

// AllowedOrigin is the origin of web pages: scheme, host and, if it is not that of the scheme, port.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=320
// +kubebuilder:validation:XValidation:rule="self.matches('^https?://([a-zA-Z0-9.-]+|[[][0-9a-fA-F:.]+[]])(:[0-9]{1,5})?$') && isURL(self)",message="an allowed origin is http or https, a host and perhaps a port, with nothing behind: https://app.example.com"
type AllowedOrigin string

// Endpoint is where MCP clients reach the gateway.
type Endpoint struct {
	// publicURL is the URL of the MCP endpoint for clients outside of the cluster, where an ingress or a load balancer stands before
	// the Service: http or https, without user information, query and fragment. It becomes status.url, and the gateway answers
	// to its host unless allowedHosts says otherwise. Unset means the Service's URL within the cluster.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:XValidation:rule="isURL(self) && url(self).getScheme() in ['http', 'https'] && url(self).getHost() != ''",message="publicURL must be an absolute http or https URL"
	// +kubebuilder:validation:XValidation:rule="!self.contains('#') && !self.contains('?')",message="publicURL must have neither a query nor a fragment"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^[a-zA-Z][a-zA-Z0-9+.-]*://[^/?#]*@')",message="publicURL must not contain user information"
	PublicURL string `json:"publicURL,omitempty"`

	// allowedHosts are the names under which clients may address the gateway (the Host header of a request), without a port: web pages
	// that had a browser resolve their own name to the gateway's address (DNS rebinding) send that name. IP addresses, which cannot
	// be rebound, and localhost pass always. Unset means the DNS names of the Service and the host of publicURL; once set, it says
	// all there is.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	AllowedHosts []AllowedHost `json:"allowedHosts,omitempty"`

	// allowedOrigins are the origins of the web pages that may use the gateway (the Origin header of a request), for example
	// https://app.example.com; requests from others are refused, those without an Origin pass. Unset means the http and https origins
	// of the hosts under which the gateway may be addressed; once set, it says all there is.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	AllowedOrigins []AllowedOrigin `json:"allowedOrigins,omitempty"`

	// service is the Service before the gateway's pods.
	// +optional
	Service EndpointService `json:"service,omitzero"`
}

// Autoscaling lets a HorizontalPodAutoscaler choose the number of the gateway's pods by their use of CPU.
//
// +kubebuilder:validation:XValidation:rule="!has(self.minReplicas) || self.minReplicas <= self.maxReplicas",message="minReplicas must not exceed maxReplicas"
type Autoscaling struct {
	// minReplicas is the least number of pods. Unset means 1.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	MinReplicas *int32 `json:"minReplicas,omitempty"`

	// maxReplicas is the greatest number of pods.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	MaxReplicas int32 `json:"maxReplicas"`

	// targetCPUUtilizationPercentage is the use of CPU that is aimed at, in percent of what the pods request, on average over all
	// pods. Unset means 80.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	TargetCPUUtilizationPercentage *int32 `json:"targetCPUUtilizationPercentage,omitempty"`
}

// PatchKind is a kind of object that the operator provisions for a VirtualMCPServer.
//
// +kubebuilder:validation:Enum=ServiceAccount;Role;RoleBinding;ConfigMap;Lease;Deployment;Service;HorizontalPodAutoscaler
type PatchKind string

// Bounds of spec.patches.
const (
	// MaxPatches is the most patches that a VirtualMCPServer has.
	MaxPatches = 16
	// MaxPatchLength is the most characters that a patch has.
	MaxPatchLength = 16384
)

// PatchTarget names what a patch changes. There is one object of each kind, the HorizontalPodAutoscaler only with spec.autoscaling.
type PatchTarget struct {
	// kind is the kind of the object.
	// +required
	Kind PatchKind `json:"kind"`
}

// Patch changes one of the objects that the operator provisions.
type Patch struct {
	// target names the object.
	// +required
	Target PatchTarget `json:"target"`

	// patch is a strategic merge patch (an object) or a JSON patch of RFC 6902 (a list of operations), as YAML or JSON. An
	// object may leave out apiVersion, kind and metadata.name. In lists it finds elements by their merge keys: containers by
	// name, ports of the Service by port and protocol.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=16384
	Patch string `json:"patch"`
}

// LabelValue is the value of a label: at most 63 characters of A-Z a-z 0-9 - _ . that begin and end with a letter or digit.
//
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:Pattern=`^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$`
type LabelValue string

// AnnotationValue is the value of an annotation.
//
// +kubebuilder:validation:MaxLength=4096
type AnnotationValue string

// CommonMetadata are labels and annotations for everything that the operator provisions.
type CommonMetadata struct {
	// labels are added to every object and to the pods, never to selectors. Unset means none.
	// +optional
	// +kubebuilder:validation:MaxProperties=16
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() <= 317 && !format.qualifiedName().validate(k).hasValue())",message="the key of a label is a name of at most 63 characters of A-Z a-z 0-9 - _ . that begins and ends with a letter or digit, after an optional DNS prefix and a slash"
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.matches('^([^/]*[.])?vmcp[.]dev/'))",message="labels of vmcp.dev are the operator's own"
	// +kubebuilder:validation:XValidation:rule="self.all(k, !(k in ['app.kubernetes.io/name', 'app.kubernetes.io/instance', 'app.kubernetes.io/component', 'app.kubernetes.io/part-of', 'app.kubernetes.io/managed-by']))",message="the labels name, instance, component, part-of and managed-by of app.kubernetes.io are set by the operator, which finds its objects by them"
	Labels map[string]LabelValue `json:"labels,omitempty"`

	// annotations are added to every object and to the pods. Unset means none.
	// +optional
	// +kubebuilder:validation:MaxProperties=16
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() <= 317 && !format.qualifiedName().validate(k).hasValue())",message="the key of an annotation is a name of at most 63 characters of A-Z a-z 0-9 - _ . that begins and ends with a letter or digit, after an optional DNS prefix and a slash"
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.matches('^([^/]*[.])?vmcp[.]dev/'))",message="annotations of vmcp.dev are the operator's own"
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.startsWith('deployment.kubernetes.io/'))",message="annotations of deployment.kubernetes.io are written by Kubernetes itself"
	Annotations map[string]AnnotationValue `json:"annotations,omitempty"`
}

// VirtualMCPServerSpec describes a gateway.
//
// +kubebuilder:validation:XValidation:rule="!has(self.replicas) || !has(self.autoscaling)",message="replicas and autoscaling exclude each other: the autoscaler chooses the number of pods"
// +kubebuilder:validation:XValidation:rule="!has(self.autoscaling) || !has(self.resources) || (has(self.resources.requests) && 'cpu' in self.resources.requests)",message="autoscaling needs resources.requests.cpu: the use of CPU is measured in percent of it"
type VirtualMCPServerSpec struct {
	// groupRef names the MCPGroup whose backends the gateway serves. Acted on by the runtime; in static mode by the operator.
	// +operator-sdk:csv:customresourcedefinitions:type=spec,displayName="Group"
	// +required
	GroupRef LocalReference `json:"groupRef"`

	// outgoingAuth says how the gateway finds and authenticates to backends. Acted on by the runtime; with source inline by the operator.
	// +operator-sdk:csv:customresourcedefinitions:type=spec,displayName="Outgoing Authentication"
	// +optional
	OutgoingAuth OutgoingAuth `json:"outgoingAuth,omitzero"`

	// aggregation says how what the backends offer becomes one catalog. Acted on by the runtime.
	// +operator-sdk:csv:customresourcedefinitions:type=spec,displayName="Aggregation"
	// +optional
	Aggregation Aggregation `json:"aggregation,omitzero"`

	// health says when a backend counts as slow or gone. Running pods heed a change within moments. Acted on by the runtime.
	// +operator-sdk:csv:customresourcedefinitions:type=spec,displayName="Health"
	// +optional
	Health Health `json:"health,omitzero"`

	// endpoint says where MCP clients reach the gateway. Unset means a Service of type ClusterIP at port 80. Acted on by the operator,
	// hosts and origins by the runtime.
	// +operator-sdk:csv:customresourcedefinitions:type=spec,displayName="Endpoint"
	// +optional
	Endpoint Endpoint `json:"endpoint,omitzero"`

	// replicas is the number of the gateway's pods. Unset means that the operator leaves the number alone: one at first, and then
	// whatever "kubectl scale" says. Acted on by the operator.
	// +operator-sdk:csv:customresourcedefinitions:type=spec,displayName="Replicas",xDescriptors={"urn:alm:descriptor:com.tectonic.ui:podCount"}
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	Replicas *int32 `json:"replicas,omitempty"`

	// autoscaling lets a HorizontalPodAutoscaler choose the number of the gateway's pods. Unset means that none does. Acted on by the
	// operator.
	// +operator-sdk:csv:customresourcedefinitions:type=spec,displayName="Autoscaling"
	// +optional
	Autoscaling *Autoscaling `json:"autoscaling,omitempty"`

	// resources are the compute resources of the gateway's container. Unset means requests of 50m CPU and 64Mi memory, and no
	// limits; once set, it says all there is. Acted on by the operator.
	// +operator-sdk:csv:customresourcedefinitions:type=spec,displayName="Resources",xDescriptors={"urn:alm:descriptor:com.tectonic.ui:resourceRequirements"}
	// +optional
	Resources *ComputeResources `json:"resources,omitempty"`

	// imagePullSecrets name the Secrets with which the kubelet pulls the images of the gateway's pods. Unset means none but
	// those of the node. Acted on by the operator.
	// +operator-sdk:csv:customresourcedefinitions:type=spec,displayName="Image Pull Secrets",xDescriptors={"urn:alm:descriptor:com.tectonic.ui:advanced"}
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	ImagePullSecrets []LocalReference `json:"imagePullSecrets,omitempty"`

	// commonMetadata are labels and annotations for everything that the operator provisions. Unset means none. Acted on by the operator.
	// +operator-sdk:csv:customresourcedefinitions:type=spec,displayName="Common Metadata",xDescriptors={"urn:alm:descriptor:com.tectonic.ui:advanced"}
	// +optional
	CommonMetadata CommonMetadata `json:"commonMetadata,omitzero"`

	// patches change what the operator provisions, in their order: for node selection, affinity, tolerations, sidecars, the
	// type of the Service and the like. What the gateway needs to work and what keeps it apart from others cannot be changed:
	// names, owners, selectors, rights, configuration, the runtime's image, arguments and environment, and the Secrets that
	// pods reach; pods meet the "restricted" Pod Security Standard. With a patch that breaks a rule nothing is changed, and the
	// condition OperandRendered says which one and why. Unset means none. Acted on by the operator.
	// +operator-sdk:csv:customresourcedefinitions:type=spec,displayName="Patches",xDescriptors={"urn:alm:descriptor:com.tectonic.ui:advanced"}
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	Patches []Patch `json:"patches,omitempty"`
}

// VirtualMCPServer is one MCP endpoint in front of the backends of a group.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=virtualmcpservers,scope=Namespaced,shortName=vmcp
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Ready",type=integer,JSONPath=`.status.backends.ready`,description="backends that are ready"
// +kubebuilder:printcolumn:name="Backends",type=integer,JSONPath=`.status.backends.total`,description="backends that were discovered"
// +kubebuilder:printcolumn:name="URL",type=string,JSONPath=`.status.url`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Tools",type=integer,JSONPath=`.status.catalog.tools`,priority=10
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.message`,priority=10
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && self.metadata.name.size() <= 52",message="the name of a VirtualMCPServer is a DNS label of at most 52 characters that begins with a letter: it becomes part of the name of a Service"
// +kubebuilder:validation:XValidation:rule="!self.metadata.name.startsWith('auth-')",message="names of VirtualMCPServers that begin with auth- are reserved: the Role of the runtime would be named as that of an MCPExternalAuthConfig"
// +operator-sdk:csv:customresourcedefinitions:displayName="Virtual MCP Server",order=1,resources={{ServiceAccount,v1,},{Secret,v1,},{Role,v1,},{RoleBinding,v1,},{ConfigMap,v1,},{Lease,v1,},{Deployment,v1,},{Service,v1,},{HorizontalPodAutoscaler,v2,},{Event,v1,}}
type VirtualMCPServer struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec describes the gateway.
	// +required
	Spec VirtualMCPServerSpec `json:"spec"`

	// status is what operator and runtime observed, each its own part.
	// +optional
	Status VirtualMCPServerStatus `json:"status,omitzero"`
}

// VirtualMCPServerList is a list of VirtualMCPServers.
//
// +kubebuilder:object:root=true
type VirtualMCPServerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []VirtualMCPServer `json:"items"`
}
