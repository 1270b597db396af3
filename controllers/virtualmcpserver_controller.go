// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	coordinationv1ac "k8s.io/client-go/applyconfigurations/coordination/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	rbacv1ac "k8s.io/client-go/applyconfigurations/rbac/v1"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	acv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/controllers/operand"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
)

// VirtualMCPServerController names the controller in its user agent, metrics and logs.
const VirtualMCPServerController = "virtualmcpserver"

// VirtualMCPServerReconciler provisions the runtime of a VirtualMCPServer and reports on what it provisioned. What the runtime
// does, and whether backends work, is not its business: it reads backends in static mode only, and no more than their specs.
type VirtualMCPServerReconciler struct {
	Client Client
	// RuntimeImage is the image of the runtime.
	RuntimeImage string
	// ProxyEnv are the proxy variables that runtimes get, possibly none.
	ProxyEnv []corev1.EnvVar
	// Now tells the time; nil means time.Now.
	Now func() time.Time

	rendered   operandCache
	heartbeats heartbeats
	pods       perObject[podWatch]
	writes     statusWrites
	mcpServers mcpServers
	// examined tells others what became of each object; nil if nobody asks.
	examined *examinations
}

// The operator needs every right that it gives to a runtime, or the API server refuses the Role as an escalation.
//
// +kubebuilder:rbac:groups=vmcp.dev,resources=virtualmcpservers,verbs=get;list;watch
// +kubebuilder:rbac:groups=vmcp.dev,resources=virtualmcpservers/status,verbs=patch
// +kubebuilder:rbac:groups=vmcp.dev,resources=virtualmcpservers/finalizers,verbs=update
// +kubebuilder:rbac:groups=vmcp.dev,resources=mcpgroups,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=serviceaccounts;configmaps;services,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups=apps,resources=deployments,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups=coordination.k8s.io,resources=leases,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups=autoscaling,resources=horizontalpodautoscalers,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=pods,verbs=list
// +kubebuilder:rbac:groups=rbac.authorization.k8s.io,resources=roles;rolebindings,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch
// +kubebuilder:rbac:groups=rbac.authorization.k8s.io,resources=rolebindings,verbs=delete
//
// +kubebuilder:rbac:groups=mcp.x-k8s.io,resources=mcpservers,verbs=get;list;watch
//
// Rights of the runtime that the operator does not use itself:
// +kubebuilder:rbac:groups=vmcp.dev,resources=mcpbackends;mcpexternalauthconfigs,verbs=get;list;watch
// +kubebuilder:rbac:groups=coordination.k8s.io,resources=leases,verbs=update

// virtualMCPServerScope is what one reconciliation works on.
type virtualMCPServerScope struct {
	// server is the object as the cache has it. It is never modified.
	server *v1alpha1.VirtualMCPServer
	// group is its MCPGroup, as the cache has it; nil until it is found. It is never modified.
	group *v1alpha1.MCPGroup
	// input is what operand is rendered from, and boundConfigs name the MCPExternalAuthConfigs whose Roles the runtime gets.
	input        operand.Input
	boundConfigs []string
	// keepsRights says that no right is taken away yet: pods may be left that need it.
	keepsRights bool
	// operand is what is to be applied; nil until it is rendered.
	operand *operand.Operand
	// facts are filled in by the phases.
	facts virtualMCPServerFacts
}

// Reconcile provisions one VirtualMCPServer. Its phases record facts and stop at the first obstacle; the status is computed once,
// from the facts, at the end.
func (r *VirtualMCPServerReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	server := &v1alpha1.VirtualMCPServer{}
	if err := r.Client.Get(ctx, req.NamespacedName, server); err != nil {
		if apierrors.IsNotFound(err) {
			r.forget(req.NamespacedName)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	// What belongs to a deleted object goes with it: the garbage collector follows the owner references.
	if !server.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil
	}
	if paused(server) {
		return r.leaveAlone(ctx, server)
	}
	scope := &virtualMCPServerScope{server: server}
	for _, phase := range []func(context.Context, *virtualMCPServerScope) (bool, error){
		r.validate,
		r.findGroup,
		r.render,
		r.tryPatched,
		r.apply,
	} {
		goOn, err := phase(ctx, scope)
		if _, ok := errors.AsType[*unreadError](err); ok {
			return ctrl.Result{RequeueAfter: unreadRetry}, nil
		}
		if err != nil {
			return ctrl.Result{}, err
		}
		if !goOn {
			break
		}
	}
	if err := r.observe(ctx, scope); err != nil {
		return ctrl.Result{}, err
	}
	again, err := r.report(ctx, scope)
	if err != nil {
		return ctrl.Result{}, err
	}
	_, stalled := scope.facts.obstacle(scope.server)
	r.examined.note(scope.server, scope.facts.deployment, stalled, scope.facts.failedErr)
	result, err := outcome(scope.facts.failedErr)
	if err != nil {
		return ctrl.Result{}, err
	}
	at := now(r.Now)
	return requeueBefore(result, at, append(again, retryAuth(ctx, scope.facts.unbound, at))...), nil
}

// forget drops what is kept about a deleted object.
func (r *VirtualMCPServerReconciler) forget(key client.ObjectKey) {
	r.rendered.forget(key)
	r.pods.forget(key)
	r.writes.forget(key)
	r.examined.gone(key)
	r.heartbeats.forget(client.ObjectKey{Namespace: key.Namespace, Name: v1alpha1.OperandName(key.Name)})
}

// report decides on the status and writes it, and returns when to come back. If somebody else was faster it reads the object again,
// from the API server, and decides again, the Lease included.
func (r *VirtualMCPServerReconciler) report(ctx context.Context, scope *virtualMCPServerScope) ([]time.Time, error) {
	again, err := r.tryReport(ctx, scope)
	if !apierrors.IsConflict(err) {
		return again, err
	}
	key := client.ObjectKeyFromObject(scope.server)
	live, err := find[v1alpha1.VirtualMCPServer](ctx, r.Client.Live, key)
	if err != nil {
		return nil, fmt.Errorf("reading VirtualMCPServer %s: %w", key.Name, err)
	}
	if live == nil || live.UID != scope.server.UID || live.Generation != scope.server.Generation {
		return nil, nil // The facts are about another object, or another spec. Its event is on the way.
	}
	scope.server = live
	again, err = r.tryReport(ctx, scope)
	if apierrors.IsConflict(err) {
		return []time.Time{now(r.Now).Add(conflictRetry)}, nil
	}
	return again, err
}

func (r *VirtualMCPServerReconciler) tryReport(ctx context.Context, scope *virtualMCPServerScope) ([]time.Time, error) {
	if err := scope.facts.observeOwners(scope.server); err != nil {
		return nil, err
	}
	nextLook := r.observeHeartbeat(ctx, scope)
	nextPodLook := r.observePods(ctx, scope)
	nextWrite, err := r.applyStatus(ctx, scope)
	return []time.Time{nextLook, nextPodLook, nextWrite}, err
}

// validate looks for mistakes that the schema did not catch, before anything changes.
func (r *VirtualMCPServerReconciler) validate(_ context.Context, scope *virtualMCPServerScope) (bool, error) {
	scope.facts.invalid = scope.server.Validate()
	return len(scope.facts.invalid) == 0, nil
}

// findGroup looks for the MCPGroup; when it comes, a watch wakes the controller.
func (r *VirtualMCPServerReconciler) findGroup(ctx context.Context, scope *virtualMCPServerScope) (bool, error) {
	key := client.ObjectKey{Namespace: scope.server.Namespace, Name: scope.server.Spec.GroupRef.Name}
	group, err := find[v1alpha1.MCPGroup](ctx, r.Client, key)
	if err != nil {
		return false, fmt.Errorf("reading MCPGroup %s: %w", key.Name, err)
	}
	scope.group, scope.facts.groupFound = group, group != nil
	return scope.facts.groupFound, nil
}

// render builds the objects, unless it did so before from the same input.
func (r *VirtualMCPServerReconciler) render(ctx context.Context, scope *virtualMCPServerScope) (bool, error) {
	s, f := scope.server, &scope.facts
	scope.input = r.input(s)
	if err := r.strategyFor(s.Source()).complete(ctx, scope); err != nil {
		if unread, ok := errors.AsType[*unreadError](err); ok && unread.long {
			f.failed, f.failedErr = v1alpha1.ConditionConfigReady, err
			return false, nil
		}
		return false, err
	}
	scope.operand, f.renderErr = r.rendered.render(client.ObjectKeyFromObject(s), scope.input)
	return f.renderErr == nil, nil
}

// input is what the operand depends on in any mode: the generation of the object and what is the same for all objects.
func (r *VirtualMCPServerReconciler) input(s *v1alpha1.VirtualMCPServer) operand.Input {
	return operand.Input{
		Name:      s.Name,
		Namespace: s.Namespace,
		UID:       s.UID,
		Image:     r.RuntimeImage,
		ProxyEnv:  r.ProxyEnv,
		Configuration: configv1alpha1.RuntimeConfiguration{
			Generation:     s.Generation,
			UID:            s.UID,
			Group:          s.Spec.GroupRef.Name,
			Source:         s.Source(),
			Aggregation:    s.Spec.Aggregation,
			Health:         s.Spec.Health,
			AllowedHosts:   operand.AllowedHosts(s.Name, s.Namespace, s.Spec.Endpoint),
			AllowedOrigins: s.Spec.Endpoint.Origins(),
			OwnURLs:        operand.OwnURLs(s.Name, s.Namespace, s.Spec.Endpoint),
		},
		Replicas:         s.Spec.Replicas,
		Autoscaling:      s.Spec.Autoscaling,
		Service:          s.Spec.Endpoint.Service,
		Resources:        s.Spec.Resources,
		ImagePullSecrets: s.Spec.ImagePullSecrets,
		CommonMetadata:   s.Spec.CommonMetadata,
		Patches:          s.Spec.Patches,
	}
}

// apply makes the cluster be as rendered, in the order in which the objects need each other.
func (r *VirtualMCPServerReconciler) apply(ctx context.Context, scope *virtualMCPServerScope) (bool, error) {
	o, f := scope.operand, &scope.facts
	for _, step := range []struct {
		condition string
		run       func() error
	}{
		{v1alpha1.ConditionRBACReady, func() error {
			_, err := ensure[corev1.ServiceAccount](ctx, r.Client, scope.server, o.ServiceAccount, corev1ac.ExtractServiceAccount)
			return err
		}},
		{v1alpha1.ConditionRBACReady, func() error {
			_, err := ensure[rbacv1.Role](ctx, r.Client, scope.server, o.Role, rbacv1ac.ExtractRole)
			return err
		}},
		{v1alpha1.ConditionRBACReady, func() error {
			_, err := ensure[rbacv1.RoleBinding](ctx, r.Client, scope.server, o.RoleBinding, rbacv1ac.ExtractRoleBinding)
			return err
		}},
		{v1alpha1.ConditionRBACReady, func() error { return r.bindAuthRoles(ctx, scope) }},
		{v1alpha1.ConditionConfigReady, func() error {
			_, err := ensure[corev1.ConfigMap](ctx, r.Client, scope.server, o.ConfigMap, corev1ac.ExtractConfigMap)
			return err
		}},
		{v1alpha1.ConditionConfigReady, func() (err error) {
			f.lease, err = ensure[coordinationv1.Lease](ctx, r.Client, scope.server, o.Lease, coordinationv1ac.ExtractLease)
			return err
		}},
		// Before the pods, for which it is there to be looked up: that it is not would be remembered by DNS.
		{v1alpha1.ConditionServiceReady, func() error {
			_, err := ensure[corev1.Service](ctx, r.Client, scope.server, o.PeersService, corev1ac.ExtractService)
			return err
		}},
		{v1alpha1.ConditionDeploymentReady, func() error { return r.stopAutoscaling(ctx, scope.server) }},
		{v1alpha1.ConditionDeploymentReady, func() error {
			least, err := r.leastPods(ctx, scope.server)
			if err != nil {
				return err
			}
			return letGoOfReplicas(ctx, r.Client, scope.server, o.Deployment, least)
		}},
		{v1alpha1.ConditionDeploymentReady, func() (err error) {
			f.deployment, err = ensure[appsv1.Deployment](ctx, r.Client, scope.server, o.Deployment, appsv1ac.ExtractDeployment)
			return err
		}},
		{v1alpha1.ConditionDeploymentReady, func() error { return r.autoscale(ctx, scope) }},
		{v1alpha1.ConditionServiceReady, func() (err error) {
			f.service, err = ensure[corev1.Service](ctx, r.Client, scope.server, o.Service, corev1ac.ExtractService)
			return err
		}},
	} {
		err := step.run()
		switch {
		case err == nil:
		case apierrors.IsConflict(err):
			// Somebody writes at this moment: no fact yet.
			return false, err
		default:
			f.failed, f.failedErr = step.condition, err
			return false, nil
		}
	}
	return true, nil
}

// observe looks at the Deployment, the Service and the Lease that go on although an obstacle kept the phases from applying them.
func (r *VirtualMCPServerReconciler) observe(ctx context.Context, scope *virtualMCPServerScope) error {
	f := &scope.facts
	key := client.ObjectKey{Namespace: scope.server.Namespace, Name: v1alpha1.OperandName(scope.server.Name)}
	if f.deployment == nil {
		d, err := find[appsv1.Deployment](ctx, r.Client, key)
		if err != nil {
			return fmt.Errorf("reading Deployment %s: %w", key.Name, err)
		}
		if d != nil && metav1.IsControlledBy(d, scope.server) {
			f.deployment = d
		}
	}
	if f.service == nil {
		s, err := find[corev1.Service](ctx, r.Client, key)
		if err != nil {
			return fmt.Errorf("reading Service %s: %w", key.Name, err)
		}
		if s != nil && metav1.IsControlledBy(s, scope.server) {
			f.service = s
		}
	}
	if f.lease == nil {
		l, err := find[coordinationv1.Lease](ctx, r.Client, key)
		if err != nil {
			return fmt.Errorf("reading Lease %s: %w", key.Name, err)
		}
		if l != nil && metav1.IsControlledBy(l, scope.server) {
			f.lease = l
		}
	}
	return nil
}

// applyStatus writes the operator's part of the status if it differs from what is there. The request carries the resourceVersion
// that it was decided on. It returns when to come back, if it is too early to write.
func (r *VirtualMCPServerReconciler) applyStatus(ctx context.Context, scope *virtualMCPServerScope) (time.Time, error) {
	s, f, at := scope.server, &scope.facts, now(r.Now)
	owned, err := acv1alpha1.ExtractVirtualMCPServerStatus(s, v1alpha1.OperatorFieldManager)
	if err != nil {
		return time.Time{}, unreadable(err)
	}
	have, want := sortStatus(owned.Status), sortStatus(newVirtualMCPServerStatus(s, *f, at))
	if equality.Semantic.DeepEqual(have, want) {
		r.Client.countApply(kindOf(s), applySkipped)
	} else {
		if notBefore := r.writes.notBefore(s, have, want, f.runtimeHolds); at.Before(notBefore) {
			return notBefore, nil
		}
		err := sendStatus(ctx, r.Client, kindOf(s),
			acv1alpha1.VirtualMCPServer(s.Name, s.Namespace).WithResourceVersion(s.ResourceVersion).WithStatus(want))
		if err != nil {
			return time.Time{}, client.IgnoreNotFound(err)
		}
		r.writes.set(client.ObjectKeyFromObject(s), statusWrite{uid: s.UID, status: want, at: at})
		var before []metav1ac.ConditionApplyConfiguration
		if have != nil {
			before = have.Conditions
		}
		tellHandOver(ctx, before, want.Conditions)
		r.Client.announce(s, before, want.Conditions)
	}
	r.settle(scope, want)
	return time.Time{}, nil
}

// SetupWithManager starts the controller with the manager.
func (r *VirtualMCPServerReconciler) SetupWithManager(mgr ctrl.Manager) error {
	b, err := watchPrimary(ctrl.NewControllerManagedBy(mgr).Named(VirtualMCPServerController), &v1alpha1.VirtualMCPServer{})
	if err != nil {
		return err
	}
	// The grace of the Leases begins when this replica of the operator begins to work, which is when it is the leader.
	err = mgr.Add(manager.RunnableFunc(func(context.Context) error {
		r.heartbeats.start(now(r.Now))
		return nil
	}))
	if err != nil {
		return fmt.Errorf("adding the start of the heartbeats: %w", err)
	}
	owner := enqueueOwner(mgr, &v1alpha1.VirtualMCPServer{})
	referrers := enqueueReferrers(r.Client, func() client.ObjectList { return &v1alpha1.VirtualMCPServerList{} }, indexGroupRef)
	c, err := b.
		Watches(&corev1.ServiceAccount{}, owner).
		Watches(&rbacv1.Role{}, owner).
		Watches(&rbacv1.RoleBinding{}, owner).
		Watches(&rbacv1.Role{}, r.enqueueAuthRoleUsers(), builder.WithPredicates(authRoles())).
		Watches(&corev1.ConfigMap{}, owner).
		Watches(&coordinationv1.Lease{}, leaseHandler{owner, &r.heartbeats, r.Now}).
		Watches(&appsv1.Deployment{}, owner).
		Watches(&corev1.Service{}, owner).
		Watches(&autoscalingv2.HorizontalPodAutoscaler{}, owner).
		Watches(&v1alpha1.MCPBackend{}, r.enqueueStaticServers(), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.MCPExternalAuthConfig{}, r.enqueueStaticServers()).
		Watches(&corev1.Service{}, r.enqueueStaticServers(), builder.WithPredicates(labelledMembers())).
		Watches(&v1alpha1.MCPGroup{}, referrers, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WithOptions(controllerOptions()).
		Build(r)
	if err != nil {
		return err
	}
	return r.mcpServers.watch(mgr, c, r.enqueueStaticServers())
}
