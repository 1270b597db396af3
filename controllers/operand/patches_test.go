// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package operand_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	. "github.com/onsi/gomega"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/controllers/operand"
)

func patch(kind v1alpha1.PatchKind, text string) v1alpha1.Patch {
	return v1alpha1.Patch{Target: v1alpha1.PatchTarget{Kind: kind}, Patch: text}
}

// legitimate are the patches that people need, by the name of the golden file.
func legitimate() map[string][]v1alpha1.Patch {
	return map[string][]v1alpha1.Patch{
		"scheduling": {patch("Deployment", `
spec:
  template:
    spec:
      nodeSelector: {disktype: ssd}
      priorityClassName: important
      tolerations:
      - {key: dedicated, operator: Equal, value: gateways, effect: NoSchedule}
      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: topology.kubernetes.io/zone
        whenUnsatisfiable: ScheduleAnyway
        labelSelector:
          matchLabels: {app.kubernetes.io/instance: team}
      affinity:
        podAntiAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
          - weight: 100
            podAffinityTerm:
              topologyKey: kubernetes.io/hostname
              labelSelector:
                matchLabels: {app.kubernetes.io/instance: team}
`)},
		"sidecar": {patch("Deployment", `{"spec": {"template": {"spec": {
  "containers": [{
    "name": "log-shipper", "image": "registry.example.com/shipper:v1",
    "env": [{"name": "LEVEL", "valueFrom": {"configMapKeyRef": {"name": "shipper", "key": "level"}}}],
    "volumeMounts": [{"name": "buffer", "mountPath": "/buffer"}],
    "securityContext": {"allowPrivilegeEscalation": false, "runAsNonRoot": true, "capabilities": {"drop": ["ALL"]}}
  }],
  "volumes": [{"name": "buffer", "emptyDir": {"sizeLimit": "1Mi"}}]
}}}}`)},
		"operations": {patch("Deployment", `
- op: test
  path: /spec/minReadySeconds
  value: 5
- op: add
  path: /spec/template/spec/containers/0/env/-
  value: {name: GOMEMLIMIT, value: 100MiB}
- op: replace
  path: /spec/template/spec/terminationGracePeriodSeconds
  value: 60
- op: remove
  path: /spec/template/spec/containers/0/livenessProbe
`)},
		"service": {patch("Service", `
apiVersion: v1
kind: Service
metadata:
  name: vmcp-team
  annotations: {example.com/load-balancer: internal}
spec:
  type: LoadBalancer
  loadBalancerSourceRanges: [10.0.0.0/8]
  ports:
  - port: 80
    protocol: TCP
    nodePort: 30080
`)},
		"metadata": {
			patch("ServiceAccount", `metadata: {annotations: {iam.example.com/role: gateway}}`),
			patch("Role", `metadata: {labels: {audit: "true"}}`),
			patch("RoleBinding", `metadata: {labels: {audit: "true"}}`),
			patch("ConfigMap", `metadata: {annotations: {example.com/note: "0123"}}`),
			patch("Lease", `[{"op": "add", "path": "/metadata/annotations", "value": {"example.com/note": "x"}}]`),
		},
		// The second patch sees what the first one did.
		"sequence": {
			patch("Deployment", `spec: {template: {metadata: {annotations: {example.com/a: one, example.com/b: two}}}}`),
			patch("Deployment", `
- {op: move, from: /spec/template/metadata/annotations/example.com~1a, path: /spec/template/metadata/annotations/example.com~1c}
`),
			patch("Deployment", `spec: {template: {metadata: {annotations: {example.com/b: null}}}}`),
		},
	}
}

func TestPatchGolden(t *testing.T) {
	plain, err := operand.Render(input("team"))
	if err != nil {
		t.Fatal(err)
	}
	for name, patches := range legitimate() {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			in := input("team")
			in.Patches = patches
			o, err := operand.Render(in)
			g.Expect(err).NotTo(HaveOccurred())
			changed := []any{}
			for _, kind := range kindsOf(patches) {
				changed = append(changed, objectOf(o, kind))
			}
			golden(t, filepath.Join("testdata", "patches", name+".golden.yaml"), changed...)
			for _, kind := range v1alpha1.PatchKinds() {
				if !containsKind(patches, kind) {
					g.Expect(cmp.Diff(documents(t, objectOf(plain, kind)), documents(t, objectOf(o, kind)))).To(BeEmpty(), "%s", kind)
				}
			}
		})
	}
}

func TestFieldsGolden(t *testing.T) {
	resources := input("team")
	resources.Resources = &v1alpha1.ComputeResources{Limits: corev1.ResourceList{
		corev1.ResourceMemory: resource.MustParse("256Mi"),
	}}
	pullSecrets := input("team")
	pullSecrets.ImagePullSecrets = []v1alpha1.LocalReference{{Name: "mirror"}, {Name: "registry"}}
	commonMetadata := input("team")
	commonMetadata.CommonMetadata = v1alpha1.CommonMetadata{
		Labels:      map[string]v1alpha1.LabelValue{"team": "platform", "cost-center": "0042"},
		Annotations: map[string]v1alpha1.AnnotationValue{"example.com/owner": "true"},
	}
	for name, in := range map[string]operand.Input{
		"resources":      resources,
		"pullsecrets":    pullSecrets,
		"commonmetadata": commonMetadata,
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			o, err := operand.Render(in)
			g.Expect(err).NotTo(HaveOccurred())
			golden(t, filepath.Join("testdata", name+".golden.yaml"),
				o.ServiceAccount, o.Role, o.RoleBinding, o.ConfigMap, o.Lease, o.Deployment, o.Service)
		})
	}
}

// The patches that we show to users work.
func TestSamplesRender(t *testing.T) {
	g := NewWithT(t)
	data, err := os.ReadFile(filepath.Join("..", "..", "config", "samples", "vmcp_v1alpha1_virtualmcpserver_operand.yaml"))
	g.Expect(err).NotTo(HaveOccurred())
	patches := 0
	for document := range strings.SplitSeq(string(data), "\n---\n") {
		s := v1alpha1.VirtualMCPServer{}
		g.Expect(yaml.UnmarshalStrict([]byte(document), &s)).To(Succeed())
		in := input(s.Name)
		in.Resources, in.ImagePullSecrets = s.Spec.Resources, s.Spec.ImagePullSecrets
		in.CommonMetadata, in.Patches = s.Spec.CommonMetadata, s.Spec.Patches
		_, err := operand.Render(in)
		g.Expect(err).NotTo(HaveOccurred(), s.Name)
		patches += len(in.Patches)
	}
	g.Expect(patches).To(BeNumerically(">", 0))
}

// Common metadata reaches every object and the pods, and no selector.
func TestCommonMetadataIsEverywhere(t *testing.T) {
	g := NewWithT(t)
	in := input("team")
	in.Autoscaling = &v1alpha1.Autoscaling{MaxReplicas: 7}
	in.CommonMetadata = v1alpha1.CommonMetadata{
		Labels: map[string]v1alpha1.LabelValue{"team": "platform"}, Annotations: map[string]v1alpha1.AnnotationValue{"example.com/owner": "me"},
	}
	o, err := operand.Render(in)
	g.Expect(err).NotTo(HaveOccurred())
	for _, kind := range v1alpha1.PatchKinds() {
		text := documents(t, objectOf(o, kind))
		g.Expect(text).To(And(ContainSubstring("team: platform"), ContainSubstring("example.com/owner: me")), "%s", kind)
	}
	d := deployment(t, o)
	g.Expect(d.Spec.Template.Labels).To(HaveKeyWithValue("team", "platform"))
	g.Expect(d.Spec.Template.Annotations).To(HaveKeyWithValue("example.com/owner", "me"))
	g.Expect(d.Spec.Selector.MatchLabels).To(Equal(operand.SelectorLabels("team")))
	g.Expect(o.Service.Spec.Selector).To(Equal(operand.SelectorLabels("team")))
}

// The order of keys in a map of Go does not decide which mistake is reported.
func TestPatchErrorsAreDeterministic(t *testing.T) {
	g := NewWithT(t)
	in := input("team")
	in.Patches = []v1alpha1.Patch{patch("Deployment",
		`{metadata: {labels: {vmcp.dev/a: x, vmcp.dev/b: x}}, spec: {template: {metadata: {labels: {vmcp.dev/c: x}}}}}`)}
	_, first := operand.Render(in)
	g.Expect(first).To(HaveOccurred())
	for range 10 {
		_, again := operand.Render(in)
		g.Expect(again).To(MatchError(first.Error()))
	}
}

// No text makes rendering panic, and whatever is accepted is what is checked: the pod runs our program as our ServiceAccount.
func FuzzPatch(f *testing.F) {
	for _, patches := range legitimate() {
		for _, p := range patches {
			f.Add(string(p.Target.Kind), p.Patch)
		}
	}
	f.Add("Deployment", pod(`"hostNetwork": true`))
	f.Add("Deployment", operation(`{"op": "replace", "path": "", "value": []}`))
	f.Add("Deployment", `{"metadata": {"annotations": [{"$patch": "delete"}]}}`)
	f.Fuzz(func(t *testing.T, kind, text string) {
		in := input("team")
		in.Patches = []v1alpha1.Patch{patch(v1alpha1.PatchKind(kind), text)}
		o, err := operand.Render(in)
		if err != nil {
			return
		}
		d := deployment(t, o)
		if s := d.Spec.Template.Spec; s.ServiceAccountName != "vmcp-team" || s.HostNetwork || d.Name != "vmcp-team" {
			t.Errorf("%s was accepted", text)
		}
	})
}

func BenchmarkRenderPatched(b *testing.B) {
	in := input("team")
	in.Patches = legitimate()["scheduling"]
	b.ReportAllocs()
	for b.Loop() {
		if _, err := operand.Render(in); err != nil {
			b.Fatal(err)
		}
	}
}

func objectOf(o *operand.Operand, kind v1alpha1.PatchKind) any {
	return map[v1alpha1.PatchKind]any{
		"ServiceAccount": o.ServiceAccount, "Role": o.Role, "RoleBinding": o.RoleBinding, "ConfigMap": o.ConfigMap,
		"Lease": o.Lease, "Deployment": o.Deployment, "Service": o.Service, "HorizontalPodAutoscaler": o.HorizontalPodAutoscaler,
	}[kind]
}

func containsKind(patches []v1alpha1.Patch, kind v1alpha1.PatchKind) bool {
	for _, p := range patches {
		if p.Target.Kind == kind {
			return true
		}
	}
	return false
}

// kindsOf are the kinds that patches change, each once.
func kindsOf(patches []v1alpha1.Patch) []v1alpha1.PatchKind {
	var kinds []v1alpha1.PatchKind
	for _, kind := range v1alpha1.PatchKinds() {
		if containsKind(patches, kind) {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// How an autoscaler scales is a matter of taste; between which bounds, the spec says.
func TestAutoscalerPatch(t *testing.T) {
	g := NewWithT(t)
	in := input("team")
	in.Autoscaling = &v1alpha1.Autoscaling{MaxReplicas: 7}
	in.Patches = []v1alpha1.Patch{patch("HorizontalPodAutoscaler", `spec: {behavior: {scaleDown: {stabilizationWindowSeconds: 900}}}`)}
	o, err := operand.Render(in)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(o.HorizontalPodAutoscaler.Spec.Behavior.ScaleDown.StabilizationWindowSeconds).To(HaveValue(BeEquivalentTo(900)))
	g.Expect(o.HorizontalPodAutoscaler.Spec.MaxReplicas).To(HaveValue(BeEquivalentTo(7)))

	in.Autoscaling = nil
	_, err = operand.Render(in)
	g.Expect(err).To(MatchError("spec.patches[0]: this gateway has no HorizontalPodAutoscaler"))
}
