// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"math"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// MCPGroupController names the controller in its user agent, metrics and logs.
const MCPGroupController = "mcpgroup"

// MCPGroupReconciler counts who names a group, and lets its dynamic gateways read the credentials that its backends name.
type MCPGroupReconciler struct {
	Client Client
	// Now tells the time; nil means time.Now.
	Now func() time.Time
}

// +kubebuilder:rbac:groups=vmcp.dev,resources=mcpgroups;mcpbackends;virtualmcpservers,verbs=get;list;watch
// +kubebuilder:rbac:groups=vmcp.dev,resources=mcpgroups/status,verbs=patch

// +kubebuilder:rbac:groups=vmcp.dev,resources=mcpgroups/finalizers,verbs=update
// +kubebuilder:rbac:groups=rbac.authorization.k8s.io,resources=roles,verbs=get;list;watch
// +kubebuilder:rbac:groups=rbac.authorization.k8s.io,resources=rolebindings,verbs=get;list;watch;create;patch;delete

// Reconcile binds what the backends of one MCPGroup name, and writes its status once, at the end.
func (r *MCPGroupReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	g := &v1alpha1.MCPGroup{}
	if err := r.Client.Get(ctx, req.NamespacedName, g); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !g.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil
	}
	status, err := statusOfGroup(g)
	if err != nil {
		return ctrl.Result{}, err
	}
	if paused(g) {
		return ctrl.Result{}, status.leaveAlone(ctx, r.Client, now(r.Now))
	}
	backends, servers := &v1alpha1.MCPBackendList{}, &v1alpha1.VirtualMCPServerList{}
	for _, list := range []client.ObjectList{backends, servers} {
		if err := r.members(ctx, g, list); err != nil {
			return ctrl.Result{}, err
		}
	}
	facts := mcpGroupFacts{backends: count(backends), servers: count(servers)}
	if facts.unbound, err = r.bindAuthRoles(ctx, g, backends.Items, servers.Items); err != nil {
		return ctrl.Result{}, err
	}
	at := now(r.Now)
	if err := status.write(ctx, r.Client, newMCPGroupStatus(g, facts, at)); err != nil {
		return ctrl.Result{}, err
	}
	return requeueBefore(ctrl.Result{}, at, retryAuth(ctx, facts.unbound, at)), nil
}

// members fills the list with the objects of its kind that name the group. They are the cache's own.
func (r *MCPGroupReconciler) members(ctx context.Context, g *v1alpha1.MCPGroup, list client.ObjectList) error {
	err := r.Client.List(ctx, list, client.InNamespace(g.Namespace), client.MatchingFields{indexGroupRef: g.Name},
		client.UnsafeDisableDeepCopy)
	if err != nil {
		return fmt.Errorf("listing who names MCPGroup %s: %w", g.Name, err)
	}
	return nil
}

func count(list client.ObjectList) int32 {
	return int32(min(meta.LenList(list), math.MaxInt32)) //nolint:gosec // Bounded by min.
}

// SetupWithManager starts the controller with the manager.
func (r *MCPGroupReconciler) SetupWithManager(mgr ctrl.Manager) error {
	b, err := watchPrimary(ctrl.NewControllerManagedBy(mgr).Named(MCPGroupController), &v1alpha1.MCPGroup{})
	if err != nil {
		return err
	}
	// On an update both the old and the new object are mapped, so a member that moves wakes both groups.
	group := handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
		return []reconcile.Request{{NamespacedName: client.ObjectKey{Namespace: o.GetNamespace(), Name: groupRefOf(o)}}}
	})
	specChanged := builder.WithPredicates(predicate.GenerationChangedPredicate{})
	return b.
		Watches(&v1alpha1.MCPBackend{}, group, specChanged).
		Watches(&v1alpha1.VirtualMCPServer{}, group, specChanged).
		Watches(&rbacv1.Role{}, r.enqueueGroupsOfRole()).
		Watches(&rbacv1.RoleBinding{}, enqueueOwner(mgr, &v1alpha1.MCPGroup{})).
		WithOptions(controllerOptions()).
		Complete(r)
}
