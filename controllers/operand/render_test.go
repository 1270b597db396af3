// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package operand_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	. "github.com/onsi/gomega"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/controllers/operand"
)

var update = flag.Bool("update", false, "write the golden files")

func input(name string) operand.Input {
	return operand.Input{
		Name:              name,
		Namespace:         "tools",
		UID:               types.UID("0b6e2f4c-0000-4000-8000-000000000001"),
		Image:             "registry.example.com/vmcp-runtime:v1",
		DiscoversBackends: true,
		Configuration: configv1alpha1.RuntimeConfiguration{
			Generation: 3,
			Group:      "team",
			Source:     v1alpha1.OutgoingAuthSourceDiscovered,
			Aggregation: v1alpha1.Aggregation{ConflictResolution: v1alpha1.ConflictResolution{
				Strategy: v1alpha1.ConflictResolutionPrefix, PrefixFormat: "{backend}_",
			}},
			AllowedHosts: operand.AllowedHosts(name, "tools", v1alpha1.Endpoint{}),
			OwnURLs:      operand.OwnURLs(name, "tools", v1alpha1.Endpoint{}),
		},
	}
}

func TestRenderGolden(t *testing.T) {
	proxied := input("proxied")
	proxied.DiscoversBackends = false
	proxied.ProxyEnv = []corev1.EnvVar{
		{Name: "HTTPS_PROXY", Value: "http://proxy.example.com:3128"},
		{Name: "https_proxy", Value: "http://proxy.example.com:3128"},
		{Name: "NO_PROXY", Value: ".svc,.cluster.local"},
	}
	exposed := input("exposed")
	exposed.Replicas = new(int32(3))
	exposed.Service = v1alpha1.EndpointService{
		Type: corev1.ServiceTypeLoadBalancer, Port: 8443,
		Annotations: map[string]v1alpha1.AnnotationValue{"example.com/load-balancer": "internal", "example.com/owner": "network"},
	}
	// What is said of the Service alone wins over what is said of everything.
	exposed.CommonMetadata.Annotations = map[string]v1alpha1.AnnotationValue{"example.com/owner": "platform"}
	endpoint := v1alpha1.Endpoint{PublicURL: "https://MCP.example.com:8443/mcp", Service: exposed.Service}
	exposed.Configuration.AllowedHosts = operand.AllowedHosts("exposed", "tools", endpoint)
	exposed.Configuration.OwnURLs = operand.OwnURLs("exposed", "tools", endpoint)
	static := input("static")
	static.DiscoversBackends = false
	static.CredentialSecrets = []string{"grafana-token", strings.Repeat("long.", 50) + "xyz"}
	static.Configuration.Source = v1alpha1.OutgoingAuthSourceInline
	static.Configuration.Backends = []configv1alpha1.Backend{{
		Kind: "MCPBackend", Name: "grafana", Source: v1alpha1.BackendSourceRemote, URL: "https://mcp.example.com/mcp",
		Transport: v1alpha1.TransportStreamableHTTP, DeclaredTransport: v1alpha1.TransportStreamableHTTP,
		Auth: &configv1alpha1.Auth{
			ConfigRef: v1alpha1.LocalReference{Name: "grafana"},
			Spec: v1alpha1.MCPExternalAuthConfigSpec{
				Type: v1alpha1.ExternalAuthTypeHeaderInjection,
				HeaderInjection: &v1alpha1.HeaderInjection{
					HeaderName: "Authorization", SecretRef: v1alpha1.SecretKeyReference{Name: "grafana-token", Key: "token"},
				},
			},
		},
	}}
	autoscaled := input("autoscaled")
	autoscaled.Autoscaling = &v1alpha1.Autoscaling{MinReplicas: new(int32(2)), MaxReplicas: 7, TargetCPUUtilizationPercentage: new(int32(60))}
	autoscaled.CommonMetadata.Labels = map[string]v1alpha1.LabelValue{"team": "platform"}
	for name, in := range map[string]operand.Input{
		"static":     static,
		"dynamic":    input("team"),
		"exposed":    exposed,
		"proxied":    proxied,
		"autoscaled": autoscaled,
		"longest":    input(strings.Repeat("a", 52)),
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			o, err := operand.Render(in)
			g.Expect(err).NotTo(HaveOccurred())
			objects := []any{o.ServiceAccount, o.Role, o.RoleBinding, o.ConfigMap, o.Lease, o.Deployment, o.Service, o.PeersService}
			if in.Autoscaling != nil {
				objects = append(objects, o.HorizontalPodAutoscaler)
			} else {
				g.Expect(o.HorizontalPodAutoscaler).To(BeNil())
			}
			golden(t, filepath.Join("testdata", name+".golden.yaml"), objects...)
		})
	}
}

// Two runs give the same bytes: an order that changes would be a write at every start of the operator.
func TestRenderIsDeterministic(t *testing.T) {
	g := NewWithT(t)
	first, err := operand.Render(input("team"))
	g.Expect(err).NotTo(HaveOccurred())
	for range 5 {
		again, err := operand.Render(input("team"))
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(cmp.Diff(documents(t, first.Deployment, first.Role), documents(t, again.Deployment, again.Role))).To(BeEmpty())
	}
}

// What a user wrote stays a value: it cannot become another key, object or directive of Kustomize.
func TestRenderKeepsValuesValues(t *testing.T) {
	for name, value := range map[string]string{
		"YAML":      "x\"\nresources: [https://example.com/evil]\n---\nkind: Secret",
		"variables": "$(VMCP_NAME) ${HOME}",
		"template":  "{{ .Values }}",
		"boolean":   "true",
		"number":    "0123",
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			in := input("team")
			in.ProxyEnv = []corev1.EnvVar{{Name: "NO_PROXY", Value: value}}
			in.Configuration.Group = value
			o, err := operand.Render(in)
			g.Expect(err).NotTo(HaveOccurred())

			env := deployment(t, o).Spec.Template.Spec.Containers[0].Env
			g.Expect(env).To(ContainElement(corev1.EnvVar{Name: "NO_PROXY", Value: value}))
			configuration, err := configv1alpha1.Parse([]byte(o.ConfigMap.Data[configv1alpha1.FileName]))
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(configuration.Group).To(Equal(value))
		})
	}
}

func TestRenderedPodIsRestricted(t *testing.T) {
	g := NewWithT(t)
	o, err := operand.Render(input("team"))
	g.Expect(err).NotTo(HaveOccurred())
	template := deployment(t, o).Spec.Template

	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	g.Expect(err).NotTo(HaveOccurred())
	results := evaluator.EvaluatePod(api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()},
		&template.ObjectMeta, &template.Spec)
	g.Expect(results).NotTo(BeEmpty())
	for _, r := range results {
		g.Expect(r.Allowed).To(BeTrue(), "%s: %s", r.ForbiddenReason, r.ForbiddenDetail)
	}
}

// The numbers in the base are written as YAML; the ones that the rest of the code relies on are constants.
func TestRenderedPortsAreThoseOfTheAPI(t *testing.T) {
	g := NewWithT(t)
	o, err := operand.Render(input("team"))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(deployment(t, o).Spec.Template.Spec.Containers[0].Ports).To(ConsistOf(
		corev1.ContainerPort{Name: "http", ContainerPort: v1alpha1.GatewayPort, Protocol: corev1.ProtocolTCP},
		corev1.ContainerPort{Name: "admin", ContainerPort: v1alpha1.AdminPort, Protocol: corev1.ProtocolTCP},
		corev1.ContainerPort{Name: "peers", ContainerPort: v1alpha1.PeerPort, Protocol: corev1.ProtocolTCP},
	))
	g.Expect(*o.Service.Spec.Ports[0].Port).To(Equal(v1alpha1.ServicePort))
	g.Expect(o.Service.Spec.Ports[0].TargetPort.StrVal).To(Equal("http"))
	g.Expect(o.Service.Spec.Selector).To(Equal(operand.SelectorLabels("team")))
}

// The keys are where the runtime looks for them, those and nothing else of the Secret, for its own container alone. A pod starts without.
func TestRenderedSessionKeysAreThoseOfTheAPI(t *testing.T) {
	g := NewWithT(t)
	o, err := operand.Render(input("team"))
	g.Expect(err).NotTo(HaveOccurred())
	pod := deployment(t, o).Spec.Template.Spec
	g.Expect(pod.Volumes).To(ContainElement(corev1.Volume{Name: "session-keys", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
		SecretName: v1alpha1.OperandName("team"), Optional: new(true), DefaultMode: new(int32(0o444)),
		Items: []corev1.KeyToPath{
			{Key: configv1alpha1.SessionKeyPrevious, Path: configv1alpha1.SessionKeyPrevious},
			{Key: configv1alpha1.SessionKeyCurrent, Path: configv1alpha1.SessionKeyCurrent},
			{Key: configv1alpha1.SessionKeyNext, Path: configv1alpha1.SessionKeyNext},
		},
	}}}))
	g.Expect(pod.Containers[0].VolumeMounts).To(ContainElement(corev1.VolumeMount{
		Name: "session-keys", MountPath: configv1alpha1.SessionKeysDir, ReadOnly: true,
	}))
	args := pod.Containers[0].Args
	i := slices.Index(args, "--session-keys-dir")
	g.Expect(i).To(BeNumerically(">", 0))
	g.Expect(args[i+1]).To(Equal(configv1alpha1.SessionKeysDir))
}

// The pods find each other by a Service that has all of them, those that start or end included, and whose name DNS answers for.
func TestPodsFindEachOther(t *testing.T) {
	g := NewWithT(t)
	in := input(strings.Repeat("a", 52))
	in.Service = v1alpha1.EndpointService{Type: corev1.ServiceTypeLoadBalancer, Port: 8443, Annotations: map[string]v1alpha1.AnnotationValue{"a": "b"}}
	in.Patches = []v1alpha1.Patch{{Target: v1alpha1.PatchTarget{Kind: "Service"}, Patch: "spec: {sessionAffinity: ClientIP}"}}
	o, err := operand.Render(in)
	g.Expect(err).NotTo(HaveOccurred())
	s := o.PeersService
	g.Expect(*s.Name).To(Equal(v1alpha1.PeersServiceName(in.Name)))
	g.Expect(len(*s.Name)).To(BeNumerically("<=", 63))
	g.Expect(*s.Spec.ClusterIP).To(Equal(corev1.ClusterIPNone))
	g.Expect(*s.Spec.PublishNotReadyAddresses).To(BeTrue())
	g.Expect(s.Spec.Selector).To(Equal(operand.SelectorLabels(in.Name)))
	g.Expect(s.Spec.Ports).To(HaveLen(1))
	g.Expect(*s.Spec.Ports[0].Port).To(Equal(v1alpha1.PeerPort))
	g.Expect(s.Spec.Ports[0].TargetPort.StrVal).To(Equal("peers"))
	g.Expect(s.OwnerReferences).To(Equal(o.Service.OwnerReferences))
	// What is said of the Service is said of the one for clients.
	g.Expect(s.Annotations).To(BeEmpty())
	g.Expect(s.Spec.Type).To(BeNil())
	g.Expect(s.Spec.SessionAffinity).To(BeNil())
	g.Expect(*o.Service.Spec.SessionAffinity).To(Equal(corev1.ServiceAffinityClientIP))

	c := deployment(t, o).Spec.Template.Spec.Containers[0]
	g.Expect(c.Args).To(ContainElements("--peer-listen=:4485", "--peers=mcp-peers-$(VMCP_NAME):4485"))
	g.Expect(c.Env).To(ContainElement(corev1.EnvVar{Name: operand.EnvPodIP, ValueFrom: &corev1.EnvVarSource{
		FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "status.podIP"},
	}}))
}

func TestRoleReachesNoSecretAndNoSibling(t *testing.T) {
	g := NewWithT(t)
	o, err := operand.Render(input("team"))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(o.Role.Rules).NotTo(BeEmpty())
	unnamed := map[string]bool{"events": true, "mcpbackends": true, "mcpexternalauthconfigs": true}
	for _, r := range o.Role.Rules {
		g.Expect(r.Verbs).NotTo(ContainElement("*"))
		for _, resource := range r.Resources {
			g.Expect(resource).NotTo(Or(ContainSubstring("secrets"), ContainSubstring("*")))
			if !unnamed[resource] {
				g.Expect(r.ResourceNames).NotTo(BeEmpty(), "%s", resource)
			}
		}
	}
}

func BenchmarkRender(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := operand.Render(input("team")); err != nil {
			b.Fatal(err)
		}
	}
}

func deployment(t *testing.T, o *operand.Operand) *appsv1.Deployment {
	t.Helper()
	data, err := json.Marshal(o.Deployment)
	if err != nil {
		t.Fatal(err)
	}
	d := &appsv1.Deployment{}
	if err := json.Unmarshal(data, d); err != nil {
		t.Fatal(err)
	}
	return d
}

func documents(t *testing.T, objects ...any) string {
	t.Helper()
	var out bytes.Buffer
	for i, o := range objects {
		data, err := yaml.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			out.WriteString("---\n")
		}
		out.Write(data)
	}
	return out.String()
}

// golden compares objects with a file, or writes it under -update.
func golden(t *testing.T, file string, objects ...any) {
	t.Helper()
	got := documents(t, objects...)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got); run the test with -update if that is meant:\n%s", file, diff)
	}
}
