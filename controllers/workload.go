// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"path"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/controllers/operand"
)

const (
	// workloadContainer is the container of the MCP server, and the name of its port.
	workloadContainer = "mcp"
	// bridgeContainer is the init container that brings the bridge into the pod of a stdio server.
	bridgeContainer = "vmcp-bridge"
	// bridgeVolume holds the bridge. Names with this prefix are reserved, so no volume of a user is called that.
	bridgeVolume = "vmcp-bridge"
	bridgeDir    = "/vmcp-bridge"
	// bridgeShutdownDelay is longer than it takes until no node's proxy leads new connections to a pod that ends.
	bridgeShutdownDelay = "5s"
)

// bridgeProgram is the runtime's binary in the pod of a stdio server.
var bridgeProgram = path.Join(bridgeDir, "vmcp")

// bridgeVolumeSize is ample for the runtime's binary, and bounds what a bad image could write.
var bridgeVolumeSize = resource.MustParse("128Mi")

// workloadSelector are the labels of the pods of a backend.
func workloadSelector(b *v1alpha1.MCPBackend) map[string]string {
	return map[string]string{
		"app.kubernetes.io/name":      "mcp-backend",
		"app.kubernetes.io/instance":  b.Name,
		"app.kubernetes.io/component": "backend",
	}
}

func workloadLabels(b *v1alpha1.MCPBackend) map[string]string {
	labels := workloadSelector(b)
	labels["app.kubernetes.io/part-of"] = "vmcp"
	labels[v1alpha1.ManagedByLabel] = v1alpha1.ManagedByValue
	labels[v1alpha1.BackendLabel] = b.Name
	return labels
}

// newWorkloadService is the Service of a workload backend.
func newWorkloadService(b *v1alpha1.MCPBackend) *corev1ac.ServiceApplyConfiguration {
	return corev1ac.Service(v1alpha1.WorkloadName(b.Name), b.Namespace).
		WithLabels(workloadLabels(b)).
		WithOwnerReferences(ownerReference(b)).
		WithSpec(corev1ac.ServiceSpec().
			WithType(corev1.ServiceTypeClusterIP).
			WithSelector(workloadSelector(b)).
			// Sessions of MCP are kept in a server's memory: what belongs to one has to reach the pod where it began.
			WithSessionAffinity(corev1.ServiceAffinityClientIP).
			WithPorts(corev1ac.ServicePort().
				WithName(workloadContainer).
				WithPort(b.Spec.Workload.ListenPort()).
				WithTargetPort(intstr.FromString(workloadContainer)).
				WithProtocol(corev1.ProtocolTCP).
				WithAppProtocol("http")))
}

// newWorkloadDeployment is the Deployment of a workload backend. Its pod meets the "restricted" Pod Security Standard whatever the
// spec says.
func newWorkloadDeployment(b *v1alpha1.MCPBackend, runtimeImage string) *appsv1ac.DeploymentApplyConfiguration {
	d := appsv1ac.Deployment(v1alpha1.WorkloadName(b.Name), b.Namespace).
		WithLabels(workloadLabels(b)).
		WithOwnerReferences(ownerReference(b)).
		WithSpec(appsv1ac.DeploymentSpec().
			WithStrategy(workloadStrategy(b.Spec.Workload)).
			WithSelector(metav1ac.LabelSelector().WithMatchLabels(workloadSelector(b))).
			WithTemplate(corev1ac.PodTemplateSpec().
				WithLabels(workloadLabels(b)).
				WithAnnotations(map[string]string{"kubectl.kubernetes.io/default-container": workloadContainer}).
				WithSpec(newWorkloadPod(b, runtimeImage))))
	// Without a number in the spec it is somebody else's choice (see letGoOfReplicas).
	d.Spec.Replicas = b.Spec.Workload.Replicas
	return d
}

// workloadStrategy replaces pods without a gap, unless they share a claim that may be mounted on one node only.
func workloadStrategy(w *v1alpha1.Workload) *appsv1ac.DeploymentStrategyApplyConfiguration {
	for _, v := range w.Volumes {
		if v.PersistentVolumeClaim != nil {
			return appsv1ac.DeploymentStrategy().WithType(appsv1.RecreateDeploymentStrategyType)
		}
	}
	return appsv1ac.DeploymentStrategy().
		WithType(appsv1.RollingUpdateDeploymentStrategyType).
		WithRollingUpdate(appsv1ac.RollingUpdateDeployment().
			WithMaxUnavailable(intstr.FromInt32(0)).
			WithMaxSurge(intstr.FromInt32(1)))
}

func newWorkloadPod(b *v1alpha1.MCPBackend, runtimeImage string) *corev1ac.PodSpecApplyConfiguration {
	w := b.Spec.Workload
	// The default ServiceAccount is named, and not left out: an omitted name would leave an earlier one in place, because the
	// API server fills it in from the deprecated field serviceAccount.
	serviceAccount := "default"
	if w.ServiceAccountName != "" {
		serviceAccount = w.ServiceAccountName
	}
	pod := corev1ac.PodSpec().
		WithServiceAccountName(serviceAccount).
		WithAutomountServiceAccountToken(w.ServiceAccountName != "").
		WithEnableServiceLinks(false).
		WithSecurityContext(corev1ac.PodSecurityContext().
			WithRunAsNonRoot(true).
			WithSeccompProfile(corev1ac.SeccompProfile().WithType(corev1.SeccompProfileTypeRuntimeDefault))).
		WithContainers(newWorkloadContainer(b))
	for _, s := range w.ImagePullSecrets {
		pod.WithImagePullSecrets(corev1ac.LocalObjectReference().WithName(s.Name))
	}
	for _, v := range w.Volumes {
		pod.WithVolumes(newWorkloadVolume(v))
	}
	if b.Spec.Transport == v1alpha1.TransportStdio {
		pod.WithInitContainers(newBridgeContainer(runtimeImage))
		pod.WithVolumes(corev1ac.Volume().
			WithName(bridgeVolume).
			WithEmptyDir(corev1ac.EmptyDirVolumeSource().WithSizeLimit(bridgeVolumeSize)))
	}
	return pod
}

func newWorkloadContainer(b *v1alpha1.MCPBackend) *corev1ac.ContainerApplyConfiguration {
	w := b.Spec.Workload
	c := corev1ac.Container().
		WithName(workloadContainer).
		WithImage(w.Image).
		WithPorts(corev1ac.ContainerPort().
			WithName(workloadContainer).
			WithContainerPort(w.ListenPort()).
			WithProtocol(corev1.ProtocolTCP)).
		WithReadinessProbe(corev1ac.Probe().
			WithTCPSocket(corev1ac.TCPSocketAction().WithPort(intstr.FromString(workloadContainer))).
			WithPeriodSeconds(2).
			WithTimeoutSeconds(2).
			WithFailureThreshold(3)).
		WithTerminationMessagePolicy(corev1.TerminationMessageFallbackToLogsOnError).
		WithSecurityContext(restricted())
	if w.ImagePullPolicy != "" {
		c.WithImagePullPolicy(w.ImagePullPolicy)
	}
	if b.Spec.Transport == v1alpha1.TransportStdio {
		c.WithCommand(bridgeProgram, "bridge", "--listen", fmt.Sprintf(":%d", w.ListenPort()), "--path", w.EndpointPath(),
			"--shutdown-delay", bridgeShutdownDelay, "--")
		c.WithCommand(w.Command...)
		c.WithCommand(w.Args...)
	} else {
		c.WithCommand(w.Command...)
		c.WithArgs(w.Args...)
	}
	for _, e := range w.Env {
		c.WithEnv(newWorkloadEnv(e))
	}
	for _, e := range w.EnvFrom {
		c.WithEnvFrom(newWorkloadEnvFrom(e))
	}
	for _, m := range w.VolumeMounts {
		c.WithVolumeMounts(corev1ac.VolumeMount().WithName(m.Name).WithMountPath(m.MountPath))
	}
	if b.Spec.Transport == v1alpha1.TransportStdio {
		c.WithVolumeMounts(corev1ac.VolumeMount().WithName(bridgeVolume).WithMountPath(bridgeDir).WithReadOnly(true))
	}
	if r := w.Resources; r != nil {
		c.WithResources(operand.ResourceRequirements(*r))
	}
	return c
}

// newBridgeContainer copies the runtime's binary to where the container of a stdio server finds it. The image's entry point is that
// binary.
func newBridgeContainer(runtimeImage string) *corev1ac.ContainerApplyConfiguration {
	return corev1ac.Container().
		WithName(bridgeContainer).
		WithImage(runtimeImage).
		WithArgs("bridge", "install", bridgeProgram).
		WithTerminationMessagePolicy(corev1.TerminationMessageFallbackToLogsOnError).
		WithResources(corev1ac.ResourceRequirements().WithRequests(corev1.ResourceList{
			corev1.ResourceCPU:    resource.MustParse("10m"),
			corev1.ResourceMemory: resource.MustParse("16Mi"),
		})).
		WithSecurityContext(restricted().WithReadOnlyRootFilesystem(true)).
		WithVolumeMounts(corev1ac.VolumeMount().WithName(bridgeVolume).WithMountPath(bridgeDir))
}

// restricted is what the "restricted" Pod Security Standard asks of a container, beside what the pod says for all.
func restricted() *corev1ac.SecurityContextApplyConfiguration {
	return corev1ac.SecurityContext().
		WithAllowPrivilegeEscalation(false).
		WithRunAsNonRoot(true).
		WithCapabilities(corev1ac.Capabilities().WithDrop("ALL"))
}
