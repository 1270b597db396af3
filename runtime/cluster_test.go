// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package runtime_test

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime"
	"github.com/vmcp-dev/vmcp-operator/runtime/kube/kubetest"
)

// operand is what the operator provisions for a VirtualMCPServer, as far as the runtime notices.
type operand struct {
	client.Client
	namespace, name string
	file            string
	credentials     string // where Secrets are mounted
	api             *rest.Config
}

// provision makes the operand of a VirtualMCPServer in a namespace of its own. api has the rights of a runtime, and no other.
func provision(t *testing.T, c configv1alpha1.RuntimeConfiguration) *operand {
	t.Helper()
	o := &operand{Client: kubetest.Client(t), name: "team", file: filepath.Join(t.TempDir(), configv1alpha1.FileName)}
	o.namespace = kubetest.Namespace(t, o)
	name := v1alpha1.OperandName(o.name)
	data := marshal(t, c)
	if err := os.WriteFile(o.file, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
	o.api = kubetest.Config(t)
	o.api.Impersonate = rest.ImpersonationConfig{UserName: "runtime-of-" + o.namespace}
	meta := metav1.ObjectMeta{Namespace: o.namespace, Name: name}
	o.create(t,
		&v1alpha1.VirtualMCPServer{
			ObjectMeta: metav1.ObjectMeta{Namespace: o.namespace, Name: o.name},
			Spec:       v1alpha1.VirtualMCPServerSpec{GroupRef: v1alpha1.LocalReference{Name: c.Group}},
		},
		&corev1.ConfigMap{ObjectMeta: meta, Data: map[string]string{configv1alpha1.FileName: data}},
		&coordinationv1.Lease{ObjectMeta: meta},
		&rbacv1.Role{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{"vmcp.dev"}, Resources: []string{"virtualmcpservers"}, ResourceNames: []string{o.name}, Verbs: []string{"get", "watch"}},
			{APIGroups: []string{"vmcp.dev"}, Resources: []string{"virtualmcpservers/status"}, ResourceNames: []string{o.name}, Verbs: []string{"patch"}},
			{APIGroups: []string{""}, Resources: []string{"configmaps"}, ResourceNames: []string{name}, Verbs: []string{"get", "watch"}},
			{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, ResourceNames: []string{name}, Verbs: []string{"get", "watch", "update"}},
			{APIGroups: []string{"events.k8s.io"}, Resources: []string{"events"}, Verbs: []string{"create"}},
			{APIGroups: []string{"vmcp.dev"}, Resources: []string{"mcpbackends", "mcpexternalauthconfigs"}, Verbs: []string{"get", "list", "watch"}},
		}},
		&rbacv1.RoleBinding{
			ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name},
			Subjects: []rbacv1.Subject{{Kind: rbacv1.UserKind, Name: o.api.Impersonate.UserName}},
		})
	return o
}

func marshal(t *testing.T, c configv1alpha1.RuntimeConfiguration) string {
	t.Helper()
	data, err := configv1alpha1.Marshal(&c)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func (o *operand) create(t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, object := range objects {
		if err := o.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
}

func (o *operand) createBackend(t *testing.T, name, group string, s *mcpServer) {
	t.Helper()
	o.create(t, &v1alpha1.MCPBackend{
		ObjectMeta: metav1.ObjectMeta{Namespace: o.namespace, Name: name},
		Spec: v1alpha1.MCPBackendSpec{
			GroupRef: v1alpha1.LocalReference{Name: group}, Transport: v1alpha1.TransportStreamableHTTP,
			Remote: &v1alpha1.RemoteBackend{URL: s.url()},
		},
	})
}

func (o *operand) configure(t *testing.T, data string) {
	t.Helper()
	object := &corev1.ConfigMap{}
	if err := o.Get(t.Context(), client.ObjectKey{Namespace: o.namespace, Name: v1alpha1.OperandName(o.name)}, object); err != nil {
		t.Fatal(err)
	}
	object.Data[configv1alpha1.FileName] = data
	if err := o.Update(t.Context(), object); err != nil {
		t.Fatal(err)
	}
}

// expect waits for a status in which check finds nothing wrong.
func (o *operand) expect(t *testing.T, check func(s *v1alpha1.VirtualMCPServerStatus) string) *v1alpha1.VirtualMCPServerStatus {
	t.Helper()
	object := &v1alpha1.VirtualMCPServer{}
	kubetest.Eventually(t, func() string {
		if err := o.Get(t.Context(), client.ObjectKey{Namespace: o.namespace, Name: o.name}, object); err != nil {
			return err.Error()
		}
		if problem := check(&object.Status); problem != "" {
			return problem + "; phase is " + string(object.Status.Phase) + ": " + object.Status.Message
		}
		return ""
	})
	return &object.Status
}

func (o *operand) expectPhase(t *testing.T, want v1alpha1.Phase) *v1alpha1.VirtualMCPServerStatus {
	t.Helper()
	return o.expect(t, func(s *v1alpha1.VirtualMCPServerStatus) string {
		if s.Phase != want {
			return "want phase " + string(want)
		}
		return ""
	})
}

func (o *operand) start(t *testing.T) *started {
	t.Helper()
	return o.startPod(t, "pod-1", o.api)
}

func (o *operand) startPod(t *testing.T, pod string, api *rest.Config) *started {
	t.Helper()
	options, err := runtime.Cluster(t.Context(), runtime.ClusterOptions{
		API: api, Name: o.name, Namespace: o.namespace, PodName: pod, ConfigFile: o.file, CredentialsDir: o.credentials, Version: "v1",
		Logger: kubetest.Logger(t).With("pod", pod),
	})
	if err != nil {
		t.Fatal(err)
	}
	return start(t, options)
}

func TestCluster_ReportsWhatItServes(t *testing.T) {
	alpha, beta, gamma := startMCPServer(t, "echo"), startMCPServer(t, "echo"), startMCPServer(t, "sum")
	o := provision(t, configv1alpha1.RuntimeConfiguration{Generation: 1, Group: "team"})
	o.createBackend(t, "alpha", "team", alpha)
	o.createBackend(t, "gamma", "others", gamma)
	r := o.start(t)

	s := o.expectPhase(t, v1alpha1.PhaseReady)
	if s.Runtime.Reporter != "pod-1" || s.Runtime.Version != "v1" || s.Runtime.ObservedGeneration != 1 {
		t.Errorf("runtime is %+v", s.Runtime)
	}
	if len(s.DiscoveredBackends) != 1 || s.DiscoveredBackends[0].Name != "alpha" || *s.DiscoveredBackends[0].Tools != 1 || s.DiscoveredBackends[0].ProtocolVersion == "" {
		t.Errorf("discovered backends are %+v", s.DiscoveredBackends)
	}
	session, _ := r.connect(t)
	expectTools(t, session, soon, "alpha_echo")
	o.createBackend(t, "beta", "team", beta)
	expectTools(t, session, soon, "alpha_echo", "beta_echo")
	beta.stop()
	o.expectPhase(t, v1alpha1.PhaseDegraded)
	expectTools(t, session, soon, "alpha_echo")

	// What is wrong is refused, what is older ignored, and what is newer served.
	o.configure(t, "group: [nonsense")
	o.configure(t, marshal(t, configv1alpha1.RuntimeConfiguration{Generation: 0, Group: "nobody"}))
	o.configure(t, marshal(t, configv1alpha1.RuntimeConfiguration{Generation: 2, Group: "team", Aggregation: v1alpha1.Aggregation{
		ConflictResolution: v1alpha1.ConflictResolution{PrefixFormat: "{backend}."},
	}}))
	expectTools(t, session, soon, "alpha.echo")
	o.configure(t, marshal(t, configv1alpha1.RuntimeConfiguration{Generation: 3, Group: "others"}))
	expectTools(t, session, soon, "gamma_sum")
	o.expect(t, func(s *v1alpha1.VirtualMCPServerStatus) string {
		if s.Runtime.ObservedGeneration != 3 || s.Phase != v1alpha1.PhaseReady || len(s.DiscoveredBackends) != 1 {
			return "want generation 3 Ready with one backend"
		}
		return ""
	})
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	lease := &coordinationv1.Lease{}
	if err := o.Get(t.Context(), client.ObjectKey{Namespace: o.namespace, Name: v1alpha1.OperandName(o.name)}, lease); err != nil {
		t.Fatal(err)
	}
	if h := lease.Spec.HolderIdentity; h == nil || *h != "" {
		t.Error("the Lease was not released at the end")
	}
}

func TestCluster_ServesWithoutTheAPIServer(t *testing.T) {
	alpha := startMCPServer(t, "echo")
	o := provision(t, configv1alpha1.RuntimeConfiguration{Generation: 1, Group: "team"})
	o.createBackend(t, "alpha", "team", alpha)
	p := startProxy(t, strings.Trim(strings.TrimPrefix(o.api.Host, "https:"), "/"))
	o.api.Host = "https://" + p.address
	r := o.start(t)
	o.expectPhase(t, v1alpha1.PhaseReady)
	session, _ := r.connect(t)
	expectTools(t, session, soon, "alpha_echo")

	p.cut()
	alpha.stop()
	expectTools(t, session, soon)
	alpha.start(t)
	expectTools(t, session, soon, "alpha_echo")
	if text, err := call(t, session, "alpha_echo", "alone"); err != nil || text != "echo: alone" {
		t.Fatalf("alpha_echo answered %q, %v", text, err)
	}
	if code, _ := r.get(t, "/readyz"); code != http.StatusOK {
		t.Errorf("/readyz is %d without the API server, want 200", code)
	}
	alpha.stop()
	expectTools(t, session, soon)
	if phase := o.expect(t, func(*v1alpha1.VirtualMCPServerStatus) string { return "" }).Phase; phase != v1alpha1.PhaseReady {
		t.Fatalf("phase is %s: the API server was not out of reach", phase)
	}
	p.mend(t)
	o.expectPhase(t, v1alpha1.PhaseFailed)
}

// proxy carries TCP connections to the API server until it is cut.
type proxy struct {
	address, target string
	connections     sync.WaitGroup

	mu       sync.Mutex
	listener net.Listener
	open     []net.Conn
}

func startProxy(t *testing.T, target string) *proxy {
	t.Helper()
	p := &proxy{address: "127.0.0.1:0", target: target}
	p.mend(t)
	t.Cleanup(p.cut)
	return p
}

func (p *proxy) mend(t *testing.T) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listener, p.address = listener, listener.Addr().String()
	p.connections.Go(func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			p.connections.Go(func() { p.carry(t, from) })
		}
	})
}

func (p *proxy) carry(t *testing.T, from net.Conn) {
	to, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", p.target)
	if err != nil {
		_ = from.Close()
		return
	}
	p.mu.Lock()
	p.open = append(p.open, from, to)
	p.mu.Unlock()
	var both sync.WaitGroup
	for _, pair := range [][2]net.Conn{{from, to}, {to, from}} {
		both.Go(func() {
			_, _ = io.Copy(pair[0], pair[1])
			_ = from.Close()
			_ = to.Close()
		})
	}
	both.Wait()
}

// cut closes all connections and refuses new ones.
func (p *proxy) cut() {
	p.mu.Lock()
	_ = p.listener.Close()
	for _, c := range p.open {
		_ = c.Close()
	}
	p.open = nil
	p.mu.Unlock()
	p.connections.Wait()
}
