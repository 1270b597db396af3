// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	apiv2 "github.com/operator-framework/api/pkg/operators/v2"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/internal/olm"
)

// OperatorConditionController names what speaks to OLM in its user agent, metrics, logs and readiness check.
const OperatorConditionController = "operatorcondition"

// conditionOperandsAvailable is the summary of the operands, beside the condition Upgradeable. OLM shows it and does nothing about it.
const conditionOperandsAvailable = "OperandsAvailable"

const (
	// statementInterval is how long changes gather before OLM is told of them.
	statementInterval = 5 * time.Second
	// statementLife is how long a statement is trusted to stand: it is compared with the OperatorCondition again after that.
	statementLife = time.Minute
)

// OLMSettings are what the operator needs to know where OLM installed it.
type OLMSettings struct {
	// NewFactory finds the OperatorCondition, and the conditions in it.
	NewFactory olm.NewFactory
	// Interval is how long changes gather before OLM is told of them; zero means 5 s.
	Interval time.Duration
}

// operatorConditionReconciler tells OLM whether this version of the operator may be replaced, and how its operands are. There is one
// OperatorCondition, so that it has one request, which any change of a VirtualMCPServer, an MCPBackend or a Deployment of theirs brings
// about within interval. It reads them from the cache.
type operatorConditionReconciler struct {
	reader    client.Reader
	condition *olm.OperatorCondition
	// announced says whether the first word was said: what the leader says follows it.
	announced func() bool
	// servers and backends say what became of each VirtualMCPServer, and of each MCPBackend with a bridge.
	servers, backends *examinations

	interval time.Duration
	// judged is called when the leader has said a verdict.
	judged func()

	// started is when this process began to lead; said is what it has said, and when the OperatorCondition last said the same.
	started time.Time
	said    []olm.Statement
	saidAt  time.Time
}

// setupOperatorCondition adds to the manager what speaks to OLM: the first word, which every replica says and readiness waits for,
// and the leader's, which follow.
func setupOperatorCondition(mgr ctrl.Manager, settings *OLMSettings, servers, backends *examinations) error {
	config := rest.CopyConfig(mgr.GetConfig())
	config.UserAgent = UserAgentPrefix + OperatorConditionController
	condition, err := olm.New(config, mgr.GetRESTMapper(), settings.NewFactory)
	if err != nil {
		return err
	}
	judged := make(chan struct{})
	announcement := &olm.Announcement{
		Condition: condition,
		First: statement(apiv2.Upgradeable, isFalse(reasonStarting,
			"this version has not looked yet at what it has to roll out")),
		Overdue: statement(apiv2.Upgradeable, isTrue(reasonNoLeader,
			"no replica of the operator has led long enough to look at what this version has to roll out")),
		Patience: progressDeadline,
		Elected:  mgr.Elected(),
		Judged:   judged,
		Log:      mgr.GetLogger().WithName(OperatorConditionController),
	}
	if err := mgr.Add(announcement); err != nil {
		return fmt.Errorf("adding the first word to OLM: %w", err)
	}
	if err := mgr.AddReadyzCheck(OperatorConditionController, announcement.Check); err != nil {
		return fmt.Errorf("adding the readiness check of the OperatorCondition: %w", err)
	}
	r := &operatorConditionReconciler{
		reader: mgr.GetCache(), condition: condition, announced: announcement.Done, servers: servers, backends: backends,
		interval: settings.Interval, judged: sync.OnceFunc(func() { close(judged) }),
	}
	if r.interval == 0 {
		r.interval = statementInterval
	}
	return r.setupWithManager(mgr)
}

func statement(conditionType string, v verdict) olm.Statement {
	return olm.Statement{Type: conditionType, Status: v.status, Reason: v.reason, Message: truncate(v.message, maxMessage)}
}

// Reconcile judges, and says what is new.
func (r *operatorConditionReconciler) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	if !r.announced() {
		return ctrl.Result{RequeueAfter: r.interval}, nil
	}
	servers, bridged, err := r.observe(ctx)
	if err != nil {
		return ctrl.Result{}, err
	}
	at := time.Now()
	var statements []olm.Statement
	verdict, again := upgradeable(slices.Concat(servers, bridged), r.started, at)
	if verdict.status != "" {
		statements = append(statements, statement(apiv2.Upgradeable, verdict))
	} else {
		// No watch tells when the last of them has been examined.
		again = earliest(again, at.Add(r.interval))
	}
	statements = append(statements, statement(conditionOperandsAvailable, operandsAvailable(servers)))
	if err := r.say(ctx, statements, at); err != nil {
		return ctrl.Result{}, err
	}
	if verdict.status != "" {
		r.judged()
	}
	return requeueBefore(ctrl.Result{}, at, again, r.saidAt.Add(statementLife)), nil
}

// say tells OLM what it was not told yet. What was said lately is not even compared.
func (r *operatorConditionReconciler) say(ctx context.Context, statements []olm.Statement, at time.Time) error {
	if slices.Equal(statements, r.said) && at.Before(r.saidAt.Add(statementLife)) {
		return nil
	}
	written, err := r.condition.State(ctx, statements...)
	for _, s := range written {
		log.FromContext(ctx).Info("Told OLM", "condition", s.Type, "value", s.Status, "reason", s.Reason, "message", s.Message)
	}
	if err != nil {
		return err
	}
	r.said, r.saidAt = statements, at
	return nil
}

// observe gathers what is known of every VirtualMCPServer, and of every MCPBackend with a bridge, that is not being deleted. The objects
// are the cache's own, so that nothing is copied, and are only read.
func (r *operatorConditionReconciler) observe(ctx context.Context) (servers, bridged []operandState, err error) {
	gateways, backends, deployments := &v1alpha1.VirtualMCPServerList{}, &v1alpha1.MCPBackendList{}, &appsv1.DeploymentList{}
	for _, list := range []client.ObjectList{gateways, backends, deployments} {
		if err := r.reader.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
			return nil, nil, fmt.Errorf("listing into %T: %w", list, err)
		}
	}
	byOwner := make(map[types.UID]*appsv1.Deployment, len(deployments.Items))
	for i := range deployments.Items {
		if owner := metav1.GetControllerOfNoCopy(&deployments.Items[i]); owner != nil {
			byOwner[owner.UID] = &deployments.Items[i]
		}
	}
	servers = make([]operandState, 0, len(gateways.Items))
	for i := range gateways.Items {
		if s := &gateways.Items[i]; s.DeletionTimestamp.IsZero() {
			servers = append(servers, r.servers.state(s, byOwner[s.UID]))
		}
	}
	for i := range backends.Items {
		if b := &backends.Items[i]; b.DeletionTimestamp.IsZero() && hasBridge(b) {
			bridged = append(bridged, r.backends.state(b, byOwner[b.UID]))
		}
	}
	return servers, bridged, nil
}

func (r *operatorConditionReconciler) setupWithManager(mgr ctrl.Manager) error {
	var request reconcile.Request
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	changed := handler.Funcs{
		CreateFunc: func(_ context.Context, _ event.CreateEvent, q queue) { q.AddAfter(request, r.interval) },
		UpdateFunc: func(_ context.Context, _ event.UpdateEvent, q queue) { q.AddAfter(request, r.interval) },
		DeleteFunc: func(_ context.Context, _ event.DeleteEvent, q queue) { q.AddAfter(request, r.interval) },
	}
	options := controllerOptions()
	options.MaxConcurrentReconciles = 1
	return ctrl.NewControllerManagedBy(mgr).Named(OperatorConditionController).
		// There is something to say without any VirtualMCPServer, too. Sources start when this process leads, before the first request.
		WatchesRawSource(source.Func(func(_ context.Context, q queue) error {
			r.started = time.Now()
			q.Add(request)
			return nil
		})).
		Watches(&v1alpha1.VirtualMCPServer{}, changed).
		Watches(&v1alpha1.MCPBackend{}, changed).
		Watches(&appsv1.Deployment{}, changed).
		WithOptions(options).
		Complete(r)
}

// examination is what this process found when it last reconciled an object to its end.
type examination struct {
	// object is the one that was examined.
	object types.UID
	// deployment is that of its pods, if there is one, and generation what the Deployment was at afterwards.
	deployment types.UID
	generation int64
	// stalled is the reason for which only a person can help, or "".
	stalled string
}

// examinations are those of all objects of a kind. The controller of these writes them, that of the OperatorCondition reads them.
type examinations struct{ perObject[examination] }

// note keeps what a reconciliation of an object came to, its Deployment and why it is stalled, unless what failed is to be tried again at
// once.
func (e *examinations) note(o client.Object, d *appsv1.Deployment, stalled string, failed error) {
	if e == nil || (failed != nil && !needsPerson(failed) && !namespaceTerminating(failed)) {
		return
	}
	found := examination{object: o.GetUID(), stalled: stalled}
	if d != nil {
		found.deployment, found.generation = d.UID, d.Generation
	}
	e.set(client.ObjectKeyFromObject(o), found)
}

// gone drops what is kept about an object that was deleted, or is none of those to be examined any more.
func (e *examinations) gone(key client.ObjectKey) {
	if e != nil {
		e.forget(key)
	}
}

// state is what is known of an object and its Deployment, which may be nil. An object that is paused needs no examination: the operator
// leaves it alone.
func (e *examinations) state(o client.Object, d *appsv1.Deployment) operandState {
	state := operandState{object: o, deployment: d}
	found, ok := e.get(client.ObjectKeyFromObject(o))
	switch {
	case ok && found.object == o.GetUID():
		state.stalled = found.stalled
		// The cache of the Deployments may be behind the controller's own writes.
		state.examined = d == nil || d.UID != found.deployment || d.Generation >= found.generation
	case paused(o):
		state.examined = true
		fallthrough
	default:
		if c := meta.FindStatusCondition(conditionsOf(o), v1alpha1.ConditionStalled); c != nil && c.Status == metav1.ConditionTrue {
			state.stalled = c.Reason
		}
	}
	return state
}
