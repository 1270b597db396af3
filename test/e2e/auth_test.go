//go:build e2e

// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/test/harness"
)

// authLimit is how long a change of credentials may take: the operator looks at a Secret that it found wanting every 10 s.
const authLimit = 30 * time.Second

// locked is a gateway before two servers, one of which wants a token; and what that server knows of tokens, which nobody else may
// read.
const locked = `
apiVersion: v1
kind: Secret
metadata: {name: locked-server}
stringData: {alice: token-of-alice, bob: token-of-bob}
---
{apiVersion: vmcp.dev/v1alpha1, kind: MCPGroup, metadata: {name: locked}}
---
apiVersion: vmcp.dev/v1alpha1
kind: MCPBackend
metadata: {name: token}
spec: {groupRef: {name: locked}, service: {name: locked, port: 80}}
---
apiVersion: vmcp.dev/v1alpha1
kind: MCPBackend
metadata: {name: open}
spec: {groupRef: {name: locked}, service: {name: everything, port: 80}}
---
apiVersion: vmcp.dev/v1alpha1
kind: VirtualMCPServer
metadata: {name: locked}
spec: {groupRef: {name: locked}, outgoingAuth: {source: SOURCE}}
`

// TestOutgoingAuth follows a backend that wants a token from "no credentials" to "another user's", in both modes. All the while the
// backend beside it is served.
func TestOutgoingAuth(t *testing.T) {
	for _, source := range []v1alpha1.OutgoingAuthSource{v1alpha1.OutgoingAuthSourceDiscovered, v1alpha1.OutgoingAuthSourceInline} {
		t.Run(string(source), func(t *testing.T) { outgoingAuth(t, source) })
	}
}

func outgoingAuth(t *testing.T, source v1alpha1.OutgoingAuthSource) {
	apply(t, tokenServer("locked", "locked-server").manifests(t)+strings.ReplaceAll(locked, "SOURCE", string(source)))
	awaitBackend(t, "token", startLimit, v1alpha1.BackendUnauthenticated, v1alpha1.ReasonUnauthorized)
	awaitBackend(t, "open", startLimit, v1alpha1.BackendReady, "")
	awaitPhase(t, "locked", changeLimit, v1alpha1.PhaseDegraded)

	must(t, "patch", "mcpbackend", "token", "--type=merge", "--patch", `{"spec":{"externalAuthConfigRef":{"name":"locked"}}}`)
	awaitBackend(t, "token", authLimit, v1alpha1.BackendUnauthenticated, v1alpha1.ReasonAuthConfigNotFound)

	apply(t, `
apiVersion: vmcp.dev/v1alpha1
kind: MCPExternalAuthConfig
metadata: {name: locked}
spec: {type: headerInjection, headerInjection: {headerName: Authorization, secretRef: {name: locked, key: value}}}
`)
	awaitBackend(t, "token", authLimit, v1alpha1.BackendUnauthenticated, v1alpha1.ReasonSecretNotFound)

	apply(t, `{apiVersion: v1, kind: Secret, metadata: {name: locked}, stringData: {value: Bearer token-of-alice}}`)
	awaitBackend(t, "token", authLimit, v1alpha1.BackendUnauthenticated, v1alpha1.ReasonSecretNotAllowed)
	if s := awaitBackend(t, "open", authLimit, v1alpha1.BackendReady, ""); s.Status.Phase != v1alpha1.PhaseDegraded {
		t.Errorf("phase is %s while one of two backends is served", s.Status.Phase)
	}

	must(t, "label", "secret", "locked", v1alpha1.CredentialLabel+"=true")
	// In static mode the pods roll to mount the Secret.
	s := awaitBackend(t, "token", startLimit, v1alpha1.BackendReady, "")
	b, _ := entry(s, "token")
	if b.AuthType != v1alpha1.ExternalAuthTypeHeaderInjection || b.AuthConfigRef == nil || b.AuthConfigRef.Name != "locked" {
		t.Errorf("the authentication is reported as %q by %v", b.AuthType, b.AuthConfigRef)
	}
	awaitPhase(t, "locked", startLimit, v1alpha1.PhaseReady)
	awaitWhoami(t, "alice", authLimit)

	secretRights(t, source)

	must(t, "patch", "secret", "locked", "--type=merge", "--patch", `{"stringData":{"value":"Bearer token-of-bob"}}`)
	// In static mode the kubelet brings the new value into the pod, within its sync period and the life of its cache.
	awaitWhoami(t, "bob", 2*time.Minute)

	must(t, "patch", "secret", "locked", "--type=merge", "--patch", `{"stringData":{"value":"Bearer of-nobody"}}`)
	awaitBackend(t, "token", 2*time.Minute, v1alpha1.BackendUnauthenticated, v1alpha1.ReasonUnauthorized)
}

// secretRights asks the API server what the runtime may do with Secrets: watch the one that it needs, or in static mode none.
func secretRights(t *testing.T, source v1alpha1.OutgoingAuthSource) {
	t.Helper()
	needed := "yes"
	if source == v1alpha1.OutgoingAuthSourceInline {
		needed = "no"
	}
	for question, want := range map[string]string{
		"get secrets/locked":                                  needed,
		"watch secrets/locked":                                needed,
		"list secrets/locked":                                 "no",
		"get secrets/locked-server":                           "no",
		"list secrets":                                        "no",
		"watch secrets":                                       "no",
		"update secrets/locked":                               "no",
		"list mcpbackends.vmcp.dev":                           needed,
		"list mcpexternalauthconfigs.vmcp.dev":                needed,
		"patch virtualmcpservers/locked --subresource=status": "yes",
		"patch virtualmcpservers/demo --subresource=status":   "no",
	} {
		eventually(t, authLimit, question, func(ctx context.Context) error {
			if got := canI(ctx, "locked", question); got != want {
				return fmt.Errorf("can-i says %q, want %q", got, want)
			}
			return nil
		})
	}
}

func canI(ctx context.Context, name, question string) string {
	account := "system:serviceaccount:" + namespace + ":" + v1alpha1.OperandName(name)
	out, _ := kubectl.Run(ctx, append([]string{"--namespace", namespace, "auth", "can-i", "--as", account}, strings.Fields(question)...)...)
	return strings.TrimSpace(out) // kubectl ends with 1 to say no
}

// entry is the entry of a backend of the gateway "locked".
func entry(s *v1alpha1.VirtualMCPServer, name string) (v1alpha1.DiscoveredBackend, error) {
	return verdict(s, name)
}

func awaitBackend(t *testing.T, name string, limit time.Duration, status v1alpha1.BackendStatus, reason string) *v1alpha1.VirtualMCPServer {
	t.Helper()
	var found *v1alpha1.VirtualMCPServer
	eventually(t, limit, fmt.Sprintf("waiting for %s to be %s %s", name, status, reason), func(ctx context.Context) error {
		s, err := getGateway(ctx, "locked")
		if err != nil {
			return err
		}
		b, err := entry(s, name)
		if err != nil {
			return err
		}
		if b.Status != status || reason != "" && b.Reason != reason {
			return fmt.Errorf("it is %s, %s: %s", b.Status, b.Reason, b.Message)
		}
		if strings.Contains(b.Message, "token-of-") {
			t.Errorf("the message holds a credential: %s", b.Message)
		}
		found = s
		return nil
	})
	return found
}

// awaitWhoami waits until calls through the gateway come with the token of a user.
func awaitWhoami(t *testing.T, user string, limit time.Duration) {
	t.Helper()
	endpoint := clusterEndpoint(t, "locked")
	eventually(t, limit, "waiting for calls to come from "+user, func(ctx context.Context) error {
		session, err := harness.Connect(ctx, endpoint)
		if err != nil {
			return err
		}
		defer func() { _ = session.Close() }()
		text, err := harness.CallText(ctx, session, "token_whoami", nil)
		if err == nil && text != user {
			err = fmt.Errorf("they come from %s", text)
		}
		return err
	})
}

// clusterEndpoint is the address of a gateway's Service, which this machine reaches because it is the node.
func clusterEndpoint(t *testing.T, name string) string {
	t.Helper()
	ip := must(t, "get", "service", v1alpha1.OperandName(name), "--output=jsonpath={.spec.clusterIP}")
	return "http://" + ip + v1alpha1.EndpointPath
}

// TestModeSwitch switches a gateway that is in use between the modes, there and back.
func TestModeSwitch(t *testing.T) {
	apply(t, tokenServer("locked", "locked-server").manifests(t)+strings.ReplaceAll(locked, "SOURCE", string(v1alpha1.OutgoingAuthSourceDiscovered)))
	apply(t, `
apiVersion: v1
kind: Secret
metadata: {name: locked, labels: {vmcp.dev/credential: "true"}}
stringData: {value: Bearer token-of-alice}
---
apiVersion: vmcp.dev/v1alpha1
kind: MCPExternalAuthConfig
metadata: {name: locked}
spec: {type: headerInjection, headerInjection: {headerName: Authorization, secretRef: {name: locked, key: value}}}
`)
	must(t, "patch", "mcpbackend", "token", "--type=merge", "--patch", `{"spec":{"externalAuthConfigRef":{"name":"locked"}}}`)
	awaitPhase(t, "locked", startLimit, v1alpha1.PhaseReady)
	// The runtime is ready before the Service routes to its pod: until then nobody answers, or the pod of an object of the same name that
	// was just deleted does.
	awaitWhoami(t, "alice", startLimit)

	calls := callInALoop(t, clusterEndpoint(t, "locked"))
	for _, source := range []v1alpha1.OutgoingAuthSource{v1alpha1.OutgoingAuthSourceInline, v1alpha1.OutgoingAuthSourceDiscovered} {
		must(t, "patch", "virtualmcpserver", "locked", "--type=merge", "--patch", fmt.Sprintf(`{"spec":{"outgoingAuth":{"source":%q}}}`, source))
		eventually(t, startLimit, "waiting for the switch to "+string(source), func(ctx context.Context) error { return switched(ctx, source) })
		secretRights(t, source)
	}
	made, reconnected, gaps := calls()
	t.Logf("%d calls, %d new sessions", made, reconnected)
	for _, gap := range gaps {
		t.Errorf("a call failed in a new session, too: %v", gap)
	}
	if made < 100 {
		t.Errorf("only %d calls were made, too few to see a gap", made)
	}
}

// switched says what is missing until a gateway is wholly in a mode: the generation is served by all pods, and the backends'
// fields have the one owner that the mode gives them.
func switched(ctx context.Context, source v1alpha1.OutgoingAuthSource) error {
	s, err := getGateway(ctx, "locked")
	if err != nil {
		return err
	}
	switch {
	case s.Status.ObservedGeneration != s.Generation:
		return fmt.Errorf("observedGeneration is %d of %d", s.Status.ObservedGeneration, s.Generation)
	case s.Status.Phase != v1alpha1.PhaseReady:
		return fmt.Errorf("phase is %s: %s", s.Status.Phase, s.Status.Message)
	}
	owners, err := statusOwners(s)
	if err != nil {
		return err
	}
	want := v1alpha1.RuntimeFieldManager
	if source == v1alpha1.OutgoingAuthSourceInline {
		want = v1alpha1.OperatorFieldManager
	}
	for _, backend := range []string{"open", "token"} {
		for _, field := range []string{"source", "url", "transport"} {
			if got := owners(backend, field); got != want {
				return fmt.Errorf("%s of %s is owned by %q, want %s", field, backend, got, want)
			}
		}
		for _, field := range []string{"status", "tools"} {
			if got := owners(backend, field); got != v1alpha1.RuntimeFieldManager {
				return fmt.Errorf("%s of %s is owned by %q", field, backend, got)
			}
		}
	}
	return nil
}

// callInALoop calls a tool without a pause until the returned function is called. A call that fails is made once more in a new session;
// if that fails too, it is a gap.
func callInALoop(t *testing.T, endpoint string) func() (made, reconnected int, gaps []error) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	var (
		made, reconnected int
		gaps              []error
		done              = make(chan struct{})
		session           *mcp.ClientSession
	)
	call := func(limit time.Duration) (err error) {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		if session == nil {
			reconnected++
			if session, err = harness.Connect(ctx, endpoint); err != nil {
				session = nil
				return err
			}
		}
		_, err = harness.CallText(ctx, session, "token_whoami", nil)
		return err
	}
	go func() {
		defer close(done)
		pace := time.NewTicker(20 * time.Millisecond)
		defer pace.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-pace.C:
			}
			made++
			if call(5*time.Second) == nil {
				continue
			}
			_ = closeSession(&session)
			if err := call(5 * time.Second); err != nil && ctx.Err() == nil {
				gaps = append(gaps, fmt.Errorf("%s: %w", time.Now().Format(time.TimeOnly), err))
				_ = closeSession(&session)
			}
		}
	}()
	return func() (int, int, []error) {
		stop()
		<-done
		_ = closeSession(&session)
		return made, reconnected, gaps
	}
}

func closeSession(session **mcp.ClientSession) error {
	if *session == nil {
		return nil
	}
	closing := *session
	*session = nil
	return closing.Close()
}
