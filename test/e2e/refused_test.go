//go:build e2e

// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// credentialsWithin is within what time new credentials are used and a backend that accepts them is reported.
const credentialsWithin = 10 * time.Second

// refused is a group of a server that wants a token, which comes wrong from one backend and not at all from the other.
const refused = `
apiVersion: v1
kind: Secret
metadata: {name: refused-server}
stringData: {alice: token-of-alice}
---
apiVersion: v1
kind: Secret
metadata: {name: refused, labels: {vmcp.dev/credential: "true"}}
stringData: {value: Bearer of-nobody}
---
apiVersion: vmcp.dev/v1alpha1
kind: MCPExternalAuthConfig
metadata: {name: refused}
spec: {type: headerInjection, headerInjection: {headerName: Authorization, secretRef: {name: refused, key: value}}}
`

// TestRefusedCredentials puts a gateway before a server that wants a token, by a backend with a wrong one and a backend with none. Both are
// told apart from what is dead, nobody says Ready, and what is put right is used without a restart.
func TestRefusedCredentials(t *testing.T) {
	t.Parallel()
	apply(t, refused)
	tokenServer("refused", "refused-server").start(t)
	x := over(t, "refused", v1alpha1.PhaseFailed,
		member{"refused-wrong", "refused", 80}, member{"refused-none", "refused", 80})
	began := time.Now()
	must(t, "patch", "mcpbackend", "refused-wrong", "--type=merge", "--patch", `{"spec":{"externalAuthConfigRef":{"name":"refused"}}}`)
	said := x.await(t, began, startLimit, "both to be unauthenticated", func(s *v1alpha1.VirtualMCPServer) error {
		b, err := verdict(s, "refused-wrong")
		if err != nil || b.AuthConfigRef == nil {
			return fmt.Errorf("refused-wrong is reported without its credentials: %+v, %w", b, err)
		}
		return unauthenticated(s, "refused-wrong", "refused-none")
	})
	for _, b := range said.Object.Status.DiscoveredBackends {
		t.Logf("%s: %s, %s: %s", b.Name, b.Status, b.Reason, b.Message)
	}
	t.Logf("phase %s: %s", said.Object.Status.Phase, said.Object.Status.Message)

	edited := time.Now()
	must(t, "patch", "secret", "refused", "--type=merge", "--patch", `{"stringData":{"value":"Bearer token-of-alice"}}`)
	right := x.await(t, edited, startLimit, "the right token to be used", func(s *v1alpha1.VirtualMCPServer) error {
		if b, err := verdict(s, "refused-wrong"); err != nil || b.Status != v1alpha1.BackendReady {
			return fmt.Errorf("refused-wrong is reported as %+v, %w", b, err)
		}
		return unauthenticated(s, "refused-none")
	})
	measure(t, "Secret put right", "the backend is ready", credentialsWithin, right.At.Sub(edited))
	if phase := right.Object.Status.Phase; phase != v1alpha1.PhaseDegraded {
		t.Errorf("phase is %s while one of two backends has no credentials, want Degraded", phase)
	}

	attached := time.Now()
	must(t, "patch", "mcpbackend", "refused-none", "--type=merge", "--patch", `{"spec":{"externalAuthConfigRef":{"name":"refused"}}}`)
	ready := x.await(t, attached, startLimit, "phase Ready", rolledOut)
	measure(t, "credentials attached", "the phase is Ready", credentialsWithin, ready.At.Sub(attached))

	edited = time.Now()
	must(t, "patch", "secret", "refused", "--type=merge", "--patch", `{"stringData":{"value":"Bearer of-nobody"}}`)
	wrong := x.await(t, edited, startLimit, "both to be unauthenticated again", func(s *v1alpha1.VirtualMCPServer) error {
		return unauthenticated(s, "refused-wrong", "refused-none")
	})
	measure(t, "Secret made wrong", "the backends are unauthenticated", credentialsWithin, wrong.At.Sub(edited))
}

// unauthenticated says that backends were refused, that the status says what for, and that the phase is not Ready.
func unauthenticated(s *v1alpha1.VirtualMCPServer, names ...string) error {
	for _, name := range names {
		b, err := verdict(s, name)
		if err != nil {
			return err
		}
		if b.Status != v1alpha1.BackendUnauthenticated || b.Reason != v1alpha1.ReasonUnauthorized || b.Message == "" {
			return fmt.Errorf("%s is reported as %+v", name, b)
		}
	}
	if s.Status.Phase == v1alpha1.PhaseReady {
		return fmt.Errorf("phase is Ready beside %v", names)
	}
	return nil
}
