// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// SessionKeysController names the controller in its user agent, metrics and logs.
const SessionKeysController = "sessionkeys"

// How soon the operator looks again at a Secret with session keys, of which no watch tells.
const (
	// sessionKeysRecheck is for one that is as it should be, until somebody deletes or damages it.
	sessionKeysRecheck = 10 * time.Minute
	// predecessorRetry is for one that the garbage collector is about to remove.
	predecessorRetry = 5 * time.Second
)

// Reasons of events about session keys.
const (
	// reasonSessionKeysNotOwned says that somebody else's Secret has the name of the one with the keys.
	reasonSessionKeysNotOwned = "SessionKeysNotOwned"
	// reasonSessionKeysRefused says that the API server does not let the operator keep the Secret.
	reasonSessionKeysRefused = "SessionKeysRefused"
	// reasonSessionKeysProvided says that nothing keeps the operator from it any more.
	reasonSessionKeysProvided = "SessionKeysProvided"
	// reasonSessionKeysReplaced says that the keys were lost, and with them the sessions.
	reasonSessionKeysReplaced = "SessionKeysReplaced"
	// reasonSessionKeysRotated says that another key seals from now on. No session ends by it.
	reasonSessionKeysRotated = "SessionKeysRotated"
)

const actionRotate = "Rotate"

// SessionKeysReconciler keeps one Secret for each VirtualMCPServer, with the keys by which its replicas know the sessions that the others
// began. It is a controller of its own so that the one of VirtualMCPServers makes no request for Secrets.
type SessionKeysReconciler struct {
	Client Client
	// Now tells the time; nil means time.Now.
	Now func() time.Time

	seen perObject[seenSessionKeys]
}

// seenSessionKeys is what the last look at a Secret found, so that events tell what is new.
type seenSessionKeys struct {
	uid types.UID // of the VirtualMCPServer
	// provided says that the Secret was as it should be.
	provided bool
	// obstacle is the reason why it could not be.
	obstacle string
}

// +kubebuilder:rbac:groups=vmcp.dev,resources=virtualmcpservers,verbs=get;list;watch
// +kubebuilder:rbac:groups=vmcp.dev,resources=virtualmcpservers/finalizers,verbs=update
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;create;patch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Reconcile provides the keys of one VirtualMCPServer and comes back when something is due, or to see whether they are still there.
func (r *SessionKeysReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	server := &v1alpha1.VirtualMCPServer{}
	if err := r.Client.Get(ctx, req.NamespacedName, server); err != nil {
		if apierrors.IsNotFound(err) {
			r.seen.forget(req.NamespacedName)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	// The Secret of a deleted object goes with it: the garbage collector follows the owner reference.
	if !server.DeletionTimestamp.IsZero() || paused(server) {
		return ctrl.Result{}, nil
	}
	due, err := r.provide(ctx, server)
	if apierrors.IsConflict(err) { // somebody was faster: decide once more
		due, err = r.provide(ctx, server)
	}
	if foreign, ok := errors.AsType[*notOwnedError](err); ok && foreign.predecessor {
		return ctrl.Result{RequeueAfter: predecessorRetry}, nil
	}
	if namespaceTerminating(err) {
		return ctrl.Result{}, nil
	}
	if reason := sessionKeysObstacle(err); reason != "" {
		r.tellObstacle(ctx, server, reason, err)
		return ctrl.Result{RequeueAfter: wait.Jitter(foreignObjectRetry, recheckJitter)}, nil
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	at := now(r.Now)
	return requeueBefore(ctrl.Result{RequeueAfter: wait.Jitter(sessionKeysRecheck, recheckJitter)}, at, due), nil
}

// provide looks at the Secret, and writes it if it is not as it should be at present. It returns when something is due.
func (r *SessionKeysReconciler) provide(ctx context.Context, s *v1alpha1.VirtualMCPServer) (time.Time, error) {
	key := client.ObjectKey{Namespace: s.Namespace, Name: v1alpha1.OperandName(s.Name)}
	// client-go logs the bodies of requests and answers at verbosity 8.
	quiet := logr.NewContext(ctx, logr.Discard())
	live, err := find[corev1.Secret](quiet, r.Client.Live, key)
	if err != nil {
		return time.Time{}, fmt.Errorf("reading Secret %s: %w", key.Name, err)
	}
	var have sessionKeys
	if live != nil {
		have = sessionKeysOf(live)
	}
	want, due := have.turn(rotationRequest(s), now(r.Now), newSessionKey)
	if _, err := ensureFrom(quiet, r.Client, s, live, newSessionKeysSecret(s, want), corev1ac.ExtractSecret); err != nil {
		return time.Time{}, err
	}
	r.tellProvided(ctx, s, live != nil, have, want)
	return due, nil
}

// newSessionKey makes a key that nobody knows.
func newSessionKey() []byte {
	key := make([]byte, configv1alpha1.SessionKeySize)
	_, _ = rand.Read(key) // never fails
	return key
}

// sessionKeysObstacle is the reason of an error that a person has to do something about; "" is no obstacle.
func sessionKeysObstacle(err error) string {
	if _, ok := errors.AsType[*notOwnedError](err); ok {
		return reasonSessionKeysNotOwned
	}
	if apierrors.IsForbidden(err) || apierrors.IsInvalid(err) {
		return reasonSessionKeysRefused
	}
	return ""
}

// seenOf is what was seen of an object, and not of an earlier one of its name.
func (r *SessionKeysReconciler) seenOf(s *v1alpha1.VirtualMCPServer) seenSessionKeys {
	if seen, ok := r.seen.get(client.ObjectKeyFromObject(s)); ok && seen.uid == s.UID {
		return seen
	}
	return seenSessionKeys{uid: s.UID}
}

// tellObstacle says once what keeps the operator from providing keys. What runs goes on with those that it has.
func (r *SessionKeysReconciler) tellObstacle(ctx context.Context, s *v1alpha1.VirtualMCPServer, reason string, err error) {
	seen := r.seenOf(s)
	if seen.obstacle == reason {
		return
	}
	seen.obstacle = reason
	r.seen.set(client.ObjectKeyFromObject(s), seen)
	log.FromContext(ctx).Error(err, "Session keys cannot be provided", "reason", reason)
	r.Client.tell(s, transition{corev1.EventTypeWarning, reason, actionProvision,
		fmt.Sprintf("%v; replicas without keys do not know each other's sessions, which end with the pod", err)})
}

// tellProvided says what became of the keys. It never tells a key.
func (r *SessionKeysReconciler) tellProvided(ctx context.Context, s *v1alpha1.VirtualMCPServer, found bool, have, want sessionKeys) {
	seen, logger, name := r.seenOf(s), log.FromContext(ctx), v1alpha1.OperandName(s.Name)
	if seen.obstacle != "" {
		r.Client.tell(s, transition{corev1.EventTypeNormal, reasonSessionKeysProvided, actionProvision, fmt.Sprintf("Secret %s holds the session keys", name)})
	}
	switch {
	case have.current == nil && (found || seen.provided):
		logger.Info("Session keys were lost and are replaced", "secret", name)
		r.Client.tell(s, transition{corev1.EventTypeWarning, reasonSessionKeysReplaced, actionProvision,
			fmt.Sprintf("Secret %s was deleted or had no key that can be used; it has new keys, and sessions that began with the lost ones end", name)})
	case have.current == nil:
		logger.Info("Session keys provided", "secret", name)
	case !bytes.Equal(have.current, want.current):
		logger.Info("Session keys rotated", "secret", name)
		r.Client.tell(s, transition{corev1.EventTypeNormal, reasonSessionKeysRotated, actionRotate,
			fmt.Sprintf("new sessions are sealed with the next key of Secret %s; those from before go on", name)})
	}
	r.seen.set(client.ObjectKeyFromObject(s), seenSessionKeys{uid: s.UID, provided: true})
}

// SetupWithManager starts the controller with the manager.
func (r *SessionKeysReconciler) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).Named(SessionKeysController).
		Watches(&v1alpha1.VirtualMCPServer{}, &handler.EnqueueRequestForObject{}, builder.WithPredicates(sessionKeysConcerned())).
		WithOptions(controllerOptions()).
		Complete(r)
}

// sessionKeysConcerned passes what may change the Secret of a VirtualMCPServer. A report of the runtime does not: it would cost a request.
func sessionKeysConcerned() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool { return !paused(e.Object) },
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, after := e.ObjectOld, e.ObjectNew
			return !paused(after) && (paused(before) || before.GetUID() != after.GetUID() || before.GetGeneration() != after.GetGeneration() ||
				before.GetAnnotations()[v1alpha1.RotateSessionKeysAnnotation] != after.GetAnnotations()[v1alpha1.RotateSessionKeysAnnotation])
		},
	}
}
