// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// MCPBackendController names the controller in its user agent, metrics and logs.
const MCPBackendController = "mcpbackend"

// MCPBackendReconciler runs the workloads of MCPBackends and says whether what a backend needs in the cluster is there. Whether the
// backend answers is for the runtimes to say.
type MCPBackendReconciler struct {
	Client Client
	// RuntimeImage is the image that holds the bridge for stdio servers.
	RuntimeImage string
	// Now tells the time; nil means time.Now.
	Now func() time.Time

	// examined tells others what became of each object with a bridge; nil if nobody asks.
	examined *examinations
}

// +kubebuilder:rbac:groups=vmcp.dev,resources=mcpbackends,verbs=get;list;watch
// +kubebuilder:rbac:groups=vmcp.dev,resources=mcpbackends/status,verbs=patch
// +kubebuilder:rbac:groups=vmcp.dev,resources=mcpbackends/finalizers,verbs=update
// +kubebuilder:rbac:groups=vmcp.dev,resources=mcpgroups,verbs=get;list;watch
// +kubebuilder:rbac:groups=apps,resources=deployments,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=services,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=serviceaccounts,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Reconcile provisions one MCPBackend and writes its status once, at the end.
func (r *MCPBackendReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	b := &v1alpha1.MCPBackend{}
	if err := r.Client.Get(ctx, req.NamespacedName, b); err != nil {
		if apierrors.IsNotFound(err) {
			r.examined.gone(req.NamespacedName)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !b.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil
	}
	status, err := statusOfBackend(b)
	if err != nil {
		return ctrl.Result{}, err
	}
	if paused(b) {
		return ctrl.Result{}, status.leaveAlone(ctx, r.Client, now(r.Now))
	}
	facts := mcpBackendFacts{invalid: b.Validate()}
	if len(facts.invalid) == 0 {
		group, err := find[v1alpha1.MCPGroup](ctx, r.Client, client.ObjectKey{Namespace: b.Namespace, Name: b.Spec.GroupRef.Name})
		if err != nil {
			return ctrl.Result{}, fmt.Errorf("reading MCPGroup %s: %w", b.Spec.GroupRef.Name, err)
		}
		facts.groupFound = group != nil
		if err := r.provision(ctx, b, &facts); err != nil {
			return ctrl.Result{}, err
		}
	}
	if err := status.write(ctx, r.Client, newMCPBackendStatus(b, facts, now(r.Now))); err != nil {
		return ctrl.Result{}, err
	}
	r.noteExamined(b, &facts)
	result, err := outcome(facts.failedErr)
	if err != nil {
		return ctrl.Result{}, err
	}
	at := now(r.Now)
	return requeueBefore(result, at, facts.credentials.recheckAt(at)), nil
}

// noteExamined tells what became of a backend with a bridge.
func (r *MCPBackendReconciler) noteExamined(b *v1alpha1.MCPBackend, f *mcpBackendFacts) {
	if !hasBridge(b) {
		r.examined.gone(client.ObjectKeyFromObject(b))
		return
	}
	stalled, _ := f.stalled(b, f.readyVerdict(b))
	r.examined.note(b, f.deployment, stalled, f.failedErr)
}

// provision does what the source of the backend asks for and removes what an earlier source left. It records facts; it returns an
// error only when there are none yet.
func (r *MCPBackendReconciler) provision(ctx context.Context, b *v1alpha1.MCPBackend, f *mcpBackendFacts) error {
	var err error
	switch b.Source() {
	case v1alpha1.BackendSourceWorkload:
		return r.provisionWorkload(ctx, b, f)
	case v1alpha1.BackendSourceService:
		key := client.ObjectKey{Namespace: b.Namespace, Name: b.Spec.Service.Name}
		if f.service, err = find[corev1.Service](ctx, r.Client, key); err != nil {
			return fmt.Errorf("reading Service %s: %w", key.Name, err)
		}
	case v1alpha1.BackendSourceRemote:
		// Nothing to provision.
	}
	f.failedErr = r.removeWorkload(ctx, b)
	return nil
}

func (r *MCPBackendReconciler) provisionWorkload(ctx context.Context, b *v1alpha1.MCPBackend, f *mcpBackendFacts) error {
	var err error
	if f.refusal, err = r.serviceAccountRefusal(ctx, b); err != nil {
		return err
	}
	if f.credentials, err = lookAtCredentials(ctx, r.Client.Live, b.Namespace, b.Spec.Workload.SecretUses()); err != nil {
		return err
	}
	if f.refusal.reason == "" {
		f.refusal = f.credentials.refusal
	}
	if !f.groupFound || f.refusal.reason != "" {
		// What runs already goes on.
		return r.observeWorkload(ctx, b, f)
	}
	f.deployment, err = r.deployWorkload(ctx, b, newWorkloadDeployment(withoutSecrets(b, f.credentials.absent), r.RuntimeImage))
	if err == nil {
		_, err = ensure[corev1.Service](ctx, r.Client, b, newWorkloadService(b), corev1ac.ExtractService)
	}
	if apierrors.IsConflict(err) {
		return err
	}
	f.failedErr = err
	return nil
}

// deployWorkload applies the Deployment of a workload. Of one with a bridge it says which generation its pods have served, as soon as they
// do.
func (r *MCPBackendReconciler) deployWorkload(
	ctx context.Context, b *v1alpha1.MCPBackend, want *appsv1ac.DeploymentApplyConfiguration,
) (*appsv1.Deployment, error) {
	if err := letGoOfReplicas(ctx, r.Client, b, want, 0); err != nil {
		return nil, err
	}
	// It shows the present template, and a status of it or of none.
	d, err := ensure[appsv1.Deployment](ctx, r.Client, b, want, appsv1ac.ExtractDeployment)
	if err != nil || !hasBridge(b) || servesGeneration(d, b.Generation) || deploymentVerdict(d).status != metav1.ConditionTrue {
		return d, err
	}
	return d, noteServedGeneration(ctx, r.Client, d, b.Generation)
}

func (r *MCPBackendReconciler) observeWorkload(ctx context.Context, b *v1alpha1.MCPBackend, f *mcpBackendFacts) error {
	name := v1alpha1.WorkloadName(b.Name)
	d, err := find[appsv1.Deployment](ctx, r.Client, client.ObjectKey{Namespace: b.Namespace, Name: name})
	if err != nil {
		return fmt.Errorf("reading Deployment %s: %w", name, err)
	}
	if d != nil && metav1.IsControlledBy(d, b) {
		f.deployment = d
	}
	return nil
}

// serviceAccountRefusal says why the workload may not run under the ServiceAccount that it names. Whoever may create an MCPBackend
// must not thereby gain the rights of every ServiceAccount of the namespace.
func (r *MCPBackendReconciler) serviceAccountRefusal(ctx context.Context, b *v1alpha1.MCPBackend) (verdict, error) {
	name := b.Spec.Workload.ServiceAccountName
	if name == "" {
		return verdict{}, nil
	}
	account, err := find[corev1.ServiceAccount](ctx, r.Client, client.ObjectKey{Namespace: b.Namespace, Name: name})
	if err != nil {
		return verdict{}, fmt.Errorf("reading ServiceAccount %s: %w", name, err)
	}
	switch {
	case account == nil:
		return isFalse(v1alpha1.ReasonServiceAccountNotFound,
			fmt.Sprintf("ServiceAccount %q does not exist in namespace %q", name, b.Namespace)), nil
	case isOperand(account):
		return isFalse(v1alpha1.ReasonServiceAccountNotAllowed,
			fmt.Sprintf("ServiceAccount %q belongs to a gateway or to the operator", name)), nil
	case account.Labels[v1alpha1.WorkloadServiceAccountLabel] != "true":
		return isFalse(v1alpha1.ReasonServiceAccountNotAllowed,
			fmt.Sprintf("ServiceAccount %q does not carry the label %s: \"true\", by which its owner lets backends run under it",
				name, v1alpha1.WorkloadServiceAccountLabel)), nil
	default:
		return verdict{}, nil
	}
}

// isOperand says whether a ServiceAccount is a gateway's or the operator's own. A label that somebody put on it does not change that.
func isOperand(account *corev1.ServiceAccount) bool {
	_, gateway := account.Labels[v1alpha1.VirtualMCPServerLabel]
	controller := metav1.GetControllerOfNoCopy(account)
	return gateway ||
		account.Labels[v1alpha1.ManagedByLabel] == v1alpha1.ManagedByValue ||
		account.Labels["app.kubernetes.io/name"] == v1alpha1.ManagedByValue ||
		controller != nil && controller.Kind == "VirtualMCPServer"
}

// removeWorkload deletes what a workload left behind when the source of the backend was changed.
func (r *MCPBackendReconciler) removeWorkload(ctx context.Context, b *v1alpha1.MCPBackend) error {
	key := client.ObjectKey{Namespace: b.Namespace, Name: v1alpha1.WorkloadName(b.Name)}
	if err := remove[appsv1.Deployment](ctx, r.Client, b, key); err != nil {
		return fmt.Errorf("removing the Deployment of an earlier workload: %w", err)
	}
	if err := remove[corev1.Service](ctx, r.Client, b, key); err != nil {
		return fmt.Errorf("removing the Service of an earlier workload: %w", err)
	}
	return nil
}

// SetupWithManager starts the controller with the manager.
//
// Services and ServiceAccounts that backends name are watched, not polled: one informer for each of the two kinds, trimmed to what
// is asked for (see CacheOptions), wakes exactly the backends whose index holds the name.
func (r *MCPBackendReconciler) SetupWithManager(mgr ctrl.Manager) error {
	b, err := watchPrimary(ctrl.NewControllerManagedBy(mgr).Named(MCPBackendController), &v1alpha1.MCPBackend{})
	if err != nil {
		return err
	}
	owner := enqueueOwner(mgr, &v1alpha1.MCPBackend{})
	list := func() client.ObjectList { return &v1alpha1.MCPBackendList{} }
	return b.
		Watches(&appsv1.Deployment{}, owner).
		Watches(&corev1.Service{}, owner).
		Watches(&corev1.Service{}, enqueueReferrers(r.Client, list, indexService)).
		Watches(&corev1.ServiceAccount{}, enqueueReferrers(r.Client, list, indexServiceAccount)).
		Watches(&v1alpha1.MCPGroup{}, enqueueReferrers(r.Client, list, indexGroupRef), builder.WithPredicates(existenceChanged())).
		WithOptions(controllerOptions()).
		Complete(r)
}
