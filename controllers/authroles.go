// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	rbacv1ac "k8s.io/client-go/applyconfigurations/rbac/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/controllers/operand"
)

// Rights on Secrets are given by binding the Role of an MCPExternalAuthConfig: by the VirtualMCPServer controller for the names in
// its own spec, by the MCPGroup controller for those that the group's backends name. One that cannot be bound, or unbound, is the
// trouble of the backends that need it: it keeps no other from being bound, no gateway from being rolled out, and is tried again.

// authBindingRetry is how soon a binding is tried again that failed. The change of the Role itself wakes the controllers at once.
const authBindingRetry = 10 * time.Second

// authFailure is why the Role of an MCPExternalAuthConfig could not be bound or unbound.
type authFailure struct {
	config string
	err    error
}

// authBindings are the bindings to Roles of MCPExternalAuthConfigs that one object owns.
type authBindings struct {
	client Client
	owner  client.Object
	// ownerLabel is the label by which they are found; its value is the name of the owner.
	ownerLabel string
	// nameOf is the name of the binding of an owner to the Role of a config.
	nameOf func(owner, config string) string
	// gateways are the VirtualMCPServers whose runtimes get the Roles.
	gateways []string
	// commonMetadata is added to each of them.
	commonMetadata v1alpha1.CommonMetadata
}

// bind binds the Roles of configs. A Role that is not there is not bound: the API server would refuse it. Its coming wakes the
// controllers, and a binding that was made before it went is good for its successor.
func (a authBindings) bind(ctx context.Context, configs []string) []authFailure {
	var failures []authFailure
	for _, config := range configs {
		role, err := find[rbacv1.Role](ctx, a.client,
			client.ObjectKey{Namespace: a.owner.GetNamespace(), Name: v1alpha1.AuthRoleName(config)})
		if err == nil && role != nil && role.DeletionTimestamp.IsZero() {
			_, err = ensure[rbacv1.RoleBinding](ctx, a.client, a.owner, a.binding(config), rbacv1ac.ExtractRoleBinding)
		}
		if err != nil {
			failures = append(failures, authFailure{config, err})
		}
	}
	return failures
}

// unbind removes the bindings of all but the named configs.
func (a authBindings) unbind(ctx context.Context, keep []string) ([]authFailure, error) {
	bindings := &rbacv1.RoleBindingList{}
	err := a.client.List(ctx, bindings, client.InNamespace(a.owner.GetNamespace()),
		client.MatchingLabels{a.ownerLabel: a.owner.GetName()}, client.HasLabels{v1alpha1.AuthConfigLabel}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, fmt.Errorf("listing RoleBindings: %w", err)
	}
	var failures []authFailure
	for i := range bindings.Items {
		b := &bindings.Items[i]
		config := b.Labels[v1alpha1.AuthConfigLabel]
		if !metav1.IsControlledBy(b, a.owner) || slices.Contains(keep, config) {
			continue
		}
		if err := remove[rbacv1.RoleBinding](ctx, a.client, a.owner, client.ObjectKeyFromObject(b)); err != nil {
			failures = append(failures, authFailure{config, err})
		}
	}
	return failures, nil
}

// binding gives the runtimes the Role of an MCPExternalAuthConfig.
func (a authBindings) binding(config string) *rbacv1ac.RoleBindingApplyConfiguration {
	name, namespace := a.owner.GetName(), a.owner.GetNamespace()
	binding := rbacv1ac.RoleBinding(a.nameOf(name, config), namespace).
		WithLabels(operand.Plain(a.commonMetadata.Labels)).
		WithLabels(map[string]string{
			v1alpha1.ManagedByLabel:  v1alpha1.ManagedByValue,
			a.ownerLabel:             name,
			v1alpha1.AuthConfigLabel: config,
		}).
		WithAnnotations(operand.Plain(a.commonMetadata.Annotations)).
		WithOwnerReferences(ownerReference(a.owner)).
		WithRoleRef(rbacv1ac.RoleRef().WithAPIGroup(rbacv1.GroupName).WithKind("Role").WithName(v1alpha1.AuthRoleName(config)))
	for _, gateway := range a.gateways {
		binding.WithSubjects(rbacv1ac.Subject().
			WithKind(rbacv1.ServiceAccountKind).WithName(v1alpha1.OperandName(gateway)).WithNamespace(namespace))
	}
	return binding
}

// authVerdict says which configs are concerned and quotes the first of the failures. One that is due to somebody who writes at this
// moment is no news.
func authVerdict(failures []authFailure) verdict {
	var names []string
	var first error
	for _, f := range failures {
		if apierrors.IsConflict(f.err) {
			continue
		}
		names = append(names, f.config)
		if first == nil {
			first = f.err
		}
	}
	if first == nil {
		return verdict{}
	}
	return isFalse(v1alpha1.ReasonAuthRoleNotBound, fmt.Sprintf(
		"the rights to read the Secrets of MCPExternalAuthConfig %s could not be set; this is tried again, and everything else goes on: %s",
		strings.Join(names, ", "), first))
}

// retryAuth logs the failures and returns when to try again; zero is never.
func retryAuth(ctx context.Context, failures []authFailure, at time.Time) time.Time {
	var again ctrl.Result
	for _, f := range failures {
		result, err := outcome(f.err)
		switch {
		case apierrors.IsConflict(err):
			again = requeueBefore(again, at, at.Add(conflictRetry))
		case err != nil:
			log.FromContext(ctx).Error(err, "Binding the Role of an MCPExternalAuthConfig; it is tried again", "config", f.config)
			again = requeueBefore(again, at, at.Add(authBindingRetry))
		case result.RequeueAfter > 0:
			again = requeueBefore(again, at, at.Add(result.RequeueAfter))
		}
	}
	if again.RequeueAfter == 0 {
		return time.Time{}
	}
	return at.Add(again.RequeueAfter)
}
