// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"maps"

	libhandler "github.com/operator-framework/operator-lib/handler"
	"k8s.io/apimachinery/pkg/api/equality"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// watchPrimary watches the kind that a controller reconciles, with operator-lib's metric of when its objects were created. Of
// paused objects it passes only what pausedUntold lets through.
func watchPrimary(b *builder.Builder, o client.Object) (*builder.Builder, error) {
	pause, err := pausePredicate()
	if err != nil {
		return nil, err
	}
	return b.Watches(o, &libhandler.InstrumentedEnqueueRequestForObject[client.Object]{}, builder.WithPredicates(pause)), nil
}

// enqueueOwner wakes the controller for the object that controls the one of the event.
func enqueueOwner(mgr ctrl.Manager, owner client.Object) handler.EventHandler {
	return handler.EnqueueRequestForOwner(mgr.GetScheme(), mgr.GetRESTMapper(), owner, handler.OnlyControllerOwner())
}

// enqueueReferrers wakes the controller for the objects whose index holds the name of the object of the event.
func enqueueReferrers(c client.Reader, newList func() client.ObjectList, index string) handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
		list := newList()
		if err := c.List(ctx, list, client.InNamespace(o.GetNamespace()), client.MatchingFields{index: o.GetName()}); err != nil {
			log.FromContext(ctx).Error(err, "Looking up who refers to an object", "index", index, "name", o.GetName())
			return nil
		}
		return requestsFor(list)
	})
}

func requestsFor(list client.ObjectList) []reconcile.Request {
	var requests []reconcile.Request
	add := func(o client.Object) {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(o)})
	}
	switch list := list.(type) {
	case *v1alpha1.VirtualMCPServerList:
		for i := range list.Items {
			add(&list.Items[i])
		}
	case *v1alpha1.MCPBackendList:
		for i := range list.Items {
			add(&list.Items[i])
		}
	}
	return requests
}

// existenceChanged passes the coming and going of objects, not their changes.
func existenceChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(event.UpdateEvent) bool { return false }}
}

// labelledMembers passes what happens to objects that join a group by a label, or joined one before.
func labelledMembers() predicate.Predicate {
	joins := func(o client.Object) bool { return v1alpha1.Joins(o, o.GetLabels()[v1alpha1.GroupLabel]) }
	p := predicate.NewPredicateFuncs(joins)
	return predicate.Funcs{
		CreateFunc: p.Create, DeleteFunc: p.Delete, GenericFunc: p.Generic,
		UpdateFunc: func(e event.UpdateEvent) bool { return joins(e.ObjectOld) || joins(e.ObjectNew) },
	}
}

// metadataChanged says whether an update touches what the operator applies to an object whose spec is somebody else's.
func metadataChanged(before, after client.Object) bool {
	return !maps.Equal(before.GetLabels(), after.GetLabels()) ||
		!equality.Semantic.DeepEqual(before.GetOwnerReferences(), after.GetOwnerReferences())
}
