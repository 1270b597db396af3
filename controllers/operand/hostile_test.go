// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package operand_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	. "github.com/onsi/gomega"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/controllers/operand"
)

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
		alone      = "for the container vmcp alone"
	)
	static := input("team")
	static.Autoscaling = &v1alpha1.Autoscaling{MaxReplicas: 7}
	static.CredentialSecrets = []string{"grafana-token"}
	plain, err := operand.Render(static)
	if err != nil {
		t.Fatal(err)
	}
	volumes := deployment(t, plain).Spec.Template.Spec.Volumes
	credential := volumes[slices.IndexFunc(volumes, func(v corev1.Volume) bool {
		return v.Secret != nil && v.Secret.SecretName == "grafana-token"
	})].Name
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
		"git URL":              {"Deployment", "git::" + listener.URL + "/evil.git", "neither an object"},
		"file URL":             {"Deployment", "file:///etc/passwd", "neither an object"},
		"configurations":       {"Deployment", "configurations: [" + url + "]", "unknown field"},
		"generators":           {"Deployment", "generators: [" + url + "]", "unknown field"},
		"transformers":         {"Deployment", "transformers: [" + url + "]", "unknown field"},
		"validators":           {"Deployment", "validators: [" + url + "]", "unknown field"},
		"replacements":         {"Deployment", "replacements: [{path: " + url + "}]", "unknown field"},
		"strategic merge":      {"Deployment", "patchesStrategicMerge: [" + url + "]", "unknown field"},
		"files of a ConfigMap": {"ConfigMap", "configMapGenerator: [{name: x, files: [" + url + "]}]", "unknown field"},
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
		"more rights":                    {"Role", operation(`{"op": "add", "path": "/rules/-", "value": {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}}`), "rules of the Role"},
		"no rights":                      {"Role", "rules: []", "rules of the Role"},
		"other Role":                     {"RoleBinding", "roleRef: {kind: ClusterRole, name: cluster-admin}", "RoleBinding"},
		"other subject":                  {"RoleBinding", "subjects: [{kind: User, name: me, apiGroup: rbac.authorization.k8s.io}]", "RoleBinding"},
		"token for everybody":            {"ServiceAccount", "automountServiceAccountToken: true", "ServiceAccount"},
		"ServiceAccount's":               {"ServiceAccount", "secrets: [{name: x}]", "ServiceAccount"},
		"configuration":                  {"ConfigMap", "data: {config.yaml: \"{}\"}", "ConfigMap"},
		"another key":                    {"ConfigMap", "data: {more: x}", "ConfigMap"},
		"immutable":                      {"ConfigMap", "immutable: true", "ConfigMap"},
		"Lease":                          {"Lease", "spec: {holderIdentity: me}", "Lease"},
		"serviceAccountName":             {"Deployment", pod(`"serviceAccountName": "admin"`), "ServiceAccount of the pods"},
		"old serviceAccount":             {"Deployment", pod(`"serviceAccount": "admin"`), "ServiceAccount of the pods"},
		"token for everybody in the pod": {"Deployment", pod(`"automountServiceAccountToken": true`), "ServiceAccount of the pods"},
		"image":                          {"Deployment", container(`"image": "registry.example.com/evil"`), "image of the container vmcp"},
		"command":                        {"Deployment", container(`"command": ["/bin/sh"]`), "command, args"},
		"args":                           {"Deployment", container(`"args": ["bridge"]`), "command, args"},
		"workingDir":                     {"Deployment", container(`"workingDir": "/tmp"`), "workingDir"},
		"environment":                    {"Deployment", container(`"env": [{"name": "VMCP_NAME", "value": "other"}]`), "VMCP_NAME"},
		"environment, twice":             {"Deployment", operation(`{"op": "add", "path": "/spec/template/spec/containers/0/env/-", "value": {"name": "VMCP_NAME", "value": "other"}}`), "VMCP_NAME"},
		"no environment":                 {"Deployment", operation(`{"op": "remove", "path": "/spec/template/spec/containers/0/env"}`), "VMCP_NAME"},
		"ports":                          {"Deployment", operation(`{"op": "remove", "path": "/spec/template/spec/containers/0/ports/0"}`), "ports"},
		"no gateway":                     {"Deployment", pod(`"containers": [{"name": "vmcp", "$patch": "delete"}]`), "which is the gateway"},
		"containers replaced":            {"Deployment", pod(`"containers": [{"name": "evil", "image": "evil"}, {"$patch": "replace"}]`), "which is the gateway"},
		"spec replaced":                  {"Deployment", `spec: {template: {$patch: replace, spec: {containers: []}}}`, ""},
		"gateway renamed":                {"Deployment", operation(`{"op": "replace", "path": "/spec/template/spec/containers/0/name", "value": "other"}`), "which is the gateway"},
		"gateway, twice":                 {"Deployment", operation(`{"op": "add", "path": "/spec/template/spec/containers/-", "value": {"name": "vmcp", "image": "evil"}}`), "which is the gateway"},
		"program hidden":                 {"Deployment", container(`"volumeMounts": [{"name": "config", "mountPath": "/vmcp", "subPath": "config.yaml"}]`), "would hide /vmcp"},
		"root hidden":                    {"Deployment", container(`"volumeMounts": [{"name": "config", "mountPath": "/"}]`), "would hide"},
		"configuration hidden":           {"Deployment", container(`"volumeMounts": [{"name": "config", "mountPath": "/etc/../etc/vmcp/config.yaml", "subPath": "x"}]`), "would hide /etc/vmcp"},
		"configuration gone":             {"Deployment", container(`"volumeMounts": [{"mountPath": "/etc/vmcp", "$patch": "delete"}]`), "mounted at /etc/vmcp"},
		"configuration's map":            {"Deployment", pod(`"volumes": [{"name": "config", "configMap": {"name": "other"}}]`), "volume config"},

		// Secrets.
		"Secret volume":         {"Deployment", volume(`"secret": {"secretName": "db"}`), secrets},
		"projected Secret":      {"Deployment", volume(`"projected": {"sources": [{"secret": {"name": "db"}}]}`), secrets},
		"Secret of a driver":    {"Deployment", volume(`"csi": {"driver": "x.example.com", "nodePublishSecretRef": {"name": "db"}}`), secrets},
		"config as Secret":      {"Deployment", pod(`"volumes": [{"name": "config", "configMap": null, "secret": {"secretName": "db"}}]`), "volume config"},
		"env of a Secret":       {"Deployment", container(`"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "db", "key": "p"}}}]`), secrets},
		"envFrom of a Secret":   {"Deployment", container(`"envFrom": [{"secretRef": {"name": "db"}}]`), "envFrom of the container vmcp"},
		"sidecar's env":         {"Deployment", sidecar(`"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "db", "key": "p"}}}]`), secrets},
		"sidecar's envFrom":     {"Deployment", sidecar(`"envFrom": [{"secretRef": {"name": "db"}}]`), secrets},
		"init's envFrom":        {"Deployment", pod(`"initContainers": [{"name": "i", "image": "i", "envFrom": [{"secretRef": {"name": "db"}}]}]`), secrets},
		"ephemeral container's": {"Deployment", pod(`"ephemeralContainers": [{"name": "e", "image": "e", "envFrom": [{"secretRef": {"name": "db"}}]}]`), secrets},

		// What is the container vmcp's alone.
		"sidecar mounts a credential":        {"Deployment", sidecar(`"volumeMounts": [{"name": "` + credential + `", "mountPath": "/x"}]`), alone},
		"sidecar mounts the token":           {"Deployment", sidecar(`"volumeMounts": [{"name": "token", "mountPath": "/x"}]`), alone},
		"sidecar mounts the configuration":   {"Deployment", sidecar(`"volumeMounts": [{"name": "config", "mountPath": "/x"}]`), alone},
		"init container mounts a credential": {"Deployment", pod(`"initContainers": [{"name": "i", "image": "i", "volumeMounts": [{"name": "` + credential + `", "mountPath": "/x"}]}]`), alone},
		"sidecar of another kind":            {"Deployment", pod(`"initContainers": [{"name": "i", "image": "i", "restartPolicy": "Always", "volumeMounts": [{"name": "token", "mountPath": "/x"}]}]`), alone},
		"ephemeral container":                {"Deployment", pod(`"ephemeralContainers": [{"name": "e", "image": "e", "volumeMounts": [{"name": "` + credential + `", "mountPath": "/x"}]}]`), "ephemeral containers"},
		"credential exchanged":               {"Deployment", pod(`"volumes": [{"name": "` + credential + `", "secret": {"secretName": "other"}}]`), "volume " + credential},
		"credential hidden":                  {"Deployment", container(`"volumeMounts": [{"name": "config", "mountPath": "/etc/vmcp/credentials/grafana-token"}]`), "mounted at /etc/vmcp/credentials/grafana-token"},
		"sidecar mounts the session keys":    {"Deployment", sidecar(`"volumeMounts": [{"name": "session-keys", "mountPath": "/x"}]`), alone},
		"session keys mounted by the side":   {"Deployment", volume(`"secret": {"secretName": "vmcp-team"}`), secrets},
		"session keys of a sibling":          {"Deployment", pod(`"volumes": [{"name": "session-keys", "secret": {"secretName": "vmcp-sibling"}}]`), "volume session-keys"},
		"session keys not optional":          {"Deployment", pod(`"volumes": [{"name": "session-keys", "secret": {"optional": false}}]`), "volume session-keys"},
		"session keys of another mode":       {"Deployment", pod(`"volumes": [{"name": "session-keys", "secret": {"defaultMode": 511}}]`), "volume session-keys"},
		"all of the session keys' Secret":    {"Deployment", pod(`"volumes": [{"name": "session-keys", "secret": {"items": null}}]`), "volume session-keys"},
		"session keys chosen by a ConfigMap": {"Deployment", pod(`"volumes": [{"name": "session-keys", "secret": null, "configMap": {"name": "x"}}]`), "volume session-keys"},
		"session keys gone":                  {"Deployment", pod(`"volumes": [{"name": "session-keys", "$patch": "delete"}]`), "volume session-keys"},
		"session keys not mounted":           {"Deployment", container(`"volumeMounts": [{"mountPath": "/var/run/secrets/vmcp.dev/session-keys", "$patch": "delete"}]`), "mounted at /var/run/secrets/vmcp.dev/session-keys"},
		"session keys writable":              {"Deployment", container(`"volumeMounts": [{"name": "session-keys", "mountPath": "/var/run/secrets/vmcp.dev/session-keys", "readOnly": false}]`), "mounted at /var/run/secrets/vmcp.dev/session-keys"},
		"session keys hidden":                {"Deployment", container(`"volumeMounts": [{"name": "x", "mountPath": "/var/run/secrets/vmcp.dev"}]`), "would hide"},
		"token of another audience":          {"Deployment", volume(`"projected": {"sources": [{"serviceAccountToken": {"path": "t", "audience": "vault"}}]}`), "token or certificate"},
		"certificate":                        {"Deployment", volume(`"projected": {"sources": [{"podCertificate": {"signerName": "example.com/s", "keyType": "ED25519", "credentialBundlePath": "c"}}]}`), "token or certificate"},
		"token hidden":                       {"Deployment", container(`"volumeMounts": [{"name": "x", "mountPath": "/var/run/secrets"}]`), "would hide"},
		"shared processes":                   {"Deployment", pod(`"shareProcessNamespace": true`), "shareProcessNamespace"},
		"hook that runs a command":           {"Deployment", container(`"lifecycle": {"postStart": {"exec": {"command": ["/x/evil"]}}}`), "lifecycle.postStart.exec"},
		"other hook":                         {"Deployment", container(`"lifecycle": {"preStop": {"sleep": null, "exec": {"command": ["/x/evil"]}}}`), "lifecycle.preStop.exec"},
		"liveness by a command":              {"Deployment", container(`"livenessProbe": {"httpGet": null, "exec": {"command": ["/x/evil"]}}`), "livenessProbe.exec"},
		"readiness by a command":             {"Deployment", container(`"readinessProbe": {"httpGet": null, "exec": {"command": ["/x/evil"]}}`), "readinessProbe.exec"},
		"start by a command":                 {"Deployment", container(`"startupProbe": {"httpGet": null, "exec": {"command": ["/x/evil"]}}`), "startupProbe.exec"},
		"kubeconfig":                         {"Deployment", container(`"env": [{"name": "KUBECONFIG", "value": "/x/config"}]`), "KUBECONFIG"},
		"other API server":                   {"Deployment", container(`"env": [{"name": "KUBERNETES_SERVICE_HOST", "value": "evil.example.com"}]`), "KUBERNETES_SERVICE_HOST"},
		"environment of tomorrow":            {"Deployment", container(`"env": [{"name": "VMCP_ANYTHING", "value": "x"}]`), "VMCP_ANYTHING"},
		"environment of a ConfigMap":         {"Deployment", container(`"envFrom": [{"configMapRef": {"name": "x"}}]`), "write the variables under env"},

		// The node.
		"hostPath":           {"Deployment", volume(`"hostPath": {"path": "/"}`), restricted},
		"iscsi with Secret":  {"Deployment", volume(`"iscsi": {"targetPortal": "x", "iqn": "x", "lun": 1, "secretRef": {"name": "db"}}`), restricted},
		"flexVolume":         {"Deployment", volume(`"flexVolume": {"driver": "x/y", "secretRef": {"name": "db"}}`), restricted},
		"hostNetwork":        {"Deployment", pod(`"hostNetwork": true`), restricted},
		"hostnetwork":        {"Deployment", pod(`"hostnetwork": true`), `unknown field "spec.template.spec.hostnetwork"`},
		"hostPID":            {"Deployment", pod(`"hostPID": true`), restricted},
		"hostIPC":            {"Deployment", pod(`"hostIPC": true`), restricted},
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

		// The number of pods.
		"scales another":  {"HorizontalPodAutoscaler", "spec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: other}}", "what the HorizontalPodAutoscaler scales"},
		"other bounds":    {"HorizontalPodAutoscaler", "spec: {maxReplicas: 1000}", "change spec.autoscaling"},
		"no autoscaler":   {"HorizontalPodAutoscaler", "$patch: delete", "deletes the HorizontalPodAutoscaler"},
		"foreign scaling": {"HorizontalPodAutoscaler", "metadata: {labels: {app.kubernetes.io/managed-by: Helm}}", finds},

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
			in := static
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

	// Kustomize would call it, if it were asked to.
	files := filesys.MakeFsInMemory()
	if err := files.WriteFile("/kustomization.yaml", []byte("resources: ["+url+"]")); err != nil {
		t.Fatal(err)
	}
	if _, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(files, "/"); err != nil {
		t.Fatal(err)
	}
	if n := calls.Load(); n == 0 {
		t.Error("the listener hears nobody, so its silence proves nothing")
	}
}
