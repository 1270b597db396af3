// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package discovery_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/internal/mcpservertest"
	"github.com/vmcp-dev/vmcp-operator/runtime/discovery"
	"github.com/vmcp-dev/vmcp-operator/runtime/kube/kubetest"
)

var labelled = v1alpha1.GroupDiscovery{Services: v1alpha1.DiscoveryLabelled, MCPServers: v1alpha1.DiscoveryLabelled}

func service(namespace, name, group string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{v1alpha1.GroupLabel: group}},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
	}
}

func TestKubernetes_FindsServices(t *testing.T) {
	c := kubetest.Client(t)
	namespace := kubetest.Namespace(t, c)
	create := func(objects ...client.Object) {
		t.Helper()
		for _, o := range objects {
			if err := c.Create(t.Context(), o); err != nil {
				t.Fatal(err)
			}
		}
	}
	wiki := service(namespace, "wiki", "team")
	create(remote(namespace, "docs", "team", "https://docs.example.com/mcp"), wiki, service(namespace, "other", "another"))
	clients := kubetest.Clients(t, namespace, "team")

	closed := discover(t, clients, "team")
	closed.expect(t, "docs=https://docs.example.com/mcp")
	open := runWith(t, discovery.KubernetesOptions{Clients: clients, Group: "team", Discovery: v1alpha1.GroupDiscovery{Services: v1alpha1.DiscoveryLabelled}})
	open.expect(t, "docs=https://docs.example.com/mcp", "wiki=http://wiki."+namespace+".svc/mcp")

	wiki.Annotations = map[string]string{v1alpha1.PathAnnotation: "/v2"}
	if err := c.Update(t.Context(), wiki); err != nil {
		t.Fatal(err)
	}
	open.expect(t, "docs=https://docs.example.com/mcp", "wiki=http://wiki."+namespace+".svc/v2")
	wiki.Labels = nil
	if err := c.Update(t.Context(), wiki); err != nil {
		t.Fatal(err)
	}
	open.expect(t, "docs=https://docs.example.com/mcp")
	if n := closed.count(); n != 1 {
		t.Errorf("a group that takes no Services was published %d times", n)
	}
}

// The kind may be installed while gateways run, and go.
func TestKubernetes_FindsMCPServers(t *testing.T) {
	config := kubetest.OwnServer(t, func(map[string]any) {})
	c := kubetest.ClientOf(t, config)
	namespace := kubetest.Namespace(t, c)
	if err := c.Create(t.Context(), remote(namespace, "docs", "team", "https://docs.example.com/mcp")); err != nil {
		t.Fatal(err)
	}
	clients := kubetest.ClientsOf(t, config, namespace, "team")
	clients.MCPServers.Interval = 100 * time.Millisecond
	f := runWith(t, discovery.KubernetesOptions{Clients: clients, Group: "team", Discovery: labelled})
	f.expect(t, "docs=https://docs.example.com/mcp")

	crd := mcpservertest.CRD()
	if err := c.Create(t.Context(), crd); err != nil {
		t.Fatal(err)
	}
	kubetest.Eventually(t, func() string {
		for _, o := range []client.Object{mcpservertest.New(namespace, "files", "team", 8080), mcpservertest.New(namespace, "other", "another", 8080)} {
			if err := client.IgnoreAlreadyExists(c.Create(t.Context(), o)); err != nil {
				return err.Error() // the kind is not served yet
			}
		}
		return ""
	})
	f.expect(t, "docs=https://docs.example.com/mcp", "files=http://files."+namespace+".svc:8080/mcp")
	if err := c.Delete(t.Context(), crd); err != nil {
		t.Fatal(err)
	}
	f.expect(t, "docs=https://docs.example.com/mcp")
}

// A right that is missing for one kind is told, and keeps no other from being served.
func TestKubernetes_ServesWhatItMayRead(t *testing.T) {
	c := kubetest.Client(t)
	namespace := kubetest.Namespace(t, c)
	for _, o := range []client.Object{remote(namespace, "docs", "team", "https://docs.example.com/mcp"), service(namespace, "wiki", "team")} {
		if err := c.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	clients, grant := stranger(t, c, namespace)
	grant("vmcp.dev", "mcpbackends")
	f := runWith(t, discovery.KubernetesOptions{Clients: clients, Group: "team", Discovery: labelled})
	f.expectProblem(t, `listing the Services of group "team"`, "forbidden")
	kubetest.Eventually(t, func() string {
		if f.count() == 0 {
			return "nothing was published"
		}
		return ""
	})
	grant("", "services")
	f.expect(t, "docs=https://docs.example.com/mcp", "wiki=http://wiki."+namespace+".svc/mcp")
}
