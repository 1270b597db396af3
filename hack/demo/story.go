// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/test/harness"
)

// What config/default and config/samples/demo create.
const (
	operatorNamespace = "vmcp-system"
	demoNamespace     = "demo"
	gatewayName       = "demo"
	everythingBackend = "everything"
)

// Limits of waiting. They are wide: a slow machine should finish late, not fail.
const (
	operatorLimit = 3 * time.Minute
	readyLimit    = 3 * time.Minute
	changeLimit   = 90 * time.Second
)

// story is the state of one telling.
type story struct {
	*narrator
	env     *environment
	forward *harness.Forward
	session *mcp.ClientSession
}

func tellStory(ctx context.Context, out io.Writer) error {
	env, err := newEnvironment()
	if err != nil {
		return err
	}
	s := &story{narrator: newNarrator(out), env: env}
	defer s.disconnect()
	for _, chapter := range s.chapters() {
		if err := s.step(ctx, chapter.name, chapter.tell); err != nil {
			s.explain(context.WithoutCancel(ctx))
			return err
		}
	}
	s.epilogue()
	return nil
}

type chapter struct {
	name string
	tell func(context.Context) error
}

func (s *story) chapters() []chapter {
	var chapters []chapter
	if s.env.context == "" {
		chapters = append(chapters,
			chapter{"Start a Kubernetes cluster on this machine", func(ctx context.Context) error { return s.env.startCluster(ctx, s) }},
			chapter{"Load the images into its node", func(ctx context.Context) error { return s.env.loadImages(ctx, s) }})
	} else {
		chapters = append(chapters,
			chapter{"Use the cluster of context " + s.env.context, func(ctx context.Context) error { return s.env.useContext(ctx, s) }})
	}
	return append(chapters,
		chapter{"Install the operator: kubectl apply --server-side -k config/default", s.installOperator},
		chapter{"Put a gateway in front of three MCP servers: kubectl apply -k config/samples/demo", s.deploy},
		chapter{"Wait until the gateway reports that all of them are served", s.awaitReady},
		chapter{"Connect an MCP client to the gateway", s.connect},
		chapter{"Call one tool of each server through the gateway", s.callTools},
		chapter{"Scale the everything-server to zero; the runtime reports it and withdraws its tools", s.stopBackend},
		chapter{"Scale it back; the runtime reports that too", s.restoreBackend},
		chapter{"Keep the gateway reachable on this machine", s.keepReachable},
	)
}

func (s *story) installOperator(ctx context.Context) error {
	dir, err := s.env.kustomization("config/default", "config/default/image_fields.yaml", "vmcp-operator", "vmcp-runtime")
	if err != nil {
		return err
	}
	if err := s.apply(ctx, dir); err != nil {
		return err
	}
	return s.env.kubectl.Stream(ctx, s, "--namespace", operatorNamespace, "rollout", "status", "deployment/vmcp-operator",
		"--timeout="+operatorLimit.String())
}

func (s *story) deploy(ctx context.Context) error {
	dir, err := s.env.kustomization("config/samples/demo", "config/samples/demo/image_fields.yaml",
		"demo-kubernetes-mcp", "demo-filesystem-mcp", "demo-everything-mcp")
	if err != nil {
		return err
	}
	return s.apply(ctx, dir)
}

func (s *story) apply(ctx context.Context, dir string) error {
	// CRDs are accepted a moment before their kinds are served.
	var out string
	err := harness.WaitFor(ctx, 30*time.Second, "applying "+dir, func(ctx context.Context) error {
		var err error
		out, err = s.env.kubectl.Run(ctx, "apply", "--server-side", "--force-conflicts", "-k", dir)
		return err
	})
	s.show(out)
	return err
}

func (s *story) awaitReady(ctx context.Context) error {
	if err := s.awaitPhase(ctx, readyLimit, v1alpha1.PhaseReady); err != nil {
		return err
	}
	return s.showObjects(ctx)
}

func (s *story) connect(ctx context.Context) error {
	s.disconnect()
	var err error
	s.forward, err = harness.ForwardService(ctx, s.env.kubectl, demoNamespace, v1alpha1.OperandName(gatewayName), 0, int(v1alpha1.ServicePort))
	if err != nil {
		return err
	}
	s.session, err = harness.Connect(ctx, "http://"+s.forward.Address+v1alpha1.EndpointPath)
	if err != nil {
		return err
	}
	names, err := harness.ToolNames(ctx, s.session)
	if err != nil {
		return err
	}
	s.showf("MCP revision %s, %d tools:", s.session.InitializeResult().ProtocolVersion, len(names))
	for _, backend := range []string{"kubernetes", "files", everythingBackend} {
		s.showf("  %s_…  %d", backend, harness.CountByPrefix(names, backend+"_"))
	}
	return nil
}

func (s *story) disconnect() {
	if s.session != nil {
		_ = s.session.Close() // the gateway forgets the session by itself if this fails
		s.session = nil
	}
	if s.forward != nil {
		s.forward.Close()
		s.forward = nil
	}
}

func (s *story) callTools(ctx context.Context) error {
	calls := []struct {
		tool      string
		arguments map[string]any
		// want must occur in the answer.
		want string
	}{
		{"kubernetes_pods_list_in_namespace", map[string]any{"namespace": demoNamespace}, v1alpha1.OperandName(gatewayName) + "-"},
		{"files_read_file", map[string]any{"path": "/docs/welcome.txt"}, "stdio MCP server"},
		{"everything_test_simple_text", map[string]any{}, "simple text"},
	}
	for _, call := range calls {
		text, err := harness.CallText(ctx, s.session, call.tool, call.arguments)
		if err != nil {
			return err
		}
		arguments, err := json.Marshal(call.arguments)
		if err != nil {
			return fmt.Errorf("encoding the arguments of %s: %w", call.tool, err)
		}
		s.showf("%s %s", call.tool, arguments)
		s.show("  " + strings.ReplaceAll(excerpt(text, 12), "\n", "\n  "))
		if !strings.Contains(text, call.want) {
			return fmt.Errorf("the answer of %s does not mention %q", call.tool, call.want)
		}
	}
	return nil
}

func (s *story) stopBackend(ctx context.Context) error {
	return s.scale(ctx, 0, v1alpha1.PhaseDegraded, v1alpha1.BackendUnavailable)
}

func (s *story) restoreBackend(ctx context.Context) error {
	return s.scale(ctx, 1, v1alpha1.PhaseReady, v1alpha1.BackendReady)
}

// scale changes the number of replicas of the everything-server, and waits for phase, verdict and tool list to follow.
func (s *story) scale(ctx context.Context, replicas int, phase v1alpha1.Phase, verdict v1alpha1.BackendStatus) error {
	start := time.Now()
	if _, err := s.env.kubectl.Run(ctx, "--namespace", demoNamespace, "scale", "deployment/everything", fmt.Sprintf("--replicas=%d", replicas)); err != nil {
		return err
	}
	if err := s.awaitPhase(ctx, changeLimit, phase); err != nil {
		return err
	}
	s.showf("phase %s %.1f s after kubectl scale", phase, time.Since(start).Seconds())
	if err := s.awaitVerdict(ctx, changeLimit, everythingBackend, verdict); err != nil {
		return err
	}
	s.showf("backend %s is %s %.1f s after kubectl scale", everythingBackend, verdict, time.Since(start).Seconds())
	err := harness.WaitFor(ctx, changeLimit, "waiting for the tool list to follow", func(ctx context.Context) error {
		names, err := harness.ToolNames(ctx, s.session)
		if err != nil {
			return err
		}
		offered := harness.CountByPrefix(names, everythingBackend+"_")
		if (offered > 0) != (replicas > 0) {
			return fmt.Errorf("%d tools of %s are offered", offered, everythingBackend)
		}
		s.showf("the open session now lists %d tools, %d of them of %s", len(names), offered, everythingBackend)
		return nil
	})
	if err != nil {
		return err
	}
	return s.showObjects(ctx)
}

func (s *story) keepReachable(ctx context.Context) error {
	s.disconnect()
	address, err := startForwarding(ctx, s.env)
	if err != nil {
		return err
	}
	session, err := harness.Connect(ctx, "http://"+address+v1alpha1.EndpointPath)
	if err != nil {
		return err
	}
	return session.Close()
}

func (s *story) awaitPhase(ctx context.Context, limit time.Duration, want v1alpha1.Phase) error {
	return s.await(ctx, limit, fmt.Sprintf("waiting for phase %s", want), func(status *v1alpha1.VirtualMCPServerStatus) error {
		switch status.Phase {
		case want:
			return nil
		case "":
			return errors.New("the runtime has not reported yet")
		default:
			return fmt.Errorf("phase is %s: %s", status.Phase, status.Message)
		}
	})
}

func (s *story) awaitVerdict(ctx context.Context, limit time.Duration, backend string, want v1alpha1.BackendStatus) error {
	return s.await(ctx, limit, fmt.Sprintf("waiting for backend %s to be %s", backend, want), func(status *v1alpha1.VirtualMCPServerStatus) error {
		for _, b := range status.DiscoveredBackends {
			if b.Name == backend && b.Status != want {
				return fmt.Errorf("it is %s: %s", b.Status, b.Message)
			}
		}
		return nil
	})
}

// await waits until the status of the gateway passes a check.
func (s *story) await(ctx context.Context, limit time.Duration, what string, check func(*v1alpha1.VirtualMCPServerStatus) error) error {
	return harness.WaitFor(ctx, limit, what, func(ctx context.Context) error {
		var gateway v1alpha1.VirtualMCPServer
		if err := s.env.kubectl.GetJSON(ctx, &gateway, "--namespace", demoNamespace, "virtualmcpserver", gatewayName); err != nil {
			return err
		}
		return check(&gateway.Status)
	})
}

// showObjects prints what kubectl get says of the gateway and its backends.
func (s *story) showObjects(ctx context.Context) error {
	s.show("$ kubectl -n " + demoNamespace + " get vmcp,mcpb")
	if err := s.env.kubectl.Stream(ctx, s, "--namespace", demoNamespace, "get", "vmcp,mcpb"); err != nil {
		return err
	}
	s.show("$ kubectl -n " + demoNamespace + " get vmcp " + gatewayName + " -o jsonpath=… (discoveredBackends)")
	return s.env.kubectl.Stream(ctx, s, "--namespace", demoNamespace, "get", "vmcp", gatewayName,
		`--output=jsonpath={range .status.discoveredBackends[*]}{.name}{"\t"}{.status}{"\t"}{.reason}{"\t"}{.message}{"\n"}{end}`)
}

func (s *story) epilogue() {
	shell := ""
	if s.env.exports != "" {
		shell = fmt.Sprintf("\nUse the cluster from your shell:\n\n%s\n\nand look around:\n", indent(s.env.exports))
	}
	down := "make demo-down"
	if s.env.context != "" {
		down = "DEMO_CONTEXT=" + s.env.context + " make demo-down"
	}
	_, _ = fmt.Fprintf(s.out, `
All %d steps done in %.0f s. Everything is left running.

The gateway's MCP endpoint is http://%s%s. Connect a client, for example:

    npx @modelcontextprotocol/inspector@2.12.0 --cli --server-url http://%s%s --transport http --method tools/list

or one that reads the usual configuration file:

    {"mcpServers": {"demo": {"type": "http", "url": "http://%s%s"}}}
%s
    kubectl -n %s get vmcp,mcpb
    kubectl -n %s get vmcp %s -o yaml --show-managed-fields

When you are done: %s
`, s.steps, s.total().Seconds(),
		forwardAddress, v1alpha1.EndpointPath, forwardAddress, v1alpha1.EndpointPath, forwardAddress, v1alpha1.EndpointPath,
		shell, demoNamespace, demoNamespace, gatewayName, down)
}

// explain prints what a person needs to see why a step failed.
func (s *story) explain(ctx context.Context) {
	if s.env.kubectl.Path == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, args := range [][]string{
		{"get", "pods", "--all-namespaces", "--output=wide"},
		{"--namespace", demoNamespace, "get", "vmcp,mcpg,mcpb,deployments,services"},
		{"--namespace", demoNamespace, "get", "vmcp,mcpb", "--output=yaml"},
		{"--namespace", demoNamespace, "get", "events", "--sort-by=.lastTimestamp"},
		{"--namespace", operatorNamespace, "get", "events", "--sort-by=.lastTimestamp"},
		{"--namespace", operatorNamespace, "logs", "deployment/vmcp-operator", "--tail=60"},
		{"--namespace", demoNamespace, "logs", "--selector=" + v1alpha1.ManagedByLabel + "=" + v1alpha1.ManagedByValue,
			"--all-containers", "--prefix", "--tail=40"},
	} {
		_, _ = fmt.Fprintf(s.out, "\n--- kubectl %s\n", strings.Join(args, " "))
		if err := s.env.kubectl.Stream(ctx, s, args...); err != nil {
			s.show(err.Error())
		}
	}
}

// excerpt is the first lines of a text.
func excerpt(text string, most int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) > most {
		lines = append(lines[:most], fmt.Sprintf("… %d more lines", len(lines)-most))
	}
	for i, line := range lines {
		if runes := []rune(line); len(runes) > 140 {
			lines[i] = string(runes[:139]) + "…"
		}
	}
	return strings.Join(lines, "\n")
}

func indent(text string) string {
	return "    " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n    ")
}
