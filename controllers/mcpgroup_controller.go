// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"math"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	acv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
)

// MCPGroupController names the controller in its user agent, metrics and logs.
const MCPGroupController = "mcpgroup"

// MCPGroupReconciler counts who names a group, and lets its dynamic gateways read the credentials that its backends name.
type MCPGroupReconciler struct {
	Client Client

	// unbound is what was last told of credentials that could not be bound.
	unbound perObject[string]
}

// +kubebuilder:rbac:groups=vmcp.dev,resources=mcpgroups;mcpbackends;virtualmcpservers,verbs=get;list;watch
// +kubebuilder:rbac:groups=vmcp.dev,resources=mcpgroups/status,verbs=patch

// +kubebuilder:rbac:groups=vmcp.dev,resources=mcpgroups/finalizers,verbs=update
// +kubebuilder:rbac:groups=rbac.authorization.k8s.io,resources=roles,verbs=get;list;watch
// +kubebuilder:rbac:groups=rbac.authorization.k8s.io,resources=rolebindings,verbs=get;list;watch;create;patch;delete

// Reconcile writes the counts of one MCPGroup if they changed, and binds what its backends name.
func (r *MCPGroupReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	g := &v1alpha1.MCPGroup{}
	if err := r.Client.Get(ctx, req.NamespacedName, g); err != nil {
		if apierrors.IsNotFound(err) {
			r.unbound.forget(req.NamespacedName)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !g.DeletionTimestamp.IsZero() || paused(g) {
		return ctrl.Result{}, nil
	}
	backends, servers := &v1alpha1.MCPBackendList{}, &v1alpha1.VirtualMCPServerList{}
	for _, list := range []client.ObjectList{backends, servers} {
		if err := r.members(ctx, g, list); err != nil {
			return ctrl.Result{}, err
		}
	}
	if err := r.report(ctx, g, count(backends), count(servers)); err != nil {
		return ctrl.Result{}, err
	}
	unbound, err := r.bindAuthRoles(ctx, g, backends.Items, servers.Items)
	if err != nil {
		return ctrl.Result{}, err
	}
	r.announce(g, unbound)
	at := time.Now()
	return requeueBefore(ctrl.Result{}, at, retryAuth(ctx, unbound, at)), nil
}

// announce tells which credentials cannot be bound, whenever that changes. A group has no conditions to say it.
func (r *MCPGroupReconciler) announce(g *v1alpha1.MCPGroup, unbound []authFailure) {
	key, v := client.ObjectKeyFromObject(g), authVerdict(unbound)
	if before, _ := r.unbound.get(key); v.message == before {
		return
	}
	r.unbound.set(key, v.message)
	if v.reason != "" {
		r.Client.tell(g, transition{corev1.EventTypeWarning, v.reason, actionBind, truncate(v.message, maxMessage)})
	}
}

// report writes the counts if they changed.
func (r *MCPGroupReconciler) report(ctx context.Context, g *v1alpha1.MCPGroup, backends, servers int32) error {
	want := acv1alpha1.MCPGroupStatus().
		WithObservedGeneration(g.Generation).
		WithBackends(backends).
		WithVirtualMCPServers(servers)
	have, err := acv1alpha1.ExtractMCPGroupStatus(g, v1alpha1.OperatorFieldManager)
	if err != nil {
		return fmt.Errorf("reading the managed fields of the status: %w", err)
	}
	_, err = applyStatus(ctx, r.Client, kindOf(g), have.Status, want, func() runtime.ApplyConfiguration {
		return acv1alpha1.MCPGroup(g.Name, g.Namespace).WithResourceVersion(g.ResourceVersion).WithStatus(want)
	})
	return err
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
