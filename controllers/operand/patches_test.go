// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package operand_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
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

func container(fields string) string {
	return `{"spec": {"template": {"spec": {"containers": [{"name": "vmcp", ` + fields + `}]}}}}`
}

func sidecar(fields string) string {
	return `{"spec": {"template": {"spec": {"containers": [{"name": "sidecar", "image": "registry.example.com/sidecar:v1",
		"securityContext": {"allowPrivilegeEscalation": false, "runAsNonRoot": true, "capabilities": {"drop": ["ALL"]}}, ` + fields + `}]}}}}`
}

func pod(fields string) string { return `{"spec": {"template": {"spec": {` + fields + `}}}}` }

func volume(source string) string { return pod(`"volumes": [{"name": "extra", ` + source + `}]`) }

func operation(op string) string { return "[" + op + "]" }

// Every hostile patch is refused with its place and a reason, and none makes the operator call anybody.
func TestHostilePatchesAreRefused(t *testing.T) {
	var calls atomic.Int64
	listener := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		_, _ = fmt.Fprint(w, "apiVersion: v1\nkind: Secret\nmetadata: {name: evil}\n")
	}))
	defer listener.Close()
	url := listener.URL + "/evil.yaml"

	const (
		restricted = "restricted Pod Security Standard"
		secrets    = "patches cannot refer to Secrets"
		identity   = "only labels and annotations may be changed"
		finds      = "the operator finds its objects by it"
	)
	for name, c := range map[string]struct {
		kind v1alpha1.PatchKind
		text string
		want string
	}{
		// What Kustomize would fetch.
		"URL":                  {"Deployment", url, "neither an object"},
		"resources":            {"Deployment", "resources: [" + url + "]", "unknown field"},
		"kustomization":        {"Deployment", "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [" + url + "]", "apiVersion is kustomize"},
		"patches with a path":  {"Deployment", "patches:\n- path: " + url, "unknown field"},
		"options and path":     {"Deployment", "path: " + url + "\noptions: {allowNameChange: true}", "unknown field"},
		"openapi":              {"Deployment", "openapi: {path: " + url + "}", "unknown field"},
		"components":           {"Deployment", "components: [" + url + "]", "unknown field"},
		"operation with a URL": {"Deployment", operation(`{"op": "add", "path": "` + url + `", "value": 1}`), ""},
		"helm charts":          {"Deployment", "helmCharts: [{name: x, repo: " + listener.URL + "}]", "unknown field"},

		// What does not parse, or is too much.
		"not YAML":               {"Deployment", "spec: [", "line 1"},
		"empty":                  {"Deployment", "# nothing\n", "empty"},
		"null":                   {"Deployment", "null", "neither an object"},
		"number":                 {"Deployment", "1", "neither an object"},
		"text":                   {"Deployment", "delete everything", "neither an object"},
		"key twice":              {"Deployment", "spec: {replicas: 1, replicas: 2}", "already"},
		"two documents":          {"Deployment", "spec: {replicas: 1}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: x}", "more than one YAML document"},
		"list of objects":        {"Deployment", "apiVersion: v1\nkind: List\nitems: []", "apiVersion is v1"},
		"list in the list":       {"Deployment", "kind: DeploymentList\nitems: [{kind: Secret}]", "kind is DeploymentList"},
		"aliases":                {"Deployment", "a: &a [1, 1]\nb: &b [*a, *a]\nc: [*b, *b]", "aliases are not supported"},
		"alias of itself":        {"Deployment", "a: &a {b: *a}", "aliases are not supported"},
		"merge key":              {"Deployment", "spec: &s {replicas: 2}\nother: {<<: *s}", "aliases are not supported"},
		"doubling":               {"Deployment", operation(`{"op": "copy", "from": "/spec", "path": "/spec/template"}`), `op is "copy"`},
		"deep":                   {"Deployment", strings.Repeat("[", 8000) + strings.Repeat("]", 8000), "not a JSON patch"},
		"deeper":                 {"Deployment", strings.Repeat(`{"a":`, 2500) + "1" + strings.Repeat("}", 2500), "unknown field"},
		"unknown operation":      {"Deployment", operation(`{"op": "explode", "path": "/spec"}`), `op is "explode"`},
		"misspelt operation":     {"Deployment", operation(`{"op": "add", "paht": "/spec", "value": 1}`), "paht"},
		"operation, no path":     {"Deployment", operation(`{"op": "remove"}`), "no path"},
		"operation, no value":    {"Deployment", operation(`{"op": "add", "path": "/spec/replicas"}`), "needs a value"},
		"operation, no from":     {"Deployment", operation(`{"op": "move", "path": "/spec/replicas"}`), "needs from"},
		"operation on nothing":   {"Deployment", operation(`{"op": "replace", "path": "/spec/nothing/here", "value": 1}`), "nothing"},
		"index out of range":     {"Deployment", operation(`{"op": "add", "path": "/spec/template/spec/containers/99999999", "value": {}}`), "index"},
		"failing test":           {"Deployment", operation(`{"op": "test", "path": "/spec/minReadySeconds", "value": 7}`), "test"},
		"everything replaced":    {"Deployment", operation(`{"op": "replace", "path": "", "value": null}`), "whole object"},
		"misspelt field":         {"Deployment", pod(`"nodeSelectr": {"a": "b"}`), `unknown field "spec.template.spec.nodeSelectr"`},
		"wrong type":             {"Deployment", "spec: {replicas: many}", "replicas"},
		"annotations are a list": {"Deployment", "metadata: {annotations: [null]}", "does not fit the Deployment"},
		"metadata is a text":     {"Deployment", "metadata: x", "metadata is not an object"},

		// What is to be there, and how it is called.
		"delete":             {"Deployment", "$patch: delete", "deletes the Deployment"},
		"delete the Role":    {"Role", "$patch: delete", "deletes the Role"},
		"kind":               {"Deployment", "kind: DaemonSet", "kind is DaemonSet"},
		"kind, operation":    {"Deployment", operation(`{"op": "replace", "path": "/kind", "value": "DaemonSet"}`), "kind"},
		"no kind":            {"Deployment", operation(`{"op": "remove", "path": "/kind"}`), "kind"},
		"apiVersion":         {"Deployment", "apiVersion: apps/v1beta1", "apiVersion is apps/v1beta1"},
		"name":               {"Deployment", "metadata: {name: other}", "metadata.name is other"},
		"name, operation":    {"Deployment", operation(`{"op": "replace", "path": "/metadata/name", "value": "other"}`), identity},
		"namespace":          {"Service", "metadata: {namespace: kube-system}", "metadata.namespace is kube-system"},
		"namespace, op":      {"Service", operation(`{"op": "replace", "path": "/metadata/namespace", "value": "kube-system"}`), identity},
		"owner":              {"ConfigMap", operation(`{"op": "remove", "path": "/metadata/ownerReferences"}`), identity},
		"second owner":       {"Lease", `metadata: {ownerReferences: [{apiVersion: v1, kind: Pod, name: x, uid: u}]}`, identity},
		"finalizer":          {"Service", "metadata: {finalizers: [example.com/forever]}", identity},
		"generateName":       {"Service", "metadata: {generateName: x}", identity},
		"template finalizer": {"Deployment", "spec: {template: {metadata: {finalizers: [example.com/forever]}}}", identity},
		"own label":          {"Role", "metadata: {labels: {app.kubernetes.io/managed-by: Helm}}", finds},
		"own label removed":  {"Deployment", "metadata: {labels: {app.kubernetes.io/managed-by: null}}", finds},
		"all labels removed": {"Service", operation(`{"op": "remove", "path": "/metadata/labels"}`), finds},
		"new label of ours":  {"Service", "metadata: {labels: {vmcp.dev/backend: x}}", finds},
		"pods' label":        {"Deployment", "spec: {template: {metadata: {labels: {app.kubernetes.io/instance: other}}}}", finds},
		"own annotation":     {"Deployment", "metadata: {annotations: {vmcp.dev/paused: \"true\"}}", "written by the operator or by Kubernetes"},
		"revision":           {"Deployment", "metadata: {annotations: {deployment.kubernetes.io/revision: \"7\"}}", "written by the operator or by Kubernetes"},
		"bad label":          {"Role", "metadata: {labels: {a b: c}}", "metadata.labels"},
		"bad annotation":     {"Deployment", "spec: {template: {metadata: {annotations: {/: x}}}}", "metadata.annotations"},
		"selector":           {"Deployment", "spec: {selector: {matchLabels: {a: b}}}", "selector of the Deployment"},
		"Service's selector": {"Service", "spec: {selector: {a: b}}", "selector of the Service"},

		// Rights and configuration.
		"more rights":          {"Role", operation(`{"op": "add", "path": "/rules/-", "value": {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}}`), "rules of the Role"},
		"no rights":            {"Role", "rules: []", "rules of the Role"},
		"other Role":           {"RoleBinding", "roleRef: {kind: ClusterRole, name: cluster-admin}", "RoleBinding"},
		"other subject":        {"RoleBinding", "subjects: [{kind: User, name: me, apiGroup: rbac.authorization.k8s.io}]", "RoleBinding"},
		"token for everybody":  {"ServiceAccount", "automountServiceAccountToken: true", "ServiceAccount"},
		"ServiceAccount's":     {"ServiceAccount", "secrets: [{name: x}]", "ServiceAccount"},
		"configuration":        {"ConfigMap", "data: {config.yaml: \"{}\"}", "ConfigMap"},
		"another key":          {"ConfigMap", "data: {more: x}", "ConfigMap"},
		"immutable":            {"ConfigMap", "immutable: true", "ConfigMap"},
		"Lease":                {"Lease", "spec: {holderIdentity: me}", "Lease"},
		"serviceAccountName":   {"Deployment", pod(`"serviceAccountName": "admin"`), "ServiceAccount of the pods"},
		"old serviceAccount":   {"Deployment", pod(`"serviceAccount": "admin"`), "ServiceAccount of the pods"},
		"no token":             {"Deployment", pod(`"automountServiceAccountToken": false`), "ServiceAccount of the pods"},
		"image":                {"Deployment", container(`"image": "registry.example.com/evil"`), "image of the container vmcp"},
		"command":              {"Deployment", container(`"command": ["/bin/sh"]`), "command, args"},
		"args":                 {"Deployment", container(`"args": ["bridge"]`), "command, args"},
		"workingDir":           {"Deployment", container(`"workingDir": "/tmp"`), "workingDir"},
		"environment":          {"Deployment", container(`"env": [{"name": "VMCP_NAME", "value": "other"}]`), "VMCP_NAME"},
		"environment, twice":   {"Deployment", operation(`{"op": "add", "path": "/spec/template/spec/containers/0/env/-", "value": {"name": "VMCP_NAME", "value": "other"}}`), "VMCP_NAME"},
		"no environment":       {"Deployment", operation(`{"op": "remove", "path": "/spec/template/spec/containers/0/env"}`), "VMCP_NAME"},
		"ports":                {"Deployment", operation(`{"op": "remove", "path": "/spec/template/spec/containers/0/ports/0"}`), "ports"},
		"no gateway":           {"Deployment", pod(`"containers": [{"name": "vmcp", "$patch": "delete"}]`), "which is the gateway"},
		"containers replaced":  {"Deployment", pod(`"containers": [{"name": "evil", "image": "evil"}, {"$patch": "replace"}]`), "which is the gateway"},
		"spec replaced":        {"Deployment", `spec: {template: {$patch: replace, spec: {containers: []}}}`, ""},
		"gateway renamed":      {"Deployment", operation(`{"op": "replace", "path": "/spec/template/spec/containers/0/name", "value": "other"}`), "which is the gateway"},
		"gateway, twice":       {"Deployment", operation(`{"op": "add", "path": "/spec/template/spec/containers/-", "value": {"name": "vmcp", "image": "evil"}}`), "which is the gateway"},
		"program hidden":       {"Deployment", container(`"volumeMounts": [{"name": "config", "mountPath": "/vmcp", "subPath": "config.yaml"}]`), "would hide /vmcp"},
		"root hidden":          {"Deployment", container(`"volumeMounts": [{"name": "config", "mountPath": "/"}]`), "would hide"},
		"configuration hidden": {"Deployment", container(`"volumeMounts": [{"name": "config", "mountPath": "/etc/../etc/vmcp/config.yaml", "subPath": "x"}]`), "would hide /etc/vmcp"},
		"configuration gone":   {"Deployment", container(`"volumeMounts": [{"mountPath": "/etc/vmcp", "$patch": "delete"}]`), "mounted at /etc/vmcp"},
		"configuration's map":  {"Deployment", pod(`"volumes": [{"name": "config", "configMap": {"name": "other"}}]`), "volume config"},

		// Secrets.
		"Secret volume":         {"Deployment", volume(`"secret": {"secretName": "db"}`), secrets},
		"projected Secret":      {"Deployment", volume(`"projected": {"sources": [{"secret": {"name": "db"}}]}`), secrets},
		"Secret of a driver":    {"Deployment", volume(`"csi": {"driver": "x.example.com", "nodePublishSecretRef": {"name": "db"}}`), secrets},
		"config as Secret":      {"Deployment", pod(`"volumes": [{"name": "config", "configMap": null, "secret": {"secretName": "db"}}]`), "volume config"},
		"env of a Secret":       {"Deployment", container(`"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "db", "key": "p"}}}]`), secrets},
		"envFrom of a Secret":   {"Deployment", container(`"envFrom": [{"secretRef": {"name": "db"}}]`), secrets},
		"sidecar's env":         {"Deployment", sidecar(`"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "db", "key": "p"}}}]`), secrets},
		"sidecar's envFrom":     {"Deployment", sidecar(`"envFrom": [{"secretRef": {"name": "db"}}]`), secrets},
		"init's envFrom":        {"Deployment", pod(`"initContainers": [{"name": "i", "image": "i", "envFrom": [{"secretRef": {"name": "db"}}]}]`), secrets},
		"ephemeral container's": {"Deployment", pod(`"ephemeralContainers": [{"name": "e", "image": "e", "envFrom": [{"secretRef": {"name": "db"}}]}]`), secrets},

		// The node.
		"hostPath":           {"Deployment", volume(`"hostPath": {"path": "/"}`), restricted},
		"iscsi with Secret":  {"Deployment", volume(`"iscsi": {"targetPortal": "x", "iqn": "x", "lun": 1, "secretRef": {"name": "db"}}`), restricted},
		"flexVolume":         {"Deployment", volume(`"flexVolume": {"driver": "x/y", "secretRef": {"name": "db"}}`), restricted},
		"hostNetwork":        {"Deployment", pod(`"hostNetwork": true`), restricted},
		"hostnetwork":        {"Deployment", pod(`"hostnetwork": true`), `unknown field "spec.template.spec.hostnetwork"`},
		"hostPID":            {"Deployment", pod(`"hostPID": true`), restricted},
		"hostPort":           {"Deployment", sidecar(`"ports": [{"containerPort": 80, "hostPort": 80}]`), restricted},
		"privileged":         {"Deployment", container(`"securityContext": {"privileged": true}`), restricted},
		"privileged sidecar": {"Deployment", pod(`"containers": [{"name": "s", "image": "s", "securityContext": {"privileged": true}}]`), restricted},
		"lax sidecar":        {"Deployment", pod(`"containers": [{"name": "s", "image": "s"}]`), restricted},
		"lax init container": {"Deployment", pod(`"initContainers": [{"name": "i", "image": "i"}]`), restricted},
		"root":               {"Deployment", pod(`"securityContext": {"runAsUser": 0}`), restricted},
		"root allowed":       {"Deployment", container(`"securityContext": {"runAsNonRoot": false}`), restricted},
		"capabilities":       {"Deployment", container(`"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}`), restricted},
		"seccomp":            {"Deployment", pod(`"securityContext": {"seccompProfile": {"type": "Unconfined"}}`), restricted},
		"AppArmor":           {"Deployment", "spec: {template: {metadata: {annotations: {container.apparmor.security.beta.kubernetes.io/vmcp: unconfined}}}}", restricted},
		"sysctl":             {"Deployment", pod(`"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}`), restricted},
		"Windows":            {"Deployment", pod(`"os": {"name": "windows"}`), "another operating system"},

		// The address.
		"external name": {"Service", "spec: {type: ExternalName, externalName: evil.example.com}", "cluster address"},
		"headless":      {"Service", "spec: {clusterIP: None}", "cluster address"},
		"external IP":   {"Service", "spec: {externalIPs: [8.8.8.8]}", "externalIPs"},
		"other port":    {"Service", operation(`{"op": "replace", "path": "/spec/ports/0/port", "value": 81}`), "port 80"},
		"other target":  {"Service", "spec: {ports: [{port: 80, protocol: TCP, targetPort: admin}]}", "port 80"},
		"port twice":    {"Service", operation(`{"op": "add", "path": "/spec/ports/-", "value": {"port": 80, "targetPort": "admin"}}`), "port 80"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			in := input("team")
			harmless := patch("Deployment", `metadata: {annotations: {example.com/a: b}}`)
			in.Patches = []v1alpha1.Patch{harmless, harmless, patch(c.kind, c.text), harmless}
			o, err := operand.Render(in)
			g.Expect(err).To(MatchError(And(HavePrefix("spec.patches[2]: "), ContainSubstring(c.want))))
			g.Expect(o).To(BeNil())
			t.Log(err)
		})
	}
	if n := calls.Load(); n != 0 {
		t.Errorf("the listener was called %d times", n)
	}
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
		"Lease": o.Lease, "Deployment": o.Deployment, "Service": o.Service,
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
