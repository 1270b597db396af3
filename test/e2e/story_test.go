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

	"github.com/modelcontextprotocol/go-sdk/mcp"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/test/harness"
)

// TestStory is the story of "make demo": three servers of others behind one endpoint, one of which goes and comes back.
func TestStory(t *testing.T) {
	s := awaitPhase(t, gateway, startLimit, v1alpha1.PhaseReady)

	t.Run("the runtime reports every backend", func(t *testing.T) {
		if got := s.Status.Backends; got == nil || got.Total != 3 || got.Ready != 3 {
			t.Errorf("status.backends is %+v, want 3 of 3 ready", got)
		}
		want := map[string]struct {
			source    v1alpha1.BackendSource
			transport v1alpha1.Transport
		}{
			"kubernetes": {v1alpha1.BackendSourceWorkload, v1alpha1.TransportStreamableHTTP},
			"files":      {v1alpha1.BackendSourceWorkload, v1alpha1.TransportStdio},
			"everything": {v1alpha1.BackendSourceService, v1alpha1.TransportStreamableHTTP},
		}
		for name, w := range want {
			b, err := verdict(s, name)
			if err != nil {
				t.Error(err)
				continue
			}
			if b.Status != v1alpha1.BackendReady || b.Source != w.source || b.Transport != w.transport || b.Tools == nil || *b.Tools == 0 || b.ProtocolVersion == "" {
				t.Errorf("%s is reported as %+v", name, b)
			}
		}
	})

	t.Run("the operator reports what it provisioned", func(t *testing.T) {
		// The pods are available a little after the first report of the runtime.
		eventually(t, startLimit, "waiting for the operator's conditions", func(ctx context.Context) error {
			s, err := getGateway(ctx, gateway)
			if err != nil {
				return err
			}
			for _, condition := range operatorConditions {
				if c := findCondition(s, condition); c == nil || c.Status != metav1.ConditionTrue {
					return fmt.Errorf("condition %s is %+v", condition, c)
				}
			}
			if s.Status.ObservedGeneration != s.Generation {
				return fmt.Errorf("observedGeneration is %d of %d", s.Status.ObservedGeneration, s.Generation)
			}
			if want := "http://vmcp-demo." + namespace + ".svc/mcp"; s.Status.URL != want {
				return fmt.Errorf("url is %q, want %q", s.Status.URL, want)
			}
			return nil
		})
	})

	t.Run("managedFields show two writers with nothing in common", twoWriters)
	t.Run("kubectl get prints what people look for", printerColumns)
	t.Run("nothing is written while nothing changes", quiet)

	session, changed := connect(t, gateway)
	t.Run("one tool of each server answers", func(t *testing.T) { callEach(t, session) })
	t.Run("a backend that goes is reported and withdrawn, and comes back", func(t *testing.T) { goAndComeBack(t, session, changed) })
	t.Run("the operator never looked at a backend, nor anybody at all Secrets", keptTheRules)
}

var operatorConditions = []string{
	v1alpha1.ConditionGroupRefValid, v1alpha1.ConditionOperandRendered, v1alpha1.ConditionRBACReady,
	v1alpha1.ConditionConfigReady, v1alpha1.ConditionDeploymentReady, v1alpha1.ConditionServiceReady,
}

func findCondition(s *v1alpha1.VirtualMCPServer, condition string) *metav1.Condition {
	for i := range s.Status.Conditions {
		if s.Status.Conditions[i].Type == condition {
			return &s.Status.Conditions[i]
		}
	}
	return nil
}

func twoWriters(t *testing.T) {
	s, err := getGateway(t.Context(), gateway)
	if err != nil {
		t.Fatal(err)
	}
	disjointWriters(t, s)
}

// disjointWriters fails the test unless operator and runtime own fields of a status, and none in common.
func disjointWriters(t *testing.T, s *v1alpha1.VirtualMCPServer) {
	t.Helper()
	owned := map[string]*fieldpath.Set{}
	for _, entry := range s.ManagedFields {
		if entry.Subresource != "status" {
			continue
		}
		set := &fieldpath.Set{}
		if err := set.FromJSON(entry.FieldsV1.GetRawReader()); err != nil {
			t.Fatal(err)
		}
		if entry.Operation != metav1.ManagedFieldsOperationApply {
			t.Errorf("manager %s wrote status with %s, not with Apply", entry.Manager, entry.Operation)
		}
		owned[entry.Manager] = set
	}
	operator, runtime := owned[v1alpha1.OperatorFieldManager], owned[v1alpha1.RuntimeFieldManager]
	if len(owned) != 2 || operator == nil || runtime == nil {
		t.Fatalf("managers of status: %v, want vmcp-operator and vmcp-runtime", owned)
	}
	if common := operator.Leaves().Intersection(runtime.Leaves()); !common.Empty() {
		t.Errorf("fields with two owners: %s", common)
	}
	for _, field := range []string{"phase", "message", "discoveredBackends", "backends", "catalog", "runtime"} {
		if path := fieldpath.MakePathOrDie("status", field); has(operator, path) || !has(runtime, path) {
			t.Errorf("status.%s is not the runtime's alone", field)
		}
	}
	for _, field := range []string{"url", "observedGeneration"} {
		if path := fieldpath.MakePathOrDie("status", field); !has(operator, path) || has(runtime, path) {
			t.Errorf("status.%s is not the operator's alone", field)
		}
	}
}

// has says whether a set holds a path or something below it.
func has(set *fieldpath.Set, path fieldpath.Path) bool {
	found := false
	set.Iterate(func(p fieldpath.Path) {
		if len(p) >= len(path) && p[:len(path)].Equals(path) {
			found = true
		}
	})
	return found
}

func printerColumns(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(must(t, "get", "vmcp", gateway)), "\n")
	if got, want := strings.Fields(lines[0]), []string{"NAME", "PHASE", "READY", "BACKENDS", "URL", "AGE"}; !slices.Equal(got, want) {
		t.Errorf("columns are %v, want %v", got, want)
	}
	row := strings.Fields(lines[1])
	if want := []string{gateway, "Ready", "3", "3", "http://vmcp-demo." + namespace + ".svc/mcp"}; len(row) != 6 || !slices.Equal(row[:5], want) {
		t.Errorf("row is %v, want %v and an age", row, want)
	}
}

func quiet(t *testing.T) {
	before, err := getGateway(t.Context(), gateway)
	if err != nil {
		t.Fatal(err)
	}
	// Three rounds of probes long, the resourceVersion stays.
	const long = 16 * time.Second
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	out, err := kubectl.Run(ctx, "--namespace", namespace, "get", "virtualmcpserver", gateway, "--watch-only", "--output-watch-events", "--output=name")
	if ctx.Err() == nil {
		t.Fatalf("kubectl get --watch ended early: %v", err)
	}
	if out != "" {
		t.Errorf("the object changed while nothing happened:\n%s", out)
	}
	after, err := getGateway(t.Context(), gateway)
	if err != nil {
		t.Fatal(err)
	}
	if before.ResourceVersion != after.ResourceVersion {
		t.Errorf("resourceVersion went from %s to %s within %s", before.ResourceVersion, after.ResourceVersion, long)
	}
}

// connect opens a session with a gateway by way of kubectl port-forward. The channel receives when the gateway announces a
// change of its tools.
func connect(t *testing.T, name string) (*mcp.ClientSession, <-chan struct{}) {
	t.Helper()
	forward, err := harness.ForwardService(t.Context(), kubectl, namespace, v1alpha1.OperandName(name), 0, int(v1alpha1.ServicePort))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(forward.Close)
	changed := make(chan struct{}, 64)
	client := mcp.NewClient(&mcp.Implementation{Name: "vmcp-e2e", Version: "1"}, &mcp.ClientOptions{
		ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) {
			select {
			case changed <- struct{}{}:
			default:
			}
		},
	})
	session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: "http://" + forward.Address + v1alpha1.EndpointPath, MaxRetries: -1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := session.Close(); err != nil {
			t.Log("closing the session:", err)
		}
	})
	return session, changed
}

func callEach(t *testing.T, session *mcp.ClientSession) {
	if v := session.InitializeResult().ProtocolVersion; v != "2025-11-25" && v != "2026-07-28" {
		t.Errorf("the client and the gateway agreed on revision %q", v)
	}
	tests := map[string]struct {
		tool      string
		arguments map[string]any
		want      func(string) error
	}{
		"kubernetes-mcp-server lists pods of this cluster": {
			tool: "kubernetes_pods_list_in_namespace", arguments: map[string]any{"namespace": namespace},
			want: func(text string) error {
				pods, err := kubectl.Run(t.Context(), "--namespace", namespace, "get", "pods", "--selector", v1alpha1.VirtualMCPServerLabel+"="+gateway,
					"--output=jsonpath={.items[*].metadata.name}")
				if err != nil {
					return err
				}
				for _, pod := range strings.Fields(pods) {
					if !strings.Contains(text, pod) {
						return fmt.Errorf("pod %s is missing", pod)
					}
				}
				if pods == "" {
					return fmt.Errorf("kubectl finds no pod of the gateway")
				}
				return nil
			},
		},
		"mcp-filesystem-server reads a file over stdio": {
			tool: "files_read_file", arguments: map[string]any{"path": "/docs/welcome.txt"},
			want: contains("stdio MCP server"),
		},
		"everything-server answers": {
			tool: "everything_test_simple_text",
			want: contains("simple text"),
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			text, err := harness.CallText(t.Context(), session, test.tool, test.arguments)
			if err != nil {
				t.Fatal(err)
			}
			if err := test.want(text); err != nil {
				t.Errorf("%v in the answer:\n%s", err, text)
			}
		})
	}
	t.Run("prompts and resources are aggregated", func(t *testing.T) {
		prompt, err := session.GetPrompt(t.Context(), &mcp.GetPromptParams{Name: "everything_test_simple_prompt"})
		if err != nil {
			t.Fatal(err)
		}
		if len(prompt.Messages) == 0 {
			t.Error("the prompt has no messages")
		}
		resource, err := session.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: "test://static-text"})
		if err != nil {
			t.Fatal(err)
		}
		if len(resource.Contents) != 1 || resource.Contents[0].Text == "" {
			encoded, _ := json.Marshal(resource)
			t.Errorf("the resource is %s", encoded)
		}
	})
}

func contains(want string) func(string) error {
	return func(text string) error {
		if !strings.Contains(text, want) {
			return fmt.Errorf("%q is missing", want)
		}
		return nil
	}
}

func goAndComeBack(t *testing.T, session *mcp.ClientSession, changed <-chan struct{}) {
	t.Cleanup(func() {
		if _, err := kubectl.Run(context.Background(), "--namespace", namespace, "scale", "deployment/everything", "--replicas=1"); err != nil {
			t.Error(err)
		}
	})
	drain(changed)
	for _, step := range []struct {
		replicas int
		phase    v1alpha1.Phase
		status   v1alpha1.BackendStatus
		ready    int32
	}{
		{0, v1alpha1.PhaseDegraded, v1alpha1.BackendUnavailable, 2},
		{1, v1alpha1.PhaseReady, v1alpha1.BackendReady, 3},
	} {
		must(t, "scale", "deployment/everything", fmt.Sprintf("--replicas=%d", step.replicas))
		awaitPhase(t, gateway, changeLimit, step.phase)
		// A backend that fails is degraded before it is unavailable.
		s := awaitVerdict(t, "everything", changeLimit, step.status)
		if s.Status.Backends.Ready != step.ready || s.Status.Backends.Total != 3 {
			t.Errorf("status.backends is %+v, want %d of 3", s.Status.Backends, step.ready)
		}
		select {
		case <-changed:
		case <-time.After(changeLimit):
			t.Errorf("the open session was not told that the tools changed at %d replicas", step.replicas)
		}
		eventually(t, changeLimit, "waiting for the tool list to follow", func(ctx context.Context) error {
			names, err := harness.ToolNames(ctx, session)
			if err != nil {
				return err
			}
			if n := harness.CountByPrefix(names, "everything_"); (n > 0) != (step.replicas > 0) {
				return fmt.Errorf("%d tools of everything are listed", n)
			}
			if harness.CountByPrefix(names, "files_") == 0 || harness.CountByPrefix(names, "kubernetes_") == 0 {
				return fmt.Errorf("the tools of the others are missing: %v", names)
			}
			return nil
		})
		if _, err := harness.CallText(t.Context(), session, "files_read_file", map[string]any{"path": "/docs/welcome.txt"}); err != nil {
			t.Errorf("another backend at %d replicas: %v", step.replicas, err)
		}
		drain(changed)
	}
}

func drain(c <-chan struct{}) {
	for {
		select {
		case <-c:
		default:
			return
		}
	}
}
