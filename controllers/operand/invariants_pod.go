// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package operand

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// runtimeProgram is the entry point of the runtime's image.
const runtimeProgram = "/vmcp"

// The invariants of the pods. Whoever may create a VirtualMCPServer need not be one who may create pods: a patch must not make of the
// container vmcp, of its token and of the Secrets that are mounted for it a way to more than the gateway's own work. Another
// container in the pod is fine as long as it is a stranger to all of these.

func oneRuntime(_, is *objects) string {
	return unless(len(is.runtimes()) == 1, "the patch removes or doubles the container vmcp, which is the gateway")
}

func sameProgram(was, is *objects) string {
	a, b := was.runtimes()[0], is.runtimes()[0]
	switch {
	case a.Image != b.Image:
		return "the patch changes the image of the container vmcp; the operator sets it for all gateways"
	case !slices.Equal(a.Command, b.Command) || !slices.Equal(a.Args, b.Args) || a.WorkingDir != b.WorkingDir:
		return "the patch changes command, args or workingDir of the container vmcp"
	default:
		return ""
	}
}

// noCommands keeps other programs out of the container of the runtime, where its token and the credentials of backends are. Probes and
// hooks that make requests are fine.
func noCommands(_, is *objects) string {
	c := is.runtimes()[0]
	var found string
	probe := func(name string, p *corev1.Probe) {
		if p != nil && p.Exec != nil {
			found = name
		}
	}
	hook := func(name string, h *corev1.LifecycleHandler) {
		if h != nil && h.Exec != nil {
			found = name
		}
	}
	probe("livenessProbe", c.LivenessProbe)
	probe("readinessProbe", c.ReadinessProbe)
	probe("startupProbe", c.StartupProbe)
	if c.Lifecycle != nil {
		hook("lifecycle.postStart", c.Lifecycle.PostStart)
		hook("lifecycle.preStop", c.Lifecycle.PreStop)
	}
	return unless(found == "", fmt.Sprintf("the patch runs a command in the container vmcp (%s.exec), next to the credentials of backends", found))
}

func sameEnvironment(was, is *objects) string {
	now := is.runtimes()[0].Env
	for _, want := range was.runtimes()[0].Env {
		have := slices.DeleteFunc(slices.Clone(now), func(e corev1.EnvVar) bool { return e.Name != want.Name })
		if len(have) != 1 || !equality.Semantic.DeepEqual(have[0], want) {
			return fmt.Sprintf("the patch changes the environment variable %s of the container vmcp; the operator sets it", want.Name)
		}
	}
	return ""
}

// noSteeringEnvironment keeps out what leads the runtime to another cluster or identity; a kubeconfig can even name a program to run. What
// a ConfigMap holds is not known here.
func noSteeringEnvironment(was, is *objects) string {
	runtime := is.runtimes()[0]
	for _, e := range runtime.Env {
		steers := e.Name == clientcmd.RecommendedConfigPathEnvVar ||
			strings.HasPrefix(e.Name, "VMCP_") || strings.HasPrefix(e.Name, "KUBERNETES_SERVICE_")
		known := slices.ContainsFunc(was.runtimes()[0].Env, func(o corev1.EnvVar) bool { return o.Name == e.Name })
		if steers && !known {
			return fmt.Sprintf("the patch sets the environment variable %s of the container vmcp, which is reserved", e.Name)
		}
	}
	return unless(len(runtime.EnvFrom) == 0, "the patch sets envFrom of the container vmcp; write the variables under env")
}

func samePorts(was, is *objects) string {
	return unless(equality.Semantic.DeepEqual(was.runtimes()[0].Ports, is.runtimes()[0].Ports), "the patch changes the ports of the container vmcp")
}

func samePodIdentity(was, is *objects) string {
	a, b := was.pod(), is.pod()
	return unless(a.ServiceAccountName == b.ServiceAccountName && a.DeprecatedServiceAccount == b.DeprecatedServiceAccount &&
		equality.Semantic.DeepEqual(a.AutomountServiceAccountToken, b.AutomountServiceAccountToken),
		"the patch changes the ServiceAccount of the pods or whether they get its token")
}

func sameVolumes(was, is *objects) string {
	for _, want := range was.pod().Volumes {
		have := slices.DeleteFunc(slices.Clone(is.pod().Volumes), func(v corev1.Volume) bool { return v.Name != want.Name })
		if len(have) != 1 || !equality.Semantic.DeepEqual(have[0], want) {
			return fmt.Sprintf("the patch changes the volume %s, which the operator sets", want.Name)
		}
	}
	return ""
}

// sameMounts keeps what the operator mounts into the container of the runtime, and everything else away from there and from the
// program: another file in its place would be another image.
func sameMounts(was, is *objects) string {
	wanted, added := was.runtimes()[0].VolumeMounts, slices.Clone(is.runtimes()[0].VolumeMounts)
	guarded := []string{runtimeProgram}
	for _, want := range wanted {
		i := slices.IndexFunc(added, func(m corev1.VolumeMount) bool { return equality.Semantic.DeepEqual(m, want) })
		if i < 0 {
			return fmt.Sprintf("the patch changes what is mounted at %s of the container vmcp", want.MountPath)
		}
		added = slices.Delete(added, i, i+1)
		guarded = append(guarded, want.MountPath)
	}
	for _, m := range added {
		for _, g := range guarded {
			if within(m.MountPath, g) || within(g, m.MountPath) {
				return fmt.Sprintf("the patch mounts a volume at %s of the container vmcp, where it would hide %s", m.MountPath, g)
			}
		}
	}
	return ""
}

// within says whether a path is a folder or lies in it.
func within(name, folder string) bool {
	name, folder = path.Join("/", name), path.Join("/", folder)
	return folder == "/" || name == folder || strings.HasPrefix(name, folder+"/")
}

// privateVolumes keeps what the operator mounts away from other containers: the credentials of backends and the token of the runtime.
func privateVolumes(was, is *objects) string {
	private := map[string]bool{}
	for _, v := range was.pod().Volumes {
		private[v.Name] = true
	}
	others := slices.DeleteFunc(slices.Clone(is.pod().Containers), func(c corev1.Container) bool { return c.Name == placeholder })
	for _, c := range slices.Concat(is.pod().InitContainers, others) {
		for _, m := range c.VolumeMounts {
			if private[m.Name] {
				return fmt.Sprintf("the patch mounts the volume %s into the container %s; what the operator mounts is for the container vmcp alone",
					m.Name, c.Name)
			}
		}
	}
	return ""
}

// noOtherSecrets keeps away from pods every Secret that the operator did not put there: whoever may create a VirtualMCPServer could
// read any Secret of the namespace otherwise. Volume types that are not looked at here are refused by restrictedPods.
func noOtherSecrets(was, is *objects) string {
	before, now := secrets(was.pod()), secrets(is.pod())
	for _, use := range now {
		if !slices.Contains(before, use) {
			return fmt.Sprintf("the patch lets pods reach %s; patches cannot refer to Secrets", use)
		}
	}
	for _, use := range before {
		if !slices.Contains(now, use) {
			return fmt.Sprintf("the patch takes %s away from the pods", use)
		}
	}
	return ""
}

// secrets names the Secrets that a pod reaches, and how. Those that images are pulled with are read by the kubelet only.
func secrets(pod *corev1.PodSpec) []string {
	var found []string
	for _, v := range pod.Volumes {
		if v.Secret != nil {
			found = append(found, fmt.Sprintf("Secret %q by volume %s", v.Secret.SecretName, v.Name))
		}
		if v.Projected != nil {
			for _, s := range v.Projected.Sources {
				if s.Secret != nil {
					found = append(found, fmt.Sprintf("Secret %q by volume %s", s.Secret.Name, v.Name))
				}
			}
		}
		if v.CSI != nil && v.CSI.NodePublishSecretRef != nil {
			found = append(found, fmt.Sprintf("Secret %q by volume %s", v.CSI.NodePublishSecretRef.Name, v.Name))
		}
	}
	environment := func(container string, env []corev1.EnvVar, from []corev1.EnvFromSource) {
		for _, e := range env {
			if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
				found = append(found, fmt.Sprintf("Secret %q by variable %s of container %s", e.ValueFrom.SecretKeyRef.Name, e.Name, container))
			}
		}
		for _, f := range from {
			if f.SecretRef != nil {
				found = append(found, fmt.Sprintf("Secret %q by envFrom of container %s", f.SecretRef.Name, container))
			}
		}
	}
	for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
		environment(c.Name, c.Env, c.EnvFrom)
	}
	for _, c := range pod.EphemeralContainers {
		environment(c.Name, c.Env, c.EnvFrom)
	}
	return found
}

// noOtherTokens keeps proofs of the runtime's identity, its rights with them, from further volumes.
func noOtherTokens(was, is *objects) string {
	for _, v := range is.pod().Volumes {
		own := slices.ContainsFunc(was.pod().Volumes, func(o corev1.Volume) bool { return o.Name == v.Name })
		if own || v.Projected == nil {
			continue
		}
		for _, s := range v.Projected.Sources {
			if s.ServiceAccountToken != nil || s.PodCertificate != nil {
				return fmt.Sprintf("the patch puts a token or certificate of the gateway's ServiceAccount into the volume %s", v.Name)
			}
		}
	}
	return ""
}

func noEphemeralContainers(_, is *objects) string {
	return unless(len(is.pod().EphemeralContainers) == 0, "the patch adds ephemeral containers, which a template of pods cannot have")
}

// ownProcesses keeps the processes of containers apart: one that sees those of the runtime sees its files, too, the credentials of
// backends among them. Those of the node are the concern of restrictedPods.
func ownProcesses(_, is *objects) string {
	share := is.pod().ShareProcessNamespace
	return unless(share == nil || !*share,
		"the patch sets shareProcessNamespace, by which other containers could read the credentials of backends through /proc")
}

// linuxOnly also keeps restrictedPods honest: it asks less of pods for Windows.
func linuxOnly(_, is *objects) string {
	os := is.pod().OS
	return unless(os == nil || os.Name == corev1.Linux, "the patch wants pods for another operating system than Linux")
}

// podSecurity evaluates the Pod Security Standards as the admission plugin of Kubernetes does.
var podSecurity = sync.OnceValues(func() (policy.Evaluator, error) { return policy.NewEvaluator(policy.DefaultChecks(), nil) })

func restrictedPods(_, is *objects) string {
	evaluator, err := podSecurity()
	if err != nil {
		return err.Error()
	}
	template := &is.Deployment.Spec.Template
	result := policy.AggregateCheckResults(evaluator.EvaluatePod(
		api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}, &template.ObjectMeta, &template.Spec))
	return unless(result.Allowed, "the patch violates the restricted Pod Security Standard: "+result.ForbiddenDetail())
}
