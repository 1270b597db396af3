// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// bindAuthRoles gives the runtime the Roles of the MCPExternalAuthConfigs that the spec names, and takes away those that it names
// no more. It reads none of the MCPExternalAuthConfigs. A failure is a fact and no obstacle: it is the one backend that suffers, by
// the runtime's own verdict.
func (r *VirtualMCPServerReconciler) bindAuthRoles(ctx context.Context, scope *virtualMCPServerScope) error {
	s := scope.server
	bindings := authBindings{
		client: r.Client, owner: s, ownerLabel: v1alpha1.VirtualMCPServerLabel, nameOf: v1alpha1.GatewayAuthRoleBindingName,
		gateways: []string{s.Name}, commonMetadata: s.Spec.CommonMetadata,
	}
	scope.facts.unbound = bindings.bind(ctx, scope.boundConfigs)
	if scope.keepsRights {
		return nil
	}
	left, err := bindings.unbind(ctx, scope.boundConfigs)
	scope.facts.unbound = append(scope.facts.unbound, left...)
	return err
}

// enqueueAuthRoleUsers wakes the controller for the VirtualMCPServers that name the MCPExternalAuthConfig of a Role.
func (r *VirtualMCPServerReconciler) enqueueAuthRoleUsers() handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
		config := o.GetLabels()[v1alpha1.AuthConfigLabel]
		if config == "" {
			return nil
		}
		servers := &v1alpha1.VirtualMCPServerList{}
		err := r.Client.List(ctx, servers, client.InNamespace(o.GetNamespace()), client.MatchingFields{indexAuthConfig: config})
		if err != nil {
			log.FromContext(ctx).Error(err, "Looking up who names an MCPExternalAuthConfig", "name", config)
			return nil
		}
		return requestsFor(servers)
	})
}

// authRoles passes the Roles of MCPExternalAuthConfigs.
func authRoles() predicate.Predicate {
	return predicate.NewPredicateFuncs(func(o client.Object) bool { return o.GetLabels()[v1alpha1.AuthConfigLabel] != "" })
}
