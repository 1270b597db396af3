// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	rbacv1ac "k8s.io/client-go/applyconfigurations/rbac/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// bindAuthRoles gives the runtime the Roles of the MCPExternalAuthConfigs that the spec names, and takes away those that it names
// no more. It reads none of the MCPExternalAuthConfigs. A Role that is not there is not bound: the API server would refuse it, and
// it is the one backend that suffers, by the runtime's own verdict. The Role's coming wakes the controller.
func (r *VirtualMCPServerReconciler) bindAuthRoles(ctx context.Context, scope *virtualMCPServerScope) error {
	s, bound := scope.server, scope.boundConfigs
	for _, config := range bound {
		role, err := find[rbacv1.Role](ctx, r.Client, client.ObjectKey{Namespace: s.Namespace, Name: v1alpha1.AuthRoleName(config)})
		if err != nil {
			return fmt.Errorf("reading the Role of MCPExternalAuthConfig %s: %w", config, err)
		}
		if role == nil || !role.DeletionTimestamp.IsZero() {
			continue
		}
		_, err = ensure[rbacv1.RoleBinding](ctx, r.Client, s, authRoleBinding(s, config), rbacv1ac.ExtractRoleBinding)
		if err != nil {
			return err
		}
	}
	if scope.keepsRights {
		return nil
	}
	bindings := &rbacv1.RoleBindingList{}
	err := r.Client.List(ctx, bindings, client.InNamespace(s.Namespace),
		client.MatchingLabels{v1alpha1.VirtualMCPServerLabel: s.Name}, client.HasLabels{v1alpha1.AuthConfigLabel}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return fmt.Errorf("listing RoleBindings: %w", err)
	}
	for i := range bindings.Items {
		b := &bindings.Items[i]
		if !metav1.IsControlledBy(b, s) || slices.Contains(bound, b.Labels[v1alpha1.AuthConfigLabel]) {
			continue
		}
		if err := remove[rbacv1.RoleBinding](ctx, r.Client, s, client.ObjectKeyFromObject(b)); err != nil {
			return err
		}
	}
	return nil
}

// authRoleBinding binds the runtime of s to the Role of an MCPExternalAuthConfig.
func authRoleBinding(s *v1alpha1.VirtualMCPServer, config string) *rbacv1ac.RoleBindingApplyConfiguration {
	binding := rbacv1ac.RoleBinding(v1alpha1.GatewayAuthRoleBindingName(s.Name, config), s.Namespace).
		WithOwnerReferences(ownerReference(s)).
		WithRoleRef(rbacv1ac.RoleRef().WithAPIGroup(rbacv1.GroupName).WithKind("Role").WithName(v1alpha1.AuthRoleName(config))).
		WithSubjects(rbacv1ac.Subject().
			WithKind(rbacv1.ServiceAccountKind).
			WithName(v1alpha1.OperandName(s.Name)).
			WithNamespace(s.Namespace))
	for key, value := range s.Spec.CommonMetadata.Labels {
		binding.WithLabels(map[string]string{key: string(value)})
	}
	for key, value := range s.Spec.CommonMetadata.Annotations {
		binding.WithAnnotations(map[string]string{key: string(value)})
	}
	return binding.WithLabels(map[string]string{
		v1alpha1.ManagedByLabel:        v1alpha1.ManagedByValue,
		v1alpha1.VirtualMCPServerLabel: s.Name,
		v1alpha1.AuthConfigLabel:       config,
	})
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
