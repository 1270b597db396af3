// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// staticStrategy resolves backends and their authentication into the runtime's configuration and mounts the Secrets into its pods, so
// that the runtime has no right to read any of them. It reads from the cache only.
type staticStrategy struct {
	reader     client.Reader
	mcpServers *mcpServers
}

func (m staticStrategy) complete(ctx context.Context, scope *virtualMCPServerScope) error {
	s := scope.server
	members, err := m.members(ctx, scope.group)
	if err != nil {
		return fmt.Errorf("listing the backends of MCPGroup %s: %w", scope.group.Name, err)
	}
	configs := map[string]*v1alpha1.MCPExternalAuthConfig{}
	for _, name := range authConfigNames(s.Spec.OutgoingAuth, members) {
		config, err := find[v1alpha1.MCPExternalAuthConfig](ctx, m.reader, client.ObjectKey{Namespace: s.Namespace, Name: name})
		if err != nil {
			return fmt.Errorf("reading MCPExternalAuthConfig %s: %w", name, err)
		}
		if config != nil {
			configs[name] = config
		}
	}
	resolved := resolveBackends(s.Spec.OutgoingAuth, members, configs)
	scope.facts.resolved = resolved
	scope.input.Configuration.Backends = resolved
	scope.input.CredentialSecrets = credentialSecrets(resolved)

	// Pods that find backends by themselves go on until the last of them is replaced.
	scope.keepsRights, err = m.stillDiscovers(ctx, s)
	scope.input.DiscoversBackends = scope.keepsRights
	scope.input.Discovery = scope.group.Spec.Discovery
	return err
}

// members are the members of a group in their one order.
func (m staticStrategy) members(ctx context.Context, g *v1alpha1.MCPGroup) ([]v1alpha1.Member, error) {
	backends := &v1alpha1.MCPBackendList{}
	err := m.reader.List(ctx, backends, client.InNamespace(g.Namespace), client.MatchingFields{indexGroupRef: g.Name},
		client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, fmt.Errorf("listing MCPBackends: %w", err)
	}
	var members []v1alpha1.Member
	for i := range backends.Items {
		members = append(members, backends.Items[i].Member())
	}
	if g.Spec.Discovery.Services == v1alpha1.DiscoveryLabelled {
		services := &corev1.ServiceList{}
		err := m.reader.List(ctx, services, client.InNamespace(g.Namespace), client.MatchingLabels{v1alpha1.GroupLabel: g.Name},
			client.UnsafeDisableDeepCopy)
		if err != nil {
			return nil, fmt.Errorf("listing Services: %w", err)
		}
		for i := range services.Items {
			if s := &services.Items[i]; v1alpha1.Joins(s, g.Name) {
				members = append(members, v1alpha1.ServiceMember(s))
			}
		}
	}
	if g.Spec.Discovery.MCPServers == v1alpha1.DiscoveryLabelled {
		servers, err := m.mcpServers.of(ctx, g)
		if err != nil {
			return nil, fmt.Errorf("listing MCPServers: %w", err)
		}
		for i := range servers {
			if s := &servers[i]; v1alpha1.Joins(s, g.Name) {
				members = append(members, v1alpha1.MCPServerMember(s))
			}
		}
	}
	return v1alpha1.Members(members...), nil
}

// stillDiscovers says whether the runtime holds the rights of dynamic mode and pods may be left that use them.
func (m staticStrategy) stillDiscovers(ctx context.Context, s *v1alpha1.VirtualMCPServer) (bool, error) {
	key := client.ObjectKey{Namespace: s.Namespace, Name: v1alpha1.OperandName(s.Name)}
	role, err := find[rbacv1.Role](ctx, m.reader, key)
	if err != nil {
		return false, fmt.Errorf("reading Role %s: %w", key.Name, err)
	}
	if !mayDiscover(role) {
		return false, nil
	}
	d, err := find[appsv1.Deployment](ctx, m.reader, key)
	if err != nil {
		return false, fmt.Errorf("reading Deployment %s: %w", key.Name, err)
	}
	return d != nil && !rolledOutFor(d, v1alpha1.OutgoingAuthSourceInline), nil
}

// rolledOutFor says whether all pods of a Deployment were made for a mode.
func rolledOutFor(d *appsv1.Deployment, source v1alpha1.OutgoingAuthSource) bool {
	return d.Spec.Template.Annotations[v1alpha1.OutgoingAuthSourceAnnotation] == string(source) &&
		deploymentVerdict(d).status == metav1.ConditionTrue
}

// enqueueStaticServers wakes the controller for the VirtualMCPServers that the operator resolves backends for: those of the group of a
// member, or all of the namespace.
func (r *VirtualMCPServerReconciler) enqueueStaticServers() handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
		servers, group := &v1alpha1.VirtualMCPServerList{}, groupRefOf(o)
		err := r.Client.List(ctx, servers, client.InNamespace(o.GetNamespace()),
			client.MatchingFields{indexSource: string(v1alpha1.OutgoingAuthSourceInline)})
		if err != nil {
			log.FromContext(ctx).Error(err, "Looking up the VirtualMCPServers in static mode", "name", o.GetName())
			return nil
		}
		servers.Items = slices.DeleteFunc(servers.Items, func(s v1alpha1.VirtualMCPServer) bool {
			return group != "" && s.Spec.GroupRef.Name != group
		})
		return requestsFor(servers)
	})
}
