// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package runtime_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// guard lets requests with one value of Authorization pass, and counts all of them by value.
type guard struct {
	mu    sync.Mutex
	value string
	got   map[string]int
}

func (g *guard) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		value := strings.Join(r.Header.Values("Authorization"), ", ")
		g.mu.Lock()
		g.got[value]++
		want := g.value
		g.mu.Unlock()
		if value != want {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (g *guard) accept(value string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.value = value
}

// values are those that requests came with.
func (g *guard) values() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var values []string
	for value := range g.got {
		values = append(values, value)
	}
	slices.Sort(values)
	return values
}

// startGuarded serves tools to those who send a value of Authorization.
func startGuarded(t *testing.T, value string, tools ...string) (*mcpServer, *guard) {
	t.Helper()
	g := &guard{value: value, got: map[string]int{}}
	s := &mcpServer{address: "127.0.0.1:0", tools: tools, wrap: g.wrap}
	s.start(t)
	return s, g
}

func headerInjection(secret string) v1alpha1.MCPExternalAuthConfigSpec {
	return v1alpha1.MCPExternalAuthConfigSpec{
		Type: v1alpha1.ExternalAuthTypeHeaderInjection,
		HeaderInjection: &v1alpha1.HeaderInjection{
			HeaderName: "Authorization", SecretRef: v1alpha1.SecretKeyReference{Name: secret, Key: "value"},
		},
	}
}

// entry waits for an entry of status.discoveredBackends in which check finds nothing wrong.
func (o *operand) entry(t *testing.T, name string, check func(v1alpha1.DiscoveredBackend) string) {
	t.Helper()
	o.expect(t, func(s *v1alpha1.VirtualMCPServerStatus) string {
		i := slices.IndexFunc(s.DiscoveredBackends, func(b v1alpha1.DiscoveredBackend) bool { return b.Name == name })
		if i < 0 {
			return "there is no entry of " + name
		}
		if problem := check(s.DiscoveredBackends[i]); problem != "" {
			return fmt.Sprintf("%s: entry is %+v", problem, s.DiscoveredBackends[i])
		}
		return ""
	})
}

func hasReason(status v1alpha1.BackendStatus, reason string) func(v1alpha1.DiscoveredBackend) string {
	return func(b v1alpha1.DiscoveredBackend) string {
		if b.Status != status || b.Reason != reason {
			return fmt.Sprintf("want %s %s", status, reason)
		}
		return ""
	}
}

// callerHeader puts a client's own credentials on its requests to the gateway.
type callerHeader struct{ http.RoundTripper }

func (c callerHeader) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer of-the-caller")
	return c.RoundTripper.RoundTrip(r)
}

func TestAuth_DynamicMode(t *testing.T) {
	locked, guard := startGuarded(t, "Bearer one", "echo")
	open := startMCPServer(t, "echo")
	using := func(config string) configv1alpha1.RuntimeConfiguration {
		return configv1alpha1.RuntimeConfiguration{Generation: 1, Group: "team", BackendAuths: []v1alpha1.BackendAuth{
			{Name: "locked", ExternalAuthConfigRef: v1alpha1.LocalReference{Name: config}},
		}}
	}
	o := provision(t, using("token"))
	o.createBackend(t, "locked", "team", locked)
	o.createBackend(t, "open", "team", open)
	r := o.start(t)

	o.entry(t, "locked", hasReason(v1alpha1.BackendUnauthenticated, v1alpha1.ReasonAuthConfigNotFound))
	r.http.Transport = callerHeader{r.http.Transport}
	session, _ := r.connect(t)
	expectTools(t, session, soon, "open_echo")

	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: o.namespace, Name: "token-value", Labels: map[string]string{v1alpha1.CredentialLabel: "true"}},
		Data:       map[string][]byte{"value": []byte("Bearer one\n")},
	}
	meta := metav1.ObjectMeta{Namespace: o.namespace, Name: v1alpha1.AuthRoleName("token")}
	o.create(t, secret,
		&v1alpha1.MCPExternalAuthConfig{ObjectMeta: metav1.ObjectMeta{Namespace: o.namespace, Name: "token"}, Spec: headerInjection(secret.Name)},
		&rbacv1.Role{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{"secrets"}, ResourceNames: []string{secret.Name}, Verbs: []string{"get", "watch"}},
		}},
		&rbacv1.RoleBinding{
			ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: meta.Name},
			Subjects: []rbacv1.Subject{{Kind: rbacv1.UserKind, Name: o.api.Impersonate.UserName}},
		})
	o.entry(t, "locked", func(b v1alpha1.DiscoveredBackend) string {
		if b.Status != v1alpha1.BackendReady || b.AuthType != v1alpha1.ExternalAuthTypeHeaderInjection || b.AuthConfigRef == nil || b.AuthConfigRef.Name != "token" {
			return "want it ready, with its credentials"
		}
		return ""
	})
	expectTools(t, session, soon, "locked_echo", "open_echo")
	expectCall := func(session *mcp.ClientSession) {
		t.Helper()
		if text, err := call(t, session, "locked_echo", "x"); err != nil || text != "echo: x" {
			t.Fatalf("locked_echo answered %q, %v", text, err)
		}
	}
	expectCall(session)

	// The server takes the new value only; the Secret brings it without a restart of anything.
	guard.accept("Bearer two")
	secret.Data["value"] = []byte("Bearer two")
	if err := o.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	eventually(t, soon, func() string {
		if !slices.Contains(guard.values(), "Bearer two") {
			return "the new value was not used"
		}
		return ""
	})
	expectCall(session)

	// The server refuses what it took before.
	guard.accept("Bearer three")
	o.entry(t, "locked", func(b v1alpha1.DiscoveredBackend) string {
		if b.Status != v1alpha1.BackendUnauthenticated || b.Reason != v1alpha1.ReasonUnauthorized || !strings.Contains(b.Message, `"token"`) {
			return "want it unauthenticated by the backend"
		}
		return ""
	})
	secret.Labels = nil
	if err := o.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	o.entry(t, "locked", hasReason(v1alpha1.BackendUnauthenticated, v1alpha1.ReasonSecretNotAllowed))
	expectTools(t, session, soon, "open_echo")

	// The gateway chooses other credentials.
	o.configure(t, marshal(t, using("another")))
	o.entry(t, "locked", hasReason(v1alpha1.BackendUnauthenticated, v1alpha1.ReasonAuthConfigNotFound))

	if got, want := guard.values(), []string{"Bearer one", "Bearer two"}; !slices.Equal(got, want) {
		t.Errorf("the backend got %q, want %q: nothing of the caller's, and nothing without credentials", got, want)
	}
}
