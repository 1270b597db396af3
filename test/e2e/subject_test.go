//go:build e2e

// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/test/harness"
)

// runtimeProgram is how the process of a runtime was started.
const runtimeProgram = "/vmcp"

// subject is a gateway that a test does something to, and all that was seen of it. Nobody else uses it, so that these tests run
// side by side.
type subject struct {
	name   string
	status *harness.History[v1alpha1.VirtualMCPServer]
	lease  *harness.History[coordinationv1.Lease]
}

// newSubject makes a gateway over two backends, of which one can be taken away (see dies), and waits until it is Ready and served
// by all its pods.
func newSubject(t *testing.T, name string, edits ...edit) *subject {
	t.Helper()
	started := time.Now()
	x := newObserved(t, name, edits...)
	x.await(t, started, startLimit, "every pod to serve the gateway", settled)
	return x
}

// newObserved makes such a gateway, and waits for nothing.
func newObserved(t *testing.T, name string, edits ...edit) *subject {
	t.Helper()
	x := &subject{name: name}
	var err error
	if x.status, err = harness.Watch[v1alpha1.VirtualMCPServer](t.Context(), kubectl, namespace, "virtualmcpservers.vmcp.dev", name); err != nil {
		t.Fatal(err)
	}
	if x.lease, err = harness.Watch[coordinationv1.Lease](t.Context(), kubectl, namespace, "leases.coordination.k8s.io", v1alpha1.OperandName(name)); err != nil {
		t.Fatal(err)
	}
	apply(t, x.backends(t)+x.manifest(t, edits...))
	return x
}

// settled says that the runtime reports that all is well with both backends of a subject, and the operator that every pod serves them.
func settled(s *v1alpha1.VirtualMCPServer) error {
	if !ready(s) {
		return fmt.Errorf("phase is %q: %s", s.Status.Phase, s.Status.Message)
	}
	return rolledOut(s)
}

// rolledOut says that the runtime reports that all is well, and the operator that every pod serves the present generation.
func rolledOut(s *v1alpha1.VirtualMCPServer) error { return served(s, v1alpha1.PhaseReady) }

// served says that the runtime reports a phase, and the operator that every pod serves the present generation.
func served(s *v1alpha1.VirtualMCPServer, phase v1alpha1.Phase) error {
	deployed := findCondition(s, v1alpha1.ConditionDeploymentReady)
	switch {
	case s.Status.Phase != phase:
		return fmt.Errorf("phase is %q: %s", s.Status.Phase, s.Status.Message)
	case s.Status.ObservedGeneration != s.Generation:
		return fmt.Errorf("observedGeneration is %d of %d", s.Status.ObservedGeneration, s.Generation)
	case deployed == nil || deployed.Status != metav1.ConditionTrue:
		return fmt.Errorf("condition DeploymentReady is %+v", deployed)
	default:
		return nil
	}
}

// backends are the manifests of the group: NAME-lives is the kubernetes-mcp-server of the demo, NAME-dies a server of the test's own.
// They offer different resources: those keep their URIs, and a clash would be reported.
func (x *subject) backends(t *testing.T) string {
	t.Helper()
	dies := server{name: x.name + "-dies", image: everythingImage(t), args: []string{"-http", ":8080"}}
	return dies.manifests(t) + strings.ReplaceAll(`
apiVersion: vmcp.dev/v1alpha1
kind: MCPGroup
metadata: {name: NAME}
---
apiVersion: vmcp.dev/v1alpha1
kind: MCPBackend
metadata: {name: NAME-lives}
spec: {groupRef: {name: NAME}, service: {name: mcpb-kubernetes, port: 8080, path: /mcp}}
---
apiVersion: vmcp.dev/v1alpha1
kind: MCPBackend
metadata: {name: NAME-dies}
spec: {groupRef: {name: NAME}, service: {name: NAME-dies, port: 80, path: /mcp}}
---
`, "NAME", x.name)
}

// edit changes the intent of a gateway.
type edit func(*v1alpha1.VirtualMCPServerSpec)

// deploymentPatch patches the Deployment.
func deploymentPatch(patch string) edit {
	return func(spec *v1alpha1.VirtualMCPServerSpec) {
		spec.Patches = append(spec.Patches, v1alpha1.Patch{Target: v1alpha1.PatchTarget{Kind: "Deployment"}, Patch: patch})
	}
}

// replicas sets the number of pods.
func replicas(n int32) edit {
	return func(spec *v1alpha1.VirtualMCPServerSpec) { spec.Replicas = &n }
}

// manifest is that of the gateway itself.
func (x *subject) manifest(t *testing.T, edits ...edit) string {
	t.Helper()
	spec := v1alpha1.VirtualMCPServerSpec{GroupRef: v1alpha1.LocalReference{Name: x.name}}
	for _, edit := range edits {
		edit(&spec)
	}
	encoded, err := json.Marshal(map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(),
		"kind":       "VirtualMCPServer",
		"metadata":   map[string]any{"name": x.name},
		"spec":       spec,
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(encoded)
}

// change applies the gateway again, with other edits than before.
func (x *subject) change(t *testing.T, edits ...edit) {
	t.Helper()
	if _, err := kubectl.RunInput(t.Context(), x.manifest(t, edits...), "--namespace", namespace, "apply", "--server-side", "-f", "-"); err != nil {
		t.Fatal(err)
	}
}

// dies has the backend NAME-dies refuse every connection, whoever is looking, and returns when it does: its Service leads to a port
// of a new pod where nobody listens. A Service without pods would be no such clear case, for the kernel limits how often it says that
// a destination is unreachable, and says nothing in between.
func (x *subject) dies(t *testing.T) {
	t.Helper()
	must(t, "patch", "service", x.name+"-dies", "--type=json", `--patch=[{"op": "replace", "path": "/spec/ports/0/targetPort", "value": 8081}]`)
	must(t, "delete", "pod", "--selector=app="+x.name+"-dies", "--timeout=1m")
	must(t, "rollout", "status", "deployment/"+x.name+"-dies", "--timeout=1m")
}

// pod is the one pod of the gateway, besides those that were told to end.
func (x *subject) pod(t *testing.T) *corev1.Pod {
	t.Helper()
	list := &corev1.PodList{}
	if err := kubectl.GetJSON(t.Context(), list, "--namespace", namespace, "pods", "--selector="+v1alpha1.VirtualMCPServerLabel+"="+x.name); err != nil {
		t.Fatal(err)
	}
	pods := slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil })
	if len(pods) != 1 {
		t.Fatalf("gateway %s has %d pods, want one", x.name, len(pods))
	}
	return &pods[0]
}

// await waits for a state of the gateway that was seen after a moment, and fails the test after the limit.
func (x *subject) await(
	t *testing.T, from time.Time, limit time.Duration, what string, condition func(*v1alpha1.VirtualMCPServer) error,
) harness.State[v1alpha1.VirtualMCPServer] {
	t.Helper()
	state, err := x.status.Await(t.Context(), from, limit, "waiting for "+what, condition)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// awaitUnknown waits until the operator says that nothing is known of the gateway and its backends.
func (x *subject) awaitUnknown(t *testing.T, from time.Time, limit time.Duration) harness.State[v1alpha1.VirtualMCPServer] {
	t.Helper()
	return x.await(t, from, limit, "phase Unknown", nothingKnown)
}

// nothingKnown says whether a status claims to know nothing of the gateway and of any backend.
func nothingKnown(s *v1alpha1.VirtualMCPServer) error {
	if s.Status.Phase != v1alpha1.PhaseUnknown {
		return fmt.Errorf("phase is %q: %s", s.Status.Phase, s.Status.Message)
	}
	if s.Status.Backends == nil || s.Status.Backends.Ready != 0 || s.Status.Backends.Total != 2 || len(s.Status.DiscoveredBackends) != 2 {
		return fmt.Errorf("backends are %+v: %+v", s.Status.Backends, s.Status.DiscoveredBackends)
	}
	for _, b := range s.Status.DiscoveredBackends {
		if b.Status != v1alpha1.BackendUnknown || b.Reason != v1alpha1.ReasonNoReport {
			return fmt.Errorf("backend %s is %s: %s", b.Name, b.Status, b.Reason)
		}
	}
	return nil
}

// awaitHolder waits until a pod other than the given one holds the Lease, or any pod if there is none given.
func (x *subject) awaitHolder(t *testing.T, from time.Time, limit time.Duration, otherThan string) harness.State[coordinationv1.Lease] {
	t.Helper()
	state, err := x.lease.Await(t.Context(), from, limit, "waiting for another holder of the Lease", func(l *coordinationv1.Lease) error {
		if holder := ptr.Deref(l.Spec.HolderIdentity, ""); holder == "" || holder == otherThan {
			return fmt.Errorf("the holder is %q", holder)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// reportedBy says that a pod reports.
func reportedBy(pod string) func(*v1alpha1.VirtualMCPServer) error {
	return func(s *v1alpha1.VirtualMCPServer) error {
		if s.Status.Runtime == nil || s.Status.Runtime.Reporter != pod {
			return fmt.Errorf("the reporter is %+v", s.Status.Runtime)
		}
		return nil
	}
}

// ready says that all is well.
func ready(s *v1alpha1.VirtualMCPServer) bool {
	return s.Status.Phase == v1alpha1.PhaseReady && s.Status.Backends != nil && s.Status.Backends.Ready == 2
}

// always fails the test for each state of a gateway, seen since a moment, that is not as it should be, even for the shortest time, and
// if there is no more to see. It returns the states.
func always(
	t *testing.T, seen *harness.History[v1alpha1.VirtualMCPServer], since time.Time, holds func(*v1alpha1.VirtualMCPServer) bool,
) []harness.State[v1alpha1.VirtualMCPServer] {
	t.Helper()
	states := seen.Since(since)
	told := ""
	for _, s := range states {
		if s.Deleted || !holds(s.Object) {
			if status := describe(s); status != told {
				t.Errorf("%s later the status was %s", s.At.Sub(since).Round(time.Millisecond), status)
				told = status
			}
		}
	}
	if err := seen.Err(); err != nil {
		t.Error(err)
	}
	return states
}

// describe is a state of a gateway in one line.
func describe(s harness.State[v1alpha1.VirtualMCPServer]) string {
	if s.Deleted {
		return "that of a deleted object"
	}
	line := fmt.Sprintf("%s (%s)", s.Object.Status.Phase, s.Object.Status.Message)
	for _, b := range s.Object.Status.DiscoveredBackends {
		line += fmt.Sprintf("; %s: %s, %s, %s", b.Name, b.Status, b.Reason, b.Message)
	}
	return line
}

// sampleInterval is how often a sampled status is read.
const sampleInterval = 200 * time.Millisecond

// sample reads the gateway again and again from now on, as a script would.
func (x *subject) sample(t *testing.T) *harness.History[v1alpha1.VirtualMCPServer] {
	t.Helper()
	path := fmt.Sprintf("/apis/%s/namespaces/%s/virtualmcpservers/%s", v1alpha1.GroupVersion, namespace, x.name)
	samples, err := harness.Sample[v1alpha1.VirtualMCPServer](t.Context(), kubectl, path, sampleInterval)
	if err != nil {
		t.Fatal(err)
	}
	return samples
}

// cleanUp runs when the test ends, on a context that outlives the test's.
func cleanUp(t *testing.T, what string, do func(context.Context) error) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := do(ctx); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	})
}
