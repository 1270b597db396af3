//go:build e2e_olm

// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package olm installs the operator as OLM does, on a real cluster: from a catalog and by "operator-sdk run bundle", in every install
// mode, and upgrades it while clients of both eras call. "make e2e-olm" starts the cluster with OLM and its registry, and loads the images.
package olm

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/test/harness"
)

const (
	// What takes long is the start of pods on a busy machine, and OLM, which looks at many things every few seconds only.
	startLimit   = 3 * time.Minute
	installLimit = 4 * time.Minute
)

var (
	kubectl harness.Kubectl
	setting environment
)

// environment is what "make e2e-olm" says.
type environment struct {
	// Repository is the root of the repository, Tools its directory bin, OperatorSDK the program.
	Repository, Tools, OperatorSDK string
	// Registry is HOST:PORT of the cluster's registry, Authority the file with the certificate that it is trusted by.
	Registry, Authority string
	// ImageRegistry and ImageTag name the images of the demo's servers.
	ImageRegistry, ImageTag string
	// CatalogImage is the catalog that is released, with the bundle that is checked in.
	CatalogImage string
	// Versions are those that have images, in the order in which they replace one another; the last is the one of the tree.
	Versions []string
}

func fromEnvironment() (environment, error) {
	var missing []string
	get := func(name string) string {
		value := os.Getenv(name)
		if value == "" {
			missing = append(missing, name)
		}
		return value
	}
	repository, err := filepath.Abs("../..")
	e := environment{
		Repository: repository, Tools: get("VMCP_TOOLS"), OperatorSDK: get("VMCP_OPERATOR_SDK"),
		Registry: get("VMCP_REGISTRY"), Authority: get("VMCP_REGISTRY_CA"),
		ImageRegistry: get("IMAGE_REGISTRY"), ImageTag: get("IMAGE_TAG"),
		CatalogImage: get("CATALOG_IMAGE"), Versions: strings.Fields(get("VMCP_VERSIONS")),
	}
	if len(missing) > 0 {
		return e, fmt.Errorf("not set: %s (make e2e-olm sets them)", strings.Join(missing, ", "))
	}
	if len(e.Versions) < 3 {
		return e, fmt.Errorf("VMCP_VERSIONS: two upgrades need three versions, got %v", e.Versions)
	}
	return e, err
}

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctx := context.Background()
	if err := prepare(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "e2e-olm: setting up:", err)
		return 1
	}
	code := m.Run()
	if err := clean(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "e2e-olm: cleaning up:", err)
		return 1
	}
	return code
}

// prepare makes bundles and catalogs, and removes what an interrupted run left.
func prepare(ctx context.Context) error {
	var err error
	if setting, err = fromEnvironment(); err != nil {
		return err
	}
	if kubectl, err = harness.FromEnvironment(); err != nil {
		return err
	}
	if err := clean(ctx); err != nil {
		return err
	}
	return publish(ctx)
}

// testLabel marks the namespaces of these tests.
const testLabel = "vmcp.dev/e2e-olm"

// clean removes what the tests make, and the CRDs, which OLM leaves.
func clean(ctx context.Context) error {
	if _, err := kubectl.Run(ctx, "delete", "namespace", "--selector="+testLabel, "--ignore-not-found", "--wait", "--timeout=3m"); err != nil {
		return err
	}
	_, err := kubectl.Run(ctx, "delete", "--kustomize="+filepath.Join(setting.Repository, "config/crd"), "--ignore-not-found", "--wait", "--timeout=3m")
	return err
}

// makeNamespaces makes namespaces that last as long as the test.
func makeNamespaces(t *testing.T, names ...string) {
	t.Helper()
	var manifests strings.Builder
	for _, name := range names {
		fmt.Fprintf(&manifests, "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: %s, labels: {%s: \"true\"}}\n", name, testLabel)
	}
	apply(t, manifests.String())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), startLimit)
		defer cancel()
		if t.Failed() {
			diagnose(ctx, names)
		}
		if _, err := kubectl.Run(ctx, append([]string{"delete", "namespace", "--ignore-not-found", "--wait"}, names...)...); err != nil {
			t.Error(err)
		}
	})
}

// diagnose prints what a person needs to see why a test failed.
func diagnose(ctx context.Context, namespaces []string) {
	commands := [][]string{{"get", "pods", "--all-namespaces", "--output=wide"}}
	for _, n := range namespaces {
		commands = append(commands,
			[]string{"--namespace", n, "get", "csv,subscription,installplan,operatorgroup,catalogsource,operatorcondition", "--output=wide"},
			[]string{"--namespace", n, "get", "events", "--sort-by=.lastTimestamp"},
			[]string{"--namespace", n, "get", "vmcp,mcpg,mcpb", "--output=yaml"},
			[]string{"--namespace", n, "logs", "--selector=app.kubernetes.io/part-of=vmcp", "--all-containers", "--prefix", "--tail=60"},
			[]string{"--namespace", n, "logs", "--selector=" + v1alpha1.ManagedByLabel + "=" + v1alpha1.ManagedByValue, "--all-containers", "--prefix", "--tail=60"},
		)
	}
	commands = append(commands,
		[]string{"--namespace=olm", "logs", "deployment/olm-operator", "--tail=40"},
		[]string{"--namespace=olm", "logs", "deployment/catalog-operator", "--tail=40"})
	for _, args := range commands {
		fmt.Fprintf(os.Stderr, "\n--- kubectl %v\n", args)
		if err := kubectl.Stream(ctx, os.Stderr, args...); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}

// must runs kubectl and fails the test when kubectl fails.
func must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := kubectl.Run(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// apply applies manifests that name their namespaces.
func apply(t *testing.T, manifests string) {
	t.Helper()
	if _, err := kubectl.RunInput(t.Context(), manifests, "apply", "--server-side", "-f", "-"); err != nil {
		t.Fatal(err)
	}
}

// eventually fails the test when a condition does not come to hold in time.
func eventually(t *testing.T, limit time.Duration, what string, condition func(context.Context) error) {
	t.Helper()
	if err := harness.WaitFor(t.Context(), limit, what, condition); err != nil {
		t.Fatal(err)
	}
}

// gatewayNames are a gateway of two pods, and one that is as a gateway is by default.
var gatewayNames = []string{"team", "plain"}

// gatewayManifests are these gateways over the demo's everything-server and its filesystem server.
// The servers ask for a share of the processor, as the gateways do by default: without one the kernel lets a pod starve for seconds while
// this machine is busy with anything else.
func gatewayManifests(namespace string) string {
	image := func(server string) string {
		return fmt.Sprintf("%s/demo-%s-mcp:%s", setting.ImageRegistry, server, setting.ImageTag)
	}
	return strings.NewReplacer("NAMESPACE", namespace, "EVERYTHING", image("everything"), "FILES", image("filesystem")).Replace(`
apiVersion: vmcp.dev/v1alpha1
kind: MCPGroup
metadata: {name: team, namespace: NAMESPACE}
---
apiVersion: vmcp.dev/v1alpha1
kind: MCPBackend
metadata: {name: everything, namespace: NAMESPACE}
spec:
  groupRef: {name: team}
  transport: streamable-http
  workload:
    image: EVERYTHING
    args: [-http, ":8080"]
    port: 8080
    path: /mcp
    resources: {requests: {cpu: 100m, memory: 64Mi}}
---
apiVersion: vmcp.dev/v1alpha1
kind: MCPBackend
metadata: {name: files, namespace: NAMESPACE}
spec:
  groupRef: {name: team}
  transport: stdio
  workload:
    image: FILES
    command: [/mcp-filesystem-server, /scratch]
    resources: {requests: {cpu: 100m, memory: 64Mi}}
    volumes: [{name: scratch, emptyDir: {}}]
    volumeMounts: [{name: scratch, mountPath: /scratch}]
---
apiVersion: vmcp.dev/v1alpha1
kind: VirtualMCPServer
metadata: {name: team, namespace: NAMESPACE}
spec: {groupRef: {name: team}, replicas: 2}
---
apiVersion: vmcp.dev/v1alpha1
kind: VirtualMCPServer
metadata: {name: plain, namespace: NAMESPACE}
spec: {groupRef: {name: team}}
`)
}

// awaitGateways waits until the gateways are Ready and every pod serves them.
func awaitGateways(t *testing.T, namespace string) {
	t.Helper()
	eventually(t, startLimit, "waiting for the gateways in "+namespace, func(ctx context.Context) error {
		list := &v1alpha1.VirtualMCPServerList{}
		if err := kubectl.GetJSON(ctx, list, "--namespace", namespace, "virtualmcpservers"); err != nil {
			return err
		}
		if len(list.Items) != len(gatewayNames) {
			return fmt.Errorf("there are %d", len(list.Items))
		}
		for _, s := range list.Items {
			if s.Status.Phase != v1alpha1.PhaseReady || s.Status.ObservedGeneration != s.Generation {
				return fmt.Errorf("phase of %s is %q: %s; observedGeneration is %d of %d",
					s.Name, s.Status.Phase, s.Status.Message, s.Status.ObservedGeneration, s.Generation)
			}
		}
		return nil
	})
}

// endpoint is that of a gateway, at the address of its Service: the node is this machine.
func endpoint(t *testing.T, namespace, gateway string) string {
	t.Helper()
	ip := must(t, "--namespace", namespace, "get", "service", v1alpha1.OperandName(gateway), "--output=jsonpath={.spec.clusterIP}")
	return "http://" + ip + v1alpha1.EndpointPath
}
