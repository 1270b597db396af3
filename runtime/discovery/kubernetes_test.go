// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package discovery_test

import (
	"context"
	"fmt"
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

func (f *found) publish(finding discovery.Finding) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = finding.Problem
	if finding.Complete {
		f.lists = append(f.lists, slices.Clone(finding.Targets))
	}
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

// expectProblem waits for a problem of which all parts are told.
func (f *found) expectProblem(t *testing.T, parts ...string) {
	t.Helper()
	kubetest.Eventually(t, func() string {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, part := range parts {
			if f.err == nil || !strings.Contains(f.err.Error(), part) {
				return fmt.Sprintf("the problem is %v", f.err)
			}
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
	return runWith(t, discovery.KubernetesOptions{Clients: clients, Group: group, Auth: outgoing})
}

func runWith(t *testing.T, o discovery.KubernetesOptions) *found {
	t.Helper()
	o.Logger = kubetest.Logger(t)
	f, d := &found{}, discovery.Kubernetes(o)
	kubetest.Start(t, func(ctx context.Context) {
		if err := d.Run(ctx, f.publish); err != nil {
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
	clients, grant := stranger(t, c, namespace)
	f := discover(t, clients, "team")
	f.expectProblem(t, "MCPBackends", "forbidden")
	grant("vmcp.dev", "mcpbackends")
	f.expect(t, "a=https://a.example.com/mcp")
}

// stranger makes the clients of a runtime without any rights, and what gives it one to a resource.
func stranger(t *testing.T, c client.Client, namespace string) (clients *kube.Clients, grant func(group, resource string)) {
	t.Helper()
	config := kubetest.Config(t)
	config.Impersonate = rest.ImpersonationConfig{UserName: "runtime-of-" + namespace}
	clients, err := kube.New(config, namespace, "team")
	if err != nil {
		t.Fatal(err)
	}
	return clients, func(group, resource string) {
		t.Helper()
		for _, object := range []client.Object{
			&rbacv1.Role{
				ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: resource},
				Rules:      []rbacv1.PolicyRule{{APIGroups: []string{group}, Resources: []string{resource}, Verbs: []string{"get", "list", "watch"}}},
			},
			&rbacv1.RoleBinding{
				ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: resource},
				RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: resource},
				Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, Name: config.Impersonate.UserName}},
			},
		} {
			if err := c.Create(t.Context(), object); err != nil {
				t.Fatal(err)
			}
		}
	}
}
