// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/selection"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// mcpServersInterval is the interval of mcpServers that have none.
const mcpServersInterval = time.Minute

// mcpServers are the MCPServers of mcp.x-k8s.io that join groups by their label. They are the kind of another project, which may not be
// installed, or later.
type mcpServers struct {
	// namespaces are those that the operator watches; none means all.
	namespaces []string
	// interval is the time between two looks whether the kind is installed by now.
	interval time.Duration
	// patience is how long it is nothing to speak of that they have not been read yet.
	patience  time.Duration
	installed atomic.Pointer[installedMCPServers]
}

// installedMCPServers are a cache of their own: that of the manager must know its kinds when it is made, and no controller starts before
// it has read them all. Nobody waits for this one but who needs it: a foreign kind that cannot be read, because its conversion webhook
// is away for example, is the trouble of the groups that take it.
type installedMCPServers struct {
	kind   schema.GroupVersionKind
	cache  cache.Cache
	synced func() bool
	since  time.Time
}

// mcpServersPatience is the patience of mcpServers that have none.
const mcpServersPatience = 30 * time.Second

// unreadRetry is how soon one looks again until then.
const unreadRetry = time.Second

// unreadError says that the MCPServers of the cluster have not been read yet, so that nobody knows which of them belong to a group.
type unreadError struct {
	since time.Time
	long  bool // longer than is normal
}

// Error implements error.
func (e *unreadError) Error() string {
	return fmt.Sprintf("the %s of %s could not be read since %s; what runs goes on with those that it has",
		v1alpha1.MCPServerResource, v1alpha1.MCPServerGroup, e.since.UTC().Format(time.RFC3339))
}

// of lists the MCPServers that are labelled with the group. While the kind is not installed there are none; the error is an unreadError until
// they have been read.
func (m *mcpServers) of(ctx context.Context, g *v1alpha1.MCPGroup) ([]unstructured.Unstructured, error) {
	installed := m.installed.Load()
	if installed == nil {
		return nil, nil
	}
	if !installed.synced() {
		return nil, &unreadError{installed.since, time.Since(installed.since) >= cmp.Or(m.patience, mcpServersPatience)}
	}
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(installed.kind.GroupVersion().WithKind(installed.kind.Kind + "List"))
	err := installed.cache.List(ctx, list, client.InNamespace(g.Namespace), client.MatchingLabels{v1alpha1.GroupLabel: g.Name},
		client.UnsafeDisableDeepCopy)
	return list.Items, err
}

// watch makes the controller hear of MCPServers, from its start if the kind is installed, else from when it is.
func (m *mcpServers) watch(mgr ctrl.Manager, c controller.Controller, wake handler.EventHandler) error {
	found, err := m.look(mgr, c, wake)
	if err != nil || found {
		return err
	}
	if err := mgr.Add(anyReplica(func(ctx context.Context) error {
		m.await(ctx, func() (bool, error) { return m.look(mgr, c, wake) })
		return nil
	})); err != nil {
		return fmt.Errorf("adding the look for MCPServers: %w", err)
	}
	return nil
}

// await looks until the kind is found or ctx ends.
func (m *mcpServers) await(ctx context.Context, look func() (bool, error)) {
	logger, next := log.FromContext(ctx), time.NewTicker(cmp.Or(m.interval, mcpServersInterval))
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		switch found, err := look(); {
		case err != nil:
			logger.Error(err, "Looking whether MCPServers are installed; it is tried again")
		case found:
			logger.Info("MCPServers are installed; those that are labelled join their groups from now on")
			return
		}
	}
}

// look begins the watch if the kind is installed.
func (m *mcpServers) look(mgr ctrl.Manager, c controller.Controller, wake handler.EventHandler) (found bool, err error) {
	mapping, err := mgr.GetRESTMapper().RESTMapping(schema.GroupKind{Group: v1alpha1.MCPServerGroup, Kind: v1alpha1.KindMCPServer})
	switch {
	case meta.IsNoMatchError(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("looking for the kind %s of %s: %w", v1alpha1.KindMCPServer, v1alpha1.MCPServerGroup, err)
	}
	labelled, err := labels.NewRequirement(v1alpha1.GroupLabel, selection.Exists, nil)
	if err != nil {
		return false, fmt.Errorf("selecting MCPServers: %w", err)
	}
	config := watched(m.namespaces)
	config.Scheme, config.Mapper = mgr.GetScheme(), mgr.GetRESTMapper()
	config.DefaultLabelSelector, config.DefaultTransform = labels.NewSelector().Add(*labelled), trimMCPServer
	reader, err := cache.New(mgr.GetConfig(), config)
	if err != nil {
		return false, fmt.Errorf("making the cache of MCPServers: %w", err)
	}
	if err := mgr.Add(anyReplica(reader.Start)); err != nil {
		return false, fmt.Errorf("adding the cache of MCPServers: %w", err)
	}
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(mapping.GroupVersionKind)
	informer, err := reader.GetInformer(context.Background(), object, cache.BlockUntilSynced(false))
	if err != nil {
		return false, fmt.Errorf("making the informer of MCPServers: %w", err)
	}
	if err := c.Watch(&source.Informer{Informer: informer, Handler: wake}); err != nil {
		return false, fmt.Errorf("watching MCPServers: %w", err)
	}
	m.installed.Store(&installedMCPServers{kind: mapping.GroupVersionKind, cache: reader, synced: informer.HasSynced, since: time.Now()})
	return true, nil
}

// trimMCPServer keeps of an MCPServer what v1alpha1.MCPServerMember asks of it.
func trimMCPServer(o any) (any, error) {
	u, ok := o.(*unstructured.Unstructured)
	if !ok {
		return o, nil // a tombstone of the informer
	}
	trimmed := map[string]any{"apiVersion": u.GetAPIVersion(), "kind": u.GetKind()}
	for _, path := range [][]string{{"spec", "config", "port"}, {"spec", "config", "path"}, {"spec", "transport", "tls", "enabled"}} {
		value, found, err := unstructured.NestedFieldNoCopy(u.Object, path...)
		if err == nil && found {
			err = unstructured.SetNestedField(trimmed, value, path...)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("trimming MCPServer %s", u.GetName()), err)
		}
	}
	small := &unstructured.Unstructured{Object: trimmed}
	small.SetName(u.GetName())
	small.SetNamespace(u.GetNamespace())
	small.SetUID(u.GetUID())
	small.SetResourceVersion(u.GetResourceVersion())
	small.SetGeneration(u.GetGeneration())
	small.SetLabels(u.GetLabels())
	return small, nil
}

// anyReplica runs in every replica of the operator, the one that leads or not, so that one that takes over knows what its predecessor knew.
type anyReplica func(context.Context) error

// Start implements manager.Runnable.
func (r anyReplica) Start(ctx context.Context) error { return r(ctx) }

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (anyReplica) NeedLeaderElection() bool { return false }
