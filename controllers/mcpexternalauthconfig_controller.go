// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	rbacv1ac "k8s.io/client-go/applyconfigurations/rbac/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// MCPExternalAuthConfigController names the controller in its user agent, metrics and logs.
const MCPExternalAuthConfigController = "mcpexternalauthconfig"

// MCPExternalAuthConfigReconciler keeps one Role for each MCPExternalAuthConfig, which may read exactly those of the Secrets it names
// that are labelled as credentials, and says whether all of them are. Who gets the Role is for others to say: the VirtualMCPServer
// and the MCPGroup controller bind it.
type MCPExternalAuthConfigReconciler struct {
	Client Client
	// Now tells the time; nil means time.Now.
	Now func() time.Time
}

// This controller only gets the metadata of Secrets that are named. The operator holds watch as well, and both without resourceNames,
// because the API server refuses a Role with more rights than its author has as an escalation. It may list no Secret.
//
// +kubebuilder:rbac:groups=vmcp.dev,resources=mcpexternalauthconfigs,verbs=get;list;watch
// +kubebuilder:rbac:groups=vmcp.dev,resources=mcpexternalauthconfigs/status,verbs=patch
// +kubebuilder:rbac:groups=vmcp.dev,resources=mcpexternalauthconfigs/finalizers,verbs=update
// +kubebuilder:rbac:groups=rbac.authorization.k8s.io,resources=roles,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;watch

// Reconcile provisions the Role of one MCPExternalAuthConfig and writes its status once, at the end.
func (r *MCPExternalAuthConfigReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	c := &v1alpha1.MCPExternalAuthConfig{}
	if err := r.Client.Get(ctx, req.NamespacedName, c); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	// The Role of a deleted object goes with it: the garbage collector follows the owner reference.
	if !c.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil
	}
	status, err := statusOfAuthConfig(c)
	if err != nil {
		return ctrl.Result{}, err
	}
	if paused(c) {
		return ctrl.Result{}, status.leaveAlone(ctx, r.Client, now(r.Now))
	}
	facts := authConfigFacts{invalid: c.Validate()}
	if len(facts.invalid) == 0 {
		if err := r.provision(ctx, c, &facts); err != nil {
			return ctrl.Result{}, err
		}
	}
	if err := status.write(ctx, r.Client, newAuthConfigStatus(c, facts, now(r.Now))); err != nil {
		return ctrl.Result{}, err
	}
	result, err := outcome(facts.failedErr)
	if err != nil {
		return ctrl.Result{}, err
	}
	at := now(r.Now)
	return requeueBefore(result, at, facts.credentials.recheckAt(at)), nil
}

// provision looks at the Secrets and applies the Role. It records facts; it returns an error only when there are none yet.
func (r *MCPExternalAuthConfigReconciler) provision(ctx context.Context, c *v1alpha1.MCPExternalAuthConfig, f *authConfigFacts) error {
	var err error
	if f.credentials, err = lookAtCredentials(ctx, r.Client.Live, c.Namespace, c.Spec.SecretUses()); err != nil {
		return err
	}
	_, err = ensure[rbacv1.Role](ctx, r.Client, c, newAuthRole(c, f.credentials.allowed), rbacv1ac.ExtractRole)
	if apierrors.IsConflict(err) {
		return err
	}
	f.failedErr = err
	return nil
}

// newAuthRole is the Role that may read the Secrets. A watch with fieldSelector=metadata.name=NAME is served by resourceNames; without
// a name in them a rule would be about all Secrets, so there is none then.
func newAuthRole(c *v1alpha1.MCPExternalAuthConfig, secrets []string) *rbacv1ac.RoleApplyConfiguration {
	role := rbacv1ac.Role(v1alpha1.AuthRoleName(c.Name), c.Namespace).
		WithLabels(map[string]string{
			v1alpha1.ManagedByLabel:     v1alpha1.ManagedByValue,
			v1alpha1.AuthConfigLabel:    c.Name,
			"app.kubernetes.io/part-of": "vmcp",
		}).
		WithOwnerReferences(ownerReference(c))
	if len(secrets) > 0 {
		role.WithRules(rbacv1ac.PolicyRule().
			WithAPIGroups("").
			WithResources("secrets").
			WithResourceNames(secrets...).
			WithVerbs("get", "watch"))
	}
	return role
}

// SetupWithManager starts the controller with the manager.
func (r *MCPExternalAuthConfigReconciler) SetupWithManager(mgr ctrl.Manager) error {
	b, err := watchPrimary(ctrl.NewControllerManagedBy(mgr).Named(MCPExternalAuthConfigController), &v1alpha1.MCPExternalAuthConfig{})
	if err != nil {
		return err
	}
	return b.
		Watches(&rbacv1.Role{}, enqueueOwner(mgr, &v1alpha1.MCPExternalAuthConfig{})).
		WithOptions(controllerOptions()).
		Complete(r)
}
