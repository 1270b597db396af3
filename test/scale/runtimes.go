// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/discovery"
	"github.com/vmcp-dev/vmcp-operator/runtime/health"
	"github.com/vmcp-dev/vmcp-operator/runtime/kube"
	"github.com/vmcp-dev/vmcp-operator/runtime/status"
)

const (
	// toolsPerBackend is how many tools every backend is said to offer.
	toolsPerBackend = 10
	// probeTime is how long backends take to answer: nothing is reported of them before.
	probeTime = 200 * time.Millisecond
)

// runtimes are the fakes of the runtimes: for every pod that is ready, the StatusReporter of the real one, with the Lease and all, and a
// report by which every backend is ready. What they find out, of pods, configurations and backends, comes from one cache for all.
type runtimes struct {
	config *rest.Config
	cache  cache.Cache
	ctx    context.Context // of the runtimes' lives: informers call without one

	mu      sync.Mutex
	running map[types.UID]*fakeRuntime
	tasks   sync.WaitGroup
}

// fakeRuntime is the runtime of one pod.
type fakeRuntime struct {
	key      client.ObjectKey // of the VirtualMCPServer
	changed  chan struct{}
	stop     context.CancelFunc
	reporter *status.KubeReporter
}

// newRuntimes fills the cache and follows the pods until ctx ends.
func newRuntimes(ctx context.Context, config *rest.Config, c client.Client) (*runtimes, error) {
	ours := cache.ByObject{Label: labels.SelectorFromSet(labels.Set{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue})}
	watching := rest.CopyConfig(config)
	watching.UserAgent = "vmcp-scale/cache"
	all, err := cache.New(watching, cache.Options{
		Scheme: c.Scheme(), Mapper: c.RESTMapper(), ByObject: map[client.Object]cache.ByObject{&corev1.ConfigMap{}: ours, &corev1.Pod{}: ours},
	})
	if err != nil {
		return nil, fmt.Errorf("building the cache of the runtimes: %w", err)
	}
	r := &runtimes{config: config, cache: all, ctx: ctx, running: map[types.UID]*fakeRuntime{}}
	for _, follow := range []struct {
		object  client.Object
		handler toolscache.ResourceEventHandlerFuncs
	}{
		{&v1alpha1.VirtualMCPServer{}, toolscache.ResourceEventHandlerFuncs{}},
		{&corev1.Pod{}, toolscache.ResourceEventHandlerFuncs{
			AddFunc: r.podChanged, UpdateFunc: func(_, o any) { r.podChanged(o) }, DeleteFunc: r.podGone,
		}},
		{&corev1.ConfigMap{}, toolscache.ResourceEventHandlerFuncs{AddFunc: r.configChanged, UpdateFunc: func(_, o any) { r.configChanged(o) }}},
		{&v1alpha1.MCPBackend{}, toolscache.ResourceEventHandlerFuncs{AddFunc: r.backendAdded}},
	} {
		informer, err := all.GetInformer(ctx, follow.object)
		if err != nil {
			return nil, fmt.Errorf("watching %T: %w", follow.object, err)
		}
		if _, err := informer.AddEventHandler(follow.handler); err != nil {
			return nil, fmt.Errorf("watching %T: %w", follow.object, err)
		}
	}
	r.tasks.Go(func() { _ = all.Start(ctx) }) // it only returns when ctx has ended
	if !all.WaitForCacheSync(ctx) {
		return nil, fmt.Errorf("filling the cache of the runtimes: %w", context.Cause(ctx))
	}
	return r, nil
}

// wait returns when all runtimes have ended, which they do with the context of newRuntimes.
func (r *runtimes) wait() { r.tasks.Wait() }

func (r *runtimes) podChanged(o any) {
	pod, ok := o.(*corev1.Pod)
	server := ""
	if ok {
		server = pod.Labels[v1alpha1.VirtualMCPServerLabel]
	}
	if server == "" {
		return
	}
	if pod.DeletionTimestamp != nil {
		r.podGone(pod)
		return
	}
	if !podReady(pod) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running[pod.UID] != nil {
		return
	}
	ctx, stop := context.WithCancel(r.ctx)
	f := &fakeRuntime{key: client.ObjectKey{Namespace: pod.Namespace, Name: server}, changed: make(chan struct{}, 1), stop: stop}
	r.running[pod.UID] = f
	r.tasks.Go(func() {
		if err := r.run(ctx, f, pod.Name); err != nil {
			slog.Error("A fake runtime cannot run", "virtualMCPServer", f.key, "error", err)
		}
	})
}

func (r *runtimes) podGone(o any) {
	if unknown, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
		o = unknown.Obj
	}
	pod, ok := o.(*corev1.Pod)
	if !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if f := r.running[pod.UID]; f != nil {
		f.stop()
		delete(r.running, pod.UID)
	}
}

func (r *runtimes) configChanged(o any) {
	if m, ok := o.(*corev1.ConfigMap); ok {
		r.wake(func(f *fakeRuntime) bool {
			return f.key.Namespace == m.Namespace && m.Name == v1alpha1.OperandName(f.key.Name)
		})
	}
}

func (r *runtimes) backendAdded(o any) {
	if b, ok := o.(*v1alpha1.MCPBackend); ok {
		r.wake(func(f *fakeRuntime) bool { return f.key.Namespace == b.Namespace })
	}
}

func (r *runtimes) wake(who func(*fakeRuntime) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.running {
		if !who(f) {
			continue
		}
		select {
		case f.changed <- struct{}{}:
		default:
		}
	}
}

// run reports for one pod until ctx ends.
func (r *runtimes) run(ctx context.Context, f *fakeRuntime, pod string) error {
	clients, err := kube.New(r.config, f.key.Namespace, f.key.Name)
	if err != nil {
		return err
	}
	configuration, err := r.configuration(ctx, f.key)
	if err != nil {
		return err
	}
	f.reporter = status.NewKubeReporter(status.KubeReporterOptions{
		Clients: clients, Name: f.key.Name, UID: configuration.UID,
		Identity: status.Identity{Reporter: pod, Version: "scale"}, Logger: slog.New(slog.DiscardHandler),
	})
	var reporting sync.WaitGroup
	reporting.Go(func() { _ = f.reporter.Run(ctx) }) // it only returns when ctx has ended
	defer reporting.Wait()
	probed := time.NewTimer(probeTime)
	defer probed.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-probed.C:
			report, err := r.report(ctx, f.key)
			if err != nil {
				return err
			}
			f.reporter.Report(report)
			continue
		case <-f.changed:
		case <-f.reporter.Changed():
		}
		probed.Reset(probeTime)
	}
}

func (r *runtimes) configuration(ctx context.Context, server client.ObjectKey) (*configv1alpha1.RuntimeConfiguration, error) {
	m := &corev1.ConfigMap{}
	if err := r.cache.Get(ctx, client.ObjectKey{Namespace: server.Namespace, Name: v1alpha1.OperandName(server.Name)}, m); err != nil {
		return nil, err
	}
	return configv1alpha1.Parse([]byte(m.Data[configv1alpha1.FileName]))
}

// report is what a runtime would report whose backends all answer.
func (r *runtimes) report(ctx context.Context, server client.ObjectKey) (status.Report, error) {
	c, err := r.configuration(ctx, server)
	if err != nil {
		return status.Report{}, err
	}
	report := status.Report{
		AsOf: time.Now(), Generation: c.Generation, Group: c.Group, Discovered: true,
		Static: c.Source == v1alpha1.OutgoingAuthSourceInline,
	}
	var targets []backend.Target
	if report.Static {
		for i := range c.Backends {
			targets = append(targets, backend.Target{Key: backend.Key{Kind: c.Backends[i].Kind, Name: c.Backends[i].Name}})
		}
	} else {
		list := &v1alpha1.MCPBackendList{}
		if err := r.cache.List(ctx, list, client.InNamespace(server.Namespace), client.UnsafeDisableDeepCopy); err != nil {
			return status.Report{}, err
		}
		for i := range list.Items {
			if b := &list.Items[i]; b.Spec.GroupRef.Name == c.Group {
				targets = append(targets, discovery.TargetOf(b.Member()))
			}
		}
	}
	for _, t := range targets {
		verdict := health.Verdict{
			Status: v1alpha1.BackendReady, Reason: v1alpha1.ReasonProbeSucceeded, Message: "The backend answers.", Since: report.AsOf,
		}
		report.Backends = append(report.Backends, status.Backend{
			Target: t, Verdict: verdict, ProtocolVersion: "2025-11-25", Tools: toolsPerBackend,
		})
	}
	report.Catalog.Tools = toolsPerBackend * len(report.Backends)
	return report, nil
}

func podReady(pod *corev1.Pod) bool {
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
