// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package runtime_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
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

// count says how many requests came with a value.
func (g *guard) count(value string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.got[value]
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

// recording keeps the paths of the requests to the API server.
type recording struct {
	http.RoundTripper
	mu    *sync.Mutex
	paths *[]string
}

func (r recording) RoundTrip(request *http.Request) (*http.Response, error) {
	r.mu.Lock()
	*r.paths = append(*r.paths, request.URL.Path)
	r.mu.Unlock()
	return r.RoundTripper.RoundTrip(request)
}

func TestAuth_StaticMode(t *testing.T) {
	locked, guard := startGuarded(t, "Bearer one", "echo")
	never, neverGuard := startGuarded(t, "Bearer one", "echo")
	open := startMCPServer(t, "echo")
	credentials := t.TempDir()
	mount := func(secret, value string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(credentials, secret), 0o700); err != nil {
			t.Fatal(err)
		}
		if value == "" {
			return
		}
		next := filepath.Join(credentials, secret, "..next") // as with the kubelet, no file is ever half written
		if err := os.WriteFile(next, []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, filepath.Join(credentials, secret, "value")); err != nil {
			t.Fatal(err)
		}
	}
	mount("token", "Bearer one\n")
	mount("absent", "")
	entry := func(name string, s *mcpServer, secret string) configv1alpha1.Backend {
		b := configv1alpha1.Backend{
			Kind: v1alpha1.KindMCPBackend, Name: name, Source: v1alpha1.BackendSourceRemote, URL: s.url(),
			Transport: v1alpha1.TransportStreamableHTTP, DeclaredTransport: v1alpha1.TransportStreamableHTTP,
		}
		if secret != "" {
			b.Auth = &configv1alpha1.Auth{ConfigRef: v1alpha1.LocalReference{Name: secret}, Spec: headerInjection(secret)}
		}
		return b
	}
	refused := entry("refused", never, "")
	refused.Auth = &configv1alpha1.Auth{ConfigRef: v1alpha1.LocalReference{Name: "gone"}}
	refused.Refused = &configv1alpha1.Refusal{
		Status: v1alpha1.BackendUnauthenticated, Reason: v1alpha1.ReasonAuthConfigNotFound, Message: "create it",
	}
	static := func(generation int64, backends ...configv1alpha1.Backend) configv1alpha1.RuntimeConfiguration {
		return configv1alpha1.RuntimeConfiguration{
			Generation: generation, Group: "team", Source: v1alpha1.OutgoingAuthSourceInline, Backends: backends,
		}
	}
	o := provision(t, static(1, entry("locked", locked, "token"), entry("lost", never, "absent"), entry("open", open, ""), refused))
	o.credentials = credentials
	var (
		mu    sync.Mutex
		paths []string
	)
	o.api.Wrap(func(next http.RoundTripper) http.RoundTripper { return recording{next, &mu, &paths} })
	r := o.start(t)
	session, _ := r.connect(t)
	expectTools(t, session, soon, "locked_echo", "open_echo")
	o.entry(t, "locked", func(b v1alpha1.DiscoveredBackend) string {
		switch {
		case b.Status != v1alpha1.BackendReady:
			return "want it ready"
		case b.URL != "" || b.Source != "" || b.Transport != "" || b.AuthType != "" || b.AuthConfigRef != nil:
			return "the runtime says what the operator is to say"
		}
		return ""
	})
	o.entry(t, "lost", hasReason(v1alpha1.BackendUnauthenticated, v1alpha1.ReasonSecretNotFound))
	o.entry(t, "refused", hasReason(v1alpha1.BackendUnauthenticated, v1alpha1.ReasonAuthConfigNotFound))
	if got := neverGuard.values(); len(got) != 0 {
		t.Errorf("a backend without its credentials was called with %q", got)
	}

	// The kubelet brings a new value.
	guard.accept("Bearer two")
	mount("token", "Bearer two")
	eventually(t, soon, func() string {
		if !slices.Contains(guard.values(), "Bearer two") {
			return "the new value was not used"
		}
		return ""
	})
	if text, err := call(t, session, "locked_echo", "x"); err != nil || text != "echo: x" {
		t.Fatalf("locked_echo answered %q, %v", text, err)
	}

	// What this pod was not rolled for it leaves to its successor: another mode, and a Secret that is not mounted here.
	o.configure(t, marshal(t, configv1alpha1.RuntimeConfiguration{Generation: 2, Group: "team", Source: v1alpha1.OutgoingAuthSourceDiscovered}))
	o.configure(t, marshal(t, static(3, entry("late", open, "unmounted"))))
	// Of the same generation the newer rendering counts: backends come and go without a change of the VirtualMCPServer.
	o.configure(t, marshal(t, static(1, entry("second", open, ""))))
	expectTools(t, session, soon, "second_echo")
	o.expect(t, func(s *v1alpha1.VirtualMCPServerStatus) string {
		if s.Runtime.ObservedGeneration != 1 || len(s.DiscoveredBackends) != 1 {
			return "want one backend and generation 1"
		}
		return ""
	})
	o.configure(t, marshal(t, static(1)))
	expectTools(t, session, soon)
	o.expect(t, func(s *v1alpha1.VirtualMCPServerStatus) string {
		if s.Phase != v1alpha1.PhaseDegraded || len(s.DiscoveredBackends) != 0 {
			return "want it Degraded without backends"
		}
		return ""
	})

	mu.Lock()
	defer mu.Unlock()
	for _, path := range paths {
		for _, not := range []string{"/mcpbackends", "/mcpexternalauthconfigs", "/secrets"} {
			if strings.Contains(path, not) {
				t.Errorf("the runtime asked for %s", path)
			}
		}
	}
	if len(paths) == 0 {
		t.Error("no request was seen")
	}
}
