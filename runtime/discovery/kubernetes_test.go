// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package discovery_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/discovery"
	"github.com/vmcp-dev/vmcp-operator/runtime/kube"
	"github.com/vmcp-dev/vmcp-operator/runtime/kube/kubetest"
)

func TestMain(m *testing.M) { kubetest.Main(m) }

// found keeps what a discoverer publishes.
type found struct {
	mu    sync.Mutex
	lists [][]backend.Target
	err   error
}

func (f *found) publish(targets []backend.Target) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lists, f.err = append(f.lists, slices.Clone(targets)), nil
}

func (f *found) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *found) expect(t *testing.T, want ...string) {
	t.Helper()
	kubetest.Eventually(t, func() string {
		f.mu.Lock()
		defer f.mu.Unlock()
		switch {
		case f.err != nil:
			return "discovery failed: " + f.err.Error()
		case len(f.lists) == 0:
			return "no list was published"
		}
		var got []string
		for _, target := range f.lists[len(f.lists)-1] {
			got = append(got, target.Name+"="+target.URL)
		}
		if !slices.Equal(got, want) {
			return "backends are " + strings.Join(got, ", ")
		}
		return ""
	})
}

func (f *found) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.lists)
}

func discover(t *testing.T, clients *kube.Clients, group string) *found {
	t.Helper()
	return run(t, clients, group, v1alpha1.OutgoingAuth{})
}

func run(t *testing.T, clients *kube.Clients, group string, outgoing v1alpha1.OutgoingAuth) *found {
	t.Helper()
	f := &found{}
	d := discovery.Kubernetes(discovery.KubernetesOptions{
		Backends: clients.MCPBackends, AuthConfigs: clients.MCPExternalAuthConfigs, Secrets: clients.Secrets,
		Group: group, Auth: outgoing, Logger: kubetest.Logger(t),
	})
	kubetest.Start(t, func(ctx context.Context) {
		if err := d.Run(ctx, f.publish, f.fail); err != nil {
			t.Errorf("discovery ended with: %v", err)
		}
	})
	return f
}

func remote(namespace, name, group, url string) *v1alpha1.MCPBackend {
	return &v1alpha1.MCPBackend{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1alpha1.MCPBackendSpec{
			GroupRef: v1alpha1.LocalReference{Name: group}, Transport: v1alpha1.TransportStreamableHTTP,
			Remote: &v1alpha1.RemoteBackend{URL: url},
		},
	}
}

func TestKubernetes_FollowsTheGroup(t *testing.T) {
	c := kubetest.Client(t)
	namespace, elsewhere := kubetest.Namespace(t, c), kubetest.Namespace(t, c)
	clients := kubetest.Clients(t, namespace, "team")
	create := func(b *v1alpha1.MCPBackend) *v1alpha1.MCPBackend {
		t.Helper()
		if err := c.Create(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		return b
	}
	b := create(remote(namespace, "b", "team", "https://b.example.com/mcp"))
	create(remote(namespace, "other", "another", "https://other.example.com/mcp"))
	create(remote(elsewhere, "foreign", "team", "https://foreign.example.com/mcp"))

	f := discover(t, clients, "team")
	f.expect(t, "b=https://b.example.com/mcp")
	a := create(remote(namespace, "a", "team", "https://a.example.com/mcp"))
	f.expect(t, "a=https://a.example.com/mcp", "b=https://b.example.com/mcp")

	lists := f.count()
	b.Labels = map[string]string{"team": "blue"}
	if err := c.Update(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	b.Spec.Remote.URL = "https://b.example.com/v2"
	if err := c.Update(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	f.expect(t, "a=https://a.example.com/mcp", "b=https://b.example.com/v2")
	if got := f.count() - lists; got != 1 {
		t.Errorf("%d lists were published for a change of labels and one of the URL, want 1", got)
	}

	if err := c.Delete(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	f.expect(t, "b=https://b.example.com/v2")
	b.Spec.GroupRef.Name = "another"
	if err := c.Update(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	f.expect(t)
}

func TestKubernetes_SaysThatARightIsMissing(t *testing.T) {
	c := kubetest.Client(t)
	namespace := kubetest.Namespace(t, c)
	if err := c.Create(t.Context(), remote(namespace, "a", "team", "https://a.example.com/mcp")); err != nil {
		t.Fatal(err)
	}
	config := kubetest.Config(t)
	config.Impersonate = rest.ImpersonationConfig{UserName: "runtime-of-" + namespace}
	clients, err := kube.New(config, namespace, "team")
	if err != nil {
		t.Fatal(err)
	}
	f := discover(t, clients, "team")
	kubetest.Eventually(t, func() string {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.err == nil || !strings.Contains(f.err.Error(), "forbidden") {
			return "the missing right was not told"
		}
		return ""
	})
	for _, object := range []client.Object{
		&rbacv1.Role{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "runtime"},
			Rules:      []rbacv1.PolicyRule{{APIGroups: []string{"vmcp.dev"}, Resources: []string{"mcpbackends"}, Verbs: []string{"get", "list", "watch"}}},
		},
		&rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "runtime"},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "runtime"},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, Name: config.Impersonate.UserName}},
		},
	} {
		if err := c.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	f.expect(t, "a=https://a.example.com/mcp")
}
