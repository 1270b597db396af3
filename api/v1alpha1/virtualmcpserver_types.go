// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

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
// OperandRendered, RBACReady, ConfigReady, DeploymentReady, ServiceReady, RuntimeReporting and Stalled; the runtime owns
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
	// ServiceReady, RuntimeReporting and Stalled; written by the runtime: Ready, BackendsDiscovered and CatalogReady.
	// +operator-sdk:csv:customresourcedefinitions:type=status,displayName="Conditions",xDescriptors={"urn:alm:descriptor:io.kubernetes.conditions"}
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// discoveredBackends are the backends that the runtime found, and its verdict on each. Written by the runtime; in static mode source,
	// url, transport, authType and authConfigRef by the operator.
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
