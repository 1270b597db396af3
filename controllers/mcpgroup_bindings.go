// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"maps"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// namedConfigs are the MCPExternalAuthConfigs that backends name themselves, each once, in order.
func namedConfigs(backends []v1alpha1.MCPBackend) []string {
	names := map[string]bool{}
	for i := range backends {
		if ref := backends[i].Spec.ExternalAuthConfigRef; ref != nil {
			names[ref.Name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// dynamicGateways are the names of the gateways that read credentials through the API, in order: those in dynamic mode, and those whose
// pods still run in it, which the rights of their own Role show, because the VirtualMCPServer controller narrows them when they are done.
func dynamicGateways(servers []v1alpha1.VirtualMCPServer, discovers func(server string) bool) []string {
	var names []string
	for i := range servers {
		s := &servers[i]
		if s.DeletionTimestamp.IsZero() && (s.Source() == v1alpha1.OutgoingAuthSourceDiscovered || discovers(s.Name)) {
			names = append(names, s.Name)
		}
	}
	slices.Sort(names)
	return names
}

// mayDiscover says whether a Role lets a runtime find backends by itself.
func mayDiscover(role *rbacv1.Role) bool {
	return role != nil && slices.ContainsFunc(role.Rules, func(rule rbacv1.PolicyRule) bool {
		return slices.Contains(rule.Resources, "mcpbackends")
	})
}

// bindAuthRoles gives the dynamic gateways of a group the Roles of the MCPExternalAuthConfigs that its backends name, and takes away those
// that no backend names any more.
func (r *MCPGroupReconciler) bindAuthRoles(
	ctx context.Context, g *v1alpha1.MCPGroup, backends []v1alpha1.MCPBackend, servers []v1alpha1.VirtualMCPServer,
) ([]authFailure, error) {
	configs := namedConfigs(backends)
	var gateways []string
	if len(configs) > 0 {
		roles := map[string]bool{}
		for i := range servers {
			role, err := find[rbacv1.Role](ctx, r.Client, client.ObjectKey{Namespace: g.Namespace, Name: v1alpha1.OperandName(servers[i].Name)})
			if err != nil {
				return nil, fmt.Errorf("reading the Role of VirtualMCPServer %s: %w", servers[i].Name, err)
			}
			roles[servers[i].Name] = mayDiscover(role)
		}
		gateways = dynamicGateways(servers, func(name string) bool { return roles[name] })
	}
	if len(gateways) == 0 {
		configs = nil
	}
	bindings := authBindings{
		client: r.Client, owner: g, ownerLabel: v1alpha1.GroupLabel, nameOf: v1alpha1.GroupAuthRoleBindingName, gateways: gateways,
	}
	failures := bindings.bind(ctx, configs)
	left, err := bindings.unbind(ctx, configs)
	return append(failures, left...), err
}

// enqueueGroupsOfRole wakes the controller when a Role that a group's bindings depend on changes: one of an MCPExternalAuthConfig, for the
// groups whose backends name it; one of a gateway, for that gateway's group.
func (r *MCPGroupReconciler) enqueueGroupsOfRole() handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, role client.Object) []reconcile.Request {
		group := func(name string) reconcile.Request {
			return reconcile.Request{NamespacedName: client.ObjectKey{Namespace: role.GetNamespace(), Name: name}}
		}
		if server := role.GetLabels()[v1alpha1.VirtualMCPServerLabel]; server != "" {
			s, err := find[v1alpha1.VirtualMCPServer](ctx, r.Client, client.ObjectKey{Namespace: role.GetNamespace(), Name: server})
			if err != nil || s == nil {
				return nil
			}
			return []reconcile.Request{group(s.Spec.GroupRef.Name)}
		}
		config := role.GetLabels()[v1alpha1.AuthConfigLabel]
		if config == "" {
			return nil
		}
		backends := &v1alpha1.MCPBackendList{}
		err := r.Client.List(ctx, backends, client.InNamespace(role.GetNamespace()), client.MatchingFields{indexOwnAuthConfig: config},
			client.UnsafeDisableDeepCopy)
		if err != nil {
			log.FromContext(ctx).Error(err, "Looking up who names an MCPExternalAuthConfig", "name", config)
			return nil
		}
		names := map[string]bool{}
		for i := range backends.Items {
			names[backends.Items[i].Spec.GroupRef.Name] = true
		}
		var requests []reconcile.Request
		for _, name := range slices.Sorted(maps.Keys(names)) {
			requests = append(requests, group(name))
		}
		return requests
	})
}
