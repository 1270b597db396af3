// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package operand

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"net/url"
	"path"
	"strconv"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	autoscalingv2ac "k8s.io/client-go/applyconfigurations/autoscaling/v2"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	rbacv1ac "k8s.io/client-go/applyconfigurations/rbac/v1"

	"sigs.k8s.io/kustomize/api/resmap"
	kustomize "sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/resid"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// Component and name labels of what is rendered.
const (
	labelName      = "app.kubernetes.io/name"
	labelInstance  = "app.kubernetes.io/instance"
	labelComponent = "app.kubernetes.io/component"
	labelPartOf    = "app.kubernetes.io/part-of"

	componentGateway = "gateway"
	product          = "vmcp"

	// placeholder is the name of every object in the base but one, and of its container; placeholderPeers is that of the other one.
	placeholder      = "vmcp"
	placeholderPeers = "mcp-peers"

	// kindAutoscaler is the kind of the object that not every gateway has.
	kindAutoscaler = "HorizontalPodAutoscaler"
)

// Names of environment variables that the runtime reads.
const (
	EnvName      = "VMCP_NAME"
	EnvNamespace = "VMCP_NAMESPACE"
	EnvPodName   = "POD_NAME"
	EnvPodIP     = "POD_IP"
	// EnvOutgoingAuthSource is the source of backends that the pod was rolled for.
	EnvOutgoingAuthSource = "VMCP_OUTGOING_AUTH_SOURCE"
)

// Input is all that an Operand depends on.
type Input struct {
	// Name, Namespace and UID are those of the VirtualMCPServer; it becomes the controller of every object.
	Name      string
	Namespace string
	UID       types.UID
	// Image is the image of the runtime.
	Image string
	// ProxyEnv are the proxy variables of the cluster, possibly none.
	ProxyEnv []corev1.EnvVar
	// DiscoversBackends gives the runtime the rights to find backends by itself.
	DiscoversBackends bool
	// Discovery says which kinds beside MCPBackends it may look for then.
	Discovery v1alpha1.GroupDiscovery
	// CredentialSecrets name the Secrets that are mounted into the pods, below configv1alpha1.CredentialsDir; possibly none.
	CredentialSecrets []string
	// Configuration is what the runtime is to serve.
	Configuration configv1alpha1.RuntimeConfiguration
	// Replicas is the number of pods; nil means that somebody else chooses it.
	Replicas *int32
	// Autoscaling is how an autoscaler chooses it; nil means that there is none.
	Autoscaling *v1alpha1.Autoscaling
	// Service is what a user says about the Service. It has been validated.
	Service v1alpha1.EndpointService
	// Resources are those of the runtime's container; nil means the ones of the base.
	Resources *v1alpha1.ComputeResources
	// ImagePullSecrets name the Secrets with which images are pulled, possibly none.
	ImagePullSecrets []v1alpha1.LocalReference
	// CommonMetadata are labels and annotations for all objects and the pods. They have been validated.
	CommonMetadata v1alpha1.CommonMetadata
	// Patches are the user's last word, in the order in which they are applied. They have been validated, but for their text.
	Patches []v1alpha1.Patch
}

// SelectorLabels are the labels by which the Service and the Deployment of a VirtualMCPServer find its pods.
func SelectorLabels(name string) map[string]string {
	return map[string]string{labelName: product, labelInstance: name, labelComponent: componentGateway}
}

// Labels are those of everything that is provisioned for a VirtualMCPServer.
func Labels(name string, common v1alpha1.CommonMetadata) map[string]string {
	labels := Plain(common.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, SelectorLabels(name))
	maps.Copy(labels, provisionedLabels(name))
	return labels
}

// provisionedLabels are the labels by which the operator finds what it provisioned for a VirtualMCPServer.
func provisionedLabels(name string) map[string]string {
	return map[string]string{
		v1alpha1.ManagedByLabel:        v1alpha1.ManagedByValue,
		labelPartOf:                    product,
		v1alpha1.VirtualMCPServerLabel: name,
	}
}

// AllowedHosts are the hosts that the endpoint of a VirtualMCPServer allows. Unless it says so itself, they are the DNS names of the Service
// within a cluster with the default domain, and the host of the public URL.
func AllowedHosts(name, namespace string, endpoint v1alpha1.Endpoint) []string {
	return endpoint.Hosts(serviceHosts(name, namespace))
}

// OwnURLs are the URLs of the endpoint of a VirtualMCPServer: one for each DNS name of its Service, and the public one.
func OwnURLs(name, namespace string, endpoint v1alpha1.Endpoint) []string {
	urls := serviceHosts(name, namespace)
	for i, host := range urls {
		u := url.URL{Scheme: "http", Host: host, Path: v1alpha1.EndpointPath}
		if port := endpoint.Service.ListenPort(); port != v1alpha1.ServicePort {
			u.Host = net.JoinHostPort(host, strconv.Itoa(int(port)))
		}
		urls[i] = u.String()
	}
	if endpoint.PublicURL != "" {
		urls = append(urls, endpoint.PublicURL)
	}
	return urls
}

// serviceHosts are the DNS names of the Service of a VirtualMCPServer within a cluster with the default domain.
func serviceHosts(name, namespace string) []string {
	service := v1alpha1.OperandName(name)
	return []string{
		service,
		service + "." + namespace,
		service + "." + namespace + ".svc",
		service + "." + namespace + ".svc.cluster.local",
	}
}

// newOverlay is the kustomization that turns the base into the objects of one VirtualMCPServer. Names, namespace, labels and
// the references between the objects are Kustomize's work; what is particular comes as patches.
func newOverlay(in Input) (*kustomize.Kustomization, error) {
	patches, err := newPatches(in)
	if err != nil {
		return nil, err
	}
	labels := []kustomize.Label{
		{Pairs: SelectorLabels(in.Name), IncludeSelectors: true},
		{Pairs: provisionedLabels(in.Name), IncludeTemplates: true},
	}
	if common := in.CommonMetadata.Labels; len(common) > 0 {
		labels = append(labels, kustomize.Label{Pairs: Plain(common), IncludeTemplates: true})
	}
	var components []string
	if in.Autoscaling != nil {
		components = []string{path.Join("..", componentsDir, "autoscaling")}
	}
	return &kustomize.Kustomization{
		TypeMeta:          kustomize.TypeMeta{APIVersion: kustomize.KustomizationVersion, Kind: kustomize.KustomizationKind},
		Resources:         []string{path.Join("..", baseDir)},
		Components:        components,
		Namespace:         in.Namespace,
		NameSuffix:        "-" + in.Name,
		Labels:            labels,
		CommonAnnotations: Plain(in.CommonMetadata.Annotations),
		Patches:           patches,
	}, nil
}

// Plain is m with values of type string.
func Plain[V ~string](m map[string]V) map[string]string {
	if len(m) == 0 {
		return nil
	}
	values := make(map[string]string, len(m))
	for key, value := range m {
		values[key] = string(value)
	}
	return values
}

// particularPatch is a patch of the one object of a kind: an apply configuration or a list of jsonPatch.
type particularPatch struct {
	kind  string
	patch any
}

func newPatches(in Input) ([]kustomize.Patch, error) {
	configuration, err := configv1alpha1.Marshal(&in.Configuration)
	if err != nil {
		return nil, fmt.Errorf("encoding the runtime's configuration: %w", err)
	}
	particular := []particularPatch{
		{"ConfigMap", corev1ac.ConfigMap(placeholder, "").
			WithData(map[string]string{configv1alpha1.FileName: string(configuration)})},
		{"Role", rbacv1ac.Role(placeholder, "").WithRules(rules(in)...)},
		{"Deployment", appsv1ac.Deployment(placeholder, "").WithSpec(deploymentSpec(in))},
		{"Service", servicePatch(in.Service)},
	}
	if in.Autoscaling != nil {
		particular = append(particular, particularPatch{kindAutoscaler, autoscalerPatch(in.Autoscaling)})
	}
	if in.Resources != nil {
		particular = append(particular, particularPatch{"Deployment", resourcesPatch(*in.Resources)})
	}
	patches := make([]kustomize.Patch, 0, len(particular)+1)
	for _, p := range particular {
		text, err := patchText(p.patch)
		if err != nil {
			return nil, err
		}
		patches = append(patches, kustomize.Patch{
			Patch:  text,
			Target: &kustomize.Selector{ResId: resid.ResId{Gvk: resid.Gvk{Kind: p.kind}, Name: placeholder}},
		})
	}
	owner, err := patchText(ownerPatch(in))
	if err != nil {
		return nil, err
	}
	// A selector without a kind selects every object of the base.
	every := &kustomize.Selector{ResId: resid.ResId{Name: "(" + placeholder + "|" + placeholderPeers + ")"}}
	return append(patches, kustomize.Patch{Patch: owner, Target: every}), nil
}

func deploymentSpec(in Input) *appsv1ac.DeploymentSpecApplyConfiguration {
	spec := appsv1ac.DeploymentSpec().
		WithTemplate(corev1ac.PodTemplateSpec().
			WithAnnotations(map[string]string{v1alpha1.OutgoingAuthSourceAnnotation: string(in.Configuration.Source)}).
			WithSpec(corev1ac.PodSpec().
				WithImagePullSecrets(pullSecrets(in)...).
				WithVolumes(sessionKeysVolume(in)).
				WithVolumes(credentialVolumes(in)...).
				WithContainers(container(in))))
	spec.Replicas = in.Replicas
	return spec
}

func autoscalerPatch(a *v1alpha1.Autoscaling) *autoscalingv2ac.HorizontalPodAutoscalerApplyConfiguration {
	return autoscalingv2ac.HorizontalPodAutoscaler(placeholder, "").
		WithSpec(autoscalingv2ac.HorizontalPodAutoscalerSpec().
			WithMinReplicas(a.MinPods()).
			WithMaxReplicas(a.MaxReplicas).
			WithMetrics(autoscalingv2ac.MetricSpec().
				WithType(autoscalingv2.ResourceMetricSourceType).
				WithResource(autoscalingv2ac.ResourceMetricSource().
					WithName(corev1.ResourceCPU).
					WithTarget(autoscalingv2ac.MetricTarget().
						WithType(autoscalingv2.UtilizationMetricType).
						WithAverageUtilization(a.TargetCPU())))))
}

// servicePatch replaces values of the base: in a merge another port would be a second one.
func servicePatch(s v1alpha1.EndpointService) []jsonPatch {
	return []jsonPatch{
		{Op: "replace", Path: "/spec/type", Value: cmp.Or(s.Type, corev1.ServiceTypeClusterIP)},
		{Op: "replace", Path: "/spec/ports/0/port", Value: s.ListenPort()},
	}
}

// annotateService adds the annotations of the Service alone. They win over those of all objects, which Kustomize adds last.
func annotateService(resources resmap.ResMap, annotations map[string]v1alpha1.AnnotationValue) error {
	for _, r := range resources.Resources() {
		if fieldOf(r) != "Service" || len(annotations) == 0 {
			continue
		}
		all := r.GetAnnotations()
		maps.Copy(all, Plain(annotations))
		if err := r.SetAnnotations(all); err != nil {
			return fmt.Errorf("annotating the Service: %w", err)
		}
	}
	return nil
}

func container(in Input) *corev1ac.ContainerApplyConfiguration {
	c := corev1ac.Container().
		WithName(placeholder).
		WithImage(in.Image).
		WithEnv(
			corev1ac.EnvVar().WithName(EnvName).WithValue(in.Name),
			corev1ac.EnvVar().WithName(EnvNamespace).WithValue(in.Namespace),
			fieldEnv(EnvPodName, "metadata.name"),
			fieldEnv(EnvPodIP, "status.podIP"),
			fieldEnv(EnvOutgoingAuthSource, "metadata.annotations['"+v1alpha1.OutgoingAuthSourceAnnotation+"']"),
		)
	for _, e := range in.ProxyEnv {
		c.WithEnv(corev1ac.EnvVar().WithName(e.Name).WithValue(e.Value))
	}
	for _, secret := range in.CredentialSecrets {
		c.WithVolumeMounts(corev1ac.VolumeMount().
			WithName(credentialVolume(secret)).
			WithMountPath(path.Join(configv1alpha1.CredentialsDir, secret)).
			WithReadOnly(true))
	}
	return c
}

// fieldEnv is a variable with a field of the pod.
func fieldEnv(name, path string) *corev1ac.EnvVarApplyConfiguration {
	return corev1ac.EnvVar().WithName(name).WithValueFrom(corev1ac.EnvVarSource().
		WithFieldRef(corev1ac.ObjectFieldSelector().WithAPIVersion("v1").WithFieldPath(path)))
}

// sessionKeysVolume names the Secret of the volume that the base has.
func sessionKeysVolume(in Input) *corev1ac.VolumeApplyConfiguration {
	return corev1ac.Volume().
		WithName("session-keys").
		WithSecret(corev1ac.SecretVolumeSource().WithSecretName(v1alpha1.OperandName(in.Name)))
}

// credentialVolumes are the volumes of Secrets. They are optional: a Secret that goes is the trouble of the backends that need it and
// keeps no pod from starting.
func credentialVolumes(in Input) []*corev1ac.VolumeApplyConfiguration {
	volumes := make([]*corev1ac.VolumeApplyConfiguration, len(in.CredentialSecrets))
	for i, secret := range in.CredentialSecrets {
		volumes[i] = corev1ac.Volume().
			WithName(credentialVolume(secret)).
			WithSecret(corev1ac.SecretVolumeSource().WithSecretName(secret).WithOptional(true))
	}
	return volumes
}

// credentialVolume is the name of the volume of a Secret. The name of a Secret itself can be too long for one, and can have dots.
func credentialVolume(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return "credential-" + hex.EncodeToString(sum[:16])
}

func pullSecrets(in Input) []*corev1ac.LocalObjectReferenceApplyConfiguration {
	secrets := make([]*corev1ac.LocalObjectReferenceApplyConfiguration, len(in.ImagePullSecrets))
	for i, s := range in.ImagePullSecrets {
		secrets[i] = corev1ac.LocalObjectReference().WithName(s.Name)
	}
	return secrets
}

// resourcesPatch replaces the resources of the base, whole: a merge could leave a request above the limit.
func resourcesPatch(r v1alpha1.ComputeResources) []jsonPatch {
	return []jsonPatch{{
		Op:    "add",
		Path:  "/spec/template/spec/containers/0/resources",
		Value: ResourceRequirements(r),
	}}
}

// ResourceRequirements are the compute resources of a container. An empty list is left out: as null it would differ from what
// the API server keeps of it.
func ResourceRequirements(r v1alpha1.ComputeResources) *corev1ac.ResourceRequirementsApplyConfiguration {
	requirements := corev1ac.ResourceRequirements()
	if len(r.Requests) > 0 {
		requirements.WithRequests(r.Requests)
	}
	if len(r.Limits) > 0 {
		requirements.WithLimits(r.Limits)
	}
	return requirements
}

// jsonPatch is one operation of RFC 6902.
type jsonPatch struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

func ownerPatch(in Input) []jsonPatch {
	return []jsonPatch{{
		Op:   "add",
		Path: "/metadata/ownerReferences",
		Value: []*metav1ac.OwnerReferenceApplyConfiguration{metav1ac.OwnerReference().
			WithAPIVersion(v1alpha1.GroupVersion.String()).
			WithKind("VirtualMCPServer").
			WithName(in.Name).
			WithUID(in.UID).
			WithController(true).
			WithBlockOwnerDeletion(true)},
	}}
}
