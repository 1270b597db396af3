// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	. "github.com/onsi/gomega"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

var update = flag.Bool("update", false, "write the golden files")

func workloads() map[string]v1alpha1.MCPBackendSpec {
	return map[string]v1alpha1.MCPBackendSpec{
		"smallest": {
			Transport: v1alpha1.TransportStreamableHTTP,
			Workload:  &v1alpha1.Workload{Image: "registry.example.com/kube-mcp:v1"},
		},
		"everything": {
			Transport: v1alpha1.TransportSSE,
			Workload: &v1alpha1.Workload{
				Image:            "registry.example.com/kube-mcp:v1",
				ImagePullPolicy:  corev1.PullAlways,
				ImagePullSecrets: []v1alpha1.LocalReference{{Name: "mirror"}, {Name: "registry"}},
				Command:          []string{"/server"},
				Args:             []string{"--port", "9090"},
				Env: []v1alpha1.EnvVar{
					{Name: "LOG_LEVEL", Value: "debug"},
					{Name: "EMPTY"},
					{Name: "TOKEN", ValueFrom: &v1alpha1.EnvVarSource{SecretKeyRef: &v1alpha1.SecretKeySelector{Name: "token", Key: "token"}}},
					{Name: "TOKEN_2", ValueFrom: &v1alpha1.EnvVarSource{
						SecretKeyRef: &v1alpha1.SecretKeySelector{Name: "token", Key: "second", Optional: true},
					}},
					{Name: "REGION", ValueFrom: &v1alpha1.EnvVarSource{
						ConfigMapKeyRef: &v1alpha1.ConfigMapKeySelector{Name: "site", Key: "region", Optional: true},
					}},
				},
				EnvFrom: []v1alpha1.EnvFromSource{
					{SecretRef: &v1alpha1.SecretEnvSource{Name: "database"}},
					{Prefix: "SITE_", ConfigMapRef: &v1alpha1.ConfigMapEnvSource{Name: "site", Optional: true}},
				},
				Port:     9090,
				Path:     "/sse",
				Replicas: new(int32(3)),
				Resources: &v1alpha1.ComputeResources{
					Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")},
					Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("256Mi")},
				},
				ServiceAccountName: "viewer",
				Volumes: []v1alpha1.Volume{
					{Name: "scratch", EmptyDir: &v1alpha1.EmptyDirVolume{}},
					{Name: "settings", ConfigMap: &v1alpha1.ConfigMapVolume{
						Name: "settings", Items: []v1alpha1.KeyToPath{{Key: "server.yaml", Path: "conf.d/server.yaml"}}, Optional: true,
					}},
					{Name: "data", PersistentVolumeClaim: &v1alpha1.PersistentVolumeClaimVolume{ClaimName: "data"}},
					{Name: "keys", Secret: &v1alpha1.SecretVolume{
						SecretName: "keys", Items: []v1alpha1.KeyToPath{{Key: "id", Path: ".ssh/id"}}, Optional: true,
					}},
					{Name: "identity", Projected: &v1alpha1.ProjectedVolume{Sources: []v1alpha1.VolumeProjection{
						{Secret: &v1alpha1.SecretProjection{Name: "client", Items: []v1alpha1.KeyToPath{{Key: "tls.key", Path: "tls.key"}}}},
						{Secret: &v1alpha1.SecretProjection{Name: "more", Optional: true}},
						{ConfigMap: &v1alpha1.ConfigMapVolume{Name: "trust"}},
						{ServiceAccountToken: &v1alpha1.ServiceAccountTokenProjection{Path: "token"}},
						{ServiceAccountToken: &v1alpha1.ServiceAccountTokenProjection{
							Path: "vault/token", Audience: "vault", ExpirationSeconds: 600,
						}},
					}}},
				},
				VolumeMounts: []v1alpha1.VolumeMount{
					{Name: "scratch", MountPath: "/tmp"}, {Name: "settings", MountPath: "/etc/server"}, {Name: "data", MountPath: "/data"},
					{Name: "keys", MountPath: "/keys"}, {Name: "identity", MountPath: "/identity"},
				},
			},
		},
		"stdio": {
			Transport: v1alpha1.TransportStdio,
			Workload: &v1alpha1.Workload{
				Image:        "registry.example.com/filesystem-mcp:v1",
				Command:      []string{"/mcp-filesystem-server"},
				Args:         []string{"/data"},
				Volumes:      []v1alpha1.Volume{{Name: "data", EmptyDir: &v1alpha1.EmptyDirVolume{}}},
				VolumeMounts: []v1alpha1.VolumeMount{{Name: "data", MountPath: "/data"}},
			},
		},
	}
}

func workloadBackend(spec v1alpha1.MCPBackendSpec) *v1alpha1.MCPBackend {
	spec.GroupRef.Name = "team"
	return &v1alpha1.MCPBackend{
		ObjectMeta: metav1.ObjectMeta{Name: "kube", Namespace: "tools", UID: "0b6e2f4c-0000-4000-8000-000000000002"},
		Spec:       spec,
	}
}

func TestWorkloadGolden(t *testing.T) {
	t.Parallel()
	for name, spec := range workloads() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			b := workloadBackend(spec)
			g.Expect(b.Validate()).To(BeEmpty())
			deployment, err := yaml.Marshal(newWorkloadDeployment(b, "registry.example.com/vmcp-runtime:v1"))
			g.Expect(err).NotTo(HaveOccurred())
			service, err := yaml.Marshal(newWorkloadService(b))
			g.Expect(err).NotTo(HaveOccurred())
			got := string(deployment) + "---\n" + string(service)

			file := filepath.Join("testdata", "workload-"+name+".golden.yaml")
			if *update {
				g.Expect(os.WriteFile(file, []byte(got), 0o600)).To(Succeed())
				return
			}
			want, err := os.ReadFile(file)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(cmp.Diff(string(want), got)).To(BeEmpty(), "%s differs; run the test with -update if that is meant", file)
		})
	}
}

func TestWorkloadPodIsRestricted(t *testing.T) {
	t.Parallel()
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	for name, spec := range workloads() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			data, err := json.Marshal(newWorkloadDeployment(workloadBackend(spec), "registry.example.com/vmcp-runtime:v1"))
			g.Expect(err).NotTo(HaveOccurred())
			d := &appsv1.Deployment{}
			g.Expect(json.Unmarshal(data, d)).To(Succeed())
			results := evaluator.EvaluatePod(api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()},
				&d.Spec.Template.ObjectMeta, &d.Spec.Template.Spec)
			g.Expect(results).NotTo(BeEmpty())
			for _, r := range results {
				g.Expect(r.Allowed).To(BeTrue(), "%s: %s", r.ForbiddenReason, r.ForbiddenDetail)
			}
		})
	}
}
