// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

const (
	// nodes is how many fake nodes there are.
	nodes = 5
	// shared is the most VirtualMCPServers of one mode that share one group; the rest is in groups of a team's size.
	shared = 100
	// teamSize is how many VirtualMCPServers of the rest share a group.
	teamSize = 10
	// backendsPerGroup is how many backends every group has at first.
	backendsPerGroup = 3
	// sharedGroup is the group that all VirtualMCPServers of dynamicNamespace, or of staticNamespace, refer to.
	sharedGroup      = "shared"
	dynamicNamespace = "scale-dynamic"
	staticNamespace  = "scale-static"
	// credential names the Secret, and the MCPExternalAuthConfig, that the backend added in dynamicNamespace uses.
	credential = "token"
	// addedBackend is the backend that is added to the shared groups.
	addedBackend = "added"
	// createAtOnce is how many objects are created at one time.
	createAtOnce = 8
)

// population is what users would have applied, in the order of its fields.
type population struct {
	namespaces, rest, servers []client.Object
	// dynamic and static count the VirtualMCPServers of the two shared groups.
	dynamic, static int
}

// populate lays out n VirtualMCPServers: a fifth of them, but at most 100, shares one group in dynamic mode, as many share one in static
// mode, and the rest is in dynamic mode in groups of ten, in three namespaces.
func populate(n int) population {
	p := population{dynamic: min(max(n/5, 1), shared)}
	p.static = min(p.dynamic, n-p.dynamic)
	p.namespace(dynamicNamespace)
	p.group(dynamicNamespace, sharedGroup)
	for i := range p.dynamic {
		p.server(dynamicNamespace, fmt.Sprintf("gateway-%03d", i), sharedGroup, v1alpha1.OutgoingAuthSourceDiscovered)
	}
	p.namespace(staticNamespace)
	p.group(staticNamespace, sharedGroup)
	for i := range p.static {
		p.server(staticNamespace, fmt.Sprintf("gateway-%03d", i), sharedGroup, v1alpha1.OutgoingAuthSourceInline)
	}
	p.rest = append(p.rest,
		&corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: dynamicNamespace, Name: credential, Labels: map[string]string{v1alpha1.CredentialLabel: "true"}},
			StringData: map[string]string{"authorization": "Bearer example"},
		},
		&v1alpha1.MCPExternalAuthConfig{
			ObjectMeta: metav1.ObjectMeta{Namespace: dynamicNamespace, Name: credential},
			Spec: v1alpha1.MCPExternalAuthConfigSpec{
				Type: v1alpha1.ExternalAuthTypeHeaderInjection,
				HeaderInjection: &v1alpha1.HeaderInjection{
					HeaderName: "Authorization", SecretRef: v1alpha1.SecretKeyReference{Name: credential, Key: "authorization"},
				},
			},
		})
	teams := []string{"scale-a", "scale-b", "scale-c"}
	for i := range n - p.dynamic - p.static {
		namespace := teams[i/teamSize%len(teams)]
		if i < teamSize*len(teams) && i%teamSize == 0 {
			p.namespace(namespace)
		}
		group := fmt.Sprintf("team-%02d", i/teamSize)
		if i%teamSize == 0 {
			p.group(namespace, group)
		}
		p.server(namespace, fmt.Sprintf("gateway-%03d", i), group, v1alpha1.OutgoingAuthSourceDiscovered)
	}
	return p
}

func (p *population) namespace(name string) {
	p.namespaces = append(p.namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
}

func (p *population) group(namespace, name string) {
	p.rest = append(p.rest, &v1alpha1.MCPGroup{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}})
	for i := range backendsPerGroup {
		p.rest = append(p.rest, newBackend(namespace, fmt.Sprintf("%s-%d", name, i), name))
	}
}

func (p *population) server(namespace, name, group string, source v1alpha1.OutgoingAuthSource) {
	p.servers = append(p.servers, &v1alpha1.VirtualMCPServer{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1alpha1.VirtualMCPServerSpec{
			GroupRef:     v1alpha1.LocalReference{Name: group},
			OutgoingAuth: v1alpha1.OutgoingAuth{Source: source},
		},
	})
}

func newBackend(namespace, name, group string) *v1alpha1.MCPBackend {
	return &v1alpha1.MCPBackend{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1alpha1.MCPBackendSpec{
			GroupRef:  v1alpha1.LocalReference{Name: group},
			Transport: v1alpha1.TransportStreamableHTTP,
			Remote:    &v1alpha1.RemoteBackend{URL: "https://" + name + ".example.com/mcp"}, // nobody calls it
		},
	}
}

// fakeNodes are nodes with room for the pods of n VirtualMCPServers, during a rollout of all of them too.
func fakeNodes(n int) []client.Object {
	room := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("1000"), corev1.ResourceMemory: resource.MustParse("4Ti"),
		corev1.ResourcePods: *resource.NewQuantity(int64(2*n/nodes+10), resource.DecimalSI),
	}
	var list []client.Object
	for i := range nodes {
		name := fmt.Sprintf("fake-%d", i)
		list = append(list, &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}},
			Status:     corev1.NodeStatus{Allocatable: room, Capacity: room},
		})
	}
	return list
}

// create makes the objects, several at a time.
func create(ctx context.Context, c client.Client, objects []client.Object) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(createAtOnce)
	for _, o := range objects {
		group.Go(func() error {
			if err := c.Create(ctx, o); err != nil {
				return fmt.Errorf("creating %T %s: %w", o, client.ObjectKeyFromObject(o), err)
			}
			return nil
		})
	}
	return group.Wait()
}
