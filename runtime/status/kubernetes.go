// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	vmcpac "github.com/vmcp-dev/vmcp-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/kube"
)

const (
	// applyInterval is the least time between two writes of the status. The first change after a quiet time is written at once.
	applyInterval = 5 * time.Second
	// applyTimeout bounds one request for the VirtualMCPServer.
	applyTimeout = 10 * time.Second
	// minBackoff and maxBackoff bound the time to the next try after the API server did not take a status.
	minBackoff = time.Second
	maxBackoff = 30 * time.Second
)

// Observer hears about writes of the status: err is nil when it was taken.
type Observer func(err error)

// KubeReporter reports into the status of the VirtualMCPServer. It applies, on the server and under a field manager of its own, the
// fields that the runtime owns; it writes when they differ from what the object holds, and in steady state not at all.
type KubeReporter struct {
	clients  *kube.Clients
	name     string
	identity Identity
	logger   *slog.Logger
	wrote    Observer
	elector  *Elector
	wake     chan struct{}

	mu     sync.Mutex
	report *Report
	object *v1alpha1.VirtualMCPServer // as last seen, nil when there is none
}

// NewKubeReporter makes the reporter for the named VirtualMCPServer. wrote may be nil.
func NewKubeReporter(clients *kube.Clients, name string, id Identity, logger *slog.Logger, wrote Observer) *KubeReporter {
	k := &KubeReporter{clients: clients, name: name, identity: id, logger: logger, wrote: wrote, wake: make(chan struct{}, 1)}
	k.elector = NewElector(clients.Leases, v1alpha1.OperandName(name), id.Reporter, logger, func() { signal(k.wake) })
	return k
}

// Report implements Reporter.
func (k *KubeReporter) Report(r Report) {
	k.mu.Lock()
	k.report = &r
	k.mu.Unlock()
	signal(k.wake)
}

// Run implements Reporter. At the end it releases the Lease.
func (k *KubeReporter) Run(ctx context.Context) error {
	// The elector and its Lease outlive the last write of the status.
	electing, release := context.WithCancel(context.WithoutCancel(ctx))
	var tasks sync.WaitGroup
	tasks.Go(func() { k.elector.Run(electing) })
	defer tasks.Wait()
	defer release()

	var watching sync.WaitGroup
	watching.Go(func() { kube.FollowOne(ctx, k.logger, k.clients.VirtualMCPServers, k.name, k.see) })
	defer watching.Wait()

	var (
		notBefore time.Time // of the next write
		backoff   = minBackoff
		timer     = time.NewTimer(time.Hour)
	)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-k.wake:
		case <-timer.C:
		}
		intent := k.decide(time.Now())
		if intent == nil {
			continue
		}
		if wait := time.Until(notBefore); wait > 0 {
			timer.Reset(wait)
			continue
		}
		switch err := k.write(ctx, intent); {
		case err == nil:
			backoff = minBackoff
			notBefore = time.Now().Add(applyInterval)
		case ctx.Err() != nil:
			return nil
		case apierrors.IsConflict(err):
			// Somebody else changed the object. write read it again: decide on that.
			notBefore = time.Now().Add(100 * time.Millisecond)
		default:
			k.logger.Warn("Could not report the status", "virtualMCPServer", k.name, "error", err, "retryAfter", backoff)
			notBefore = time.Now().Add(backoff)
			backoff = min(2*backoff, maxBackoff)
		}
		signal(k.wake) // look again: at what is still different, or at what changed meanwhile
	}
}

// see takes over what the watch, or an answer, shows of the object.
func (k *KubeReporter) see(object *v1alpha1.VirtualMCPServer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if object != nil && k.object != nil && !kube.Newer(object, k.object) {
		return // the watch lags behind the answers to our writes
	}
	k.object = object
	signal(k.wake)
}

// intent is a status to apply, and the state of the object that it was decided on.
type intent struct {
	status *vmcpac.VirtualMCPServerStatusApplyConfiguration
	on     *v1alpha1.VirtualMCPServer
}

// decide says what is to be written, or nil when nothing is.
func (k *KubeReporter) decide(now time.Time) *intent {
	if !k.elector.Leading() {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.report == nil || k.object == nil || k.object.DeletionTimestamp != nil {
		return nil
	}
	status := Build(*k.report, k.identity, &k.object.Status, now)
	same, err := applied(k.object, status)
	if err != nil {
		// The managed fields are not readable as ours; an apply puts them right.
		k.logger.Warn("Could not compare the status with the object", "virtualMCPServer", k.name, "error", err)
	}
	if same {
		return nil
	}
	return &intent{status: status, on: k.object}
}

// write applies an intent. It carries the resource version that it was decided on: when the object has changed since, or is
// another one of the same name, the API server refuses it with a conflict.
func (k *KubeReporter) write(ctx context.Context, i *intent) error {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	object, err := k.clients.VirtualMCPServers.ApplyStatus(ctx,
		vmcpac.VirtualMCPServer(k.name, i.on.Namespace).WithResourceVersion(i.on.ResourceVersion).WithStatus(i.status),
		metav1.ApplyOptions{FieldManager: v1alpha1.RuntimeFieldManager, Force: true})
	if k.wrote != nil {
		k.wrote(err)
	}
	if apierrors.IsConflict(err) {
		current, getErr := k.clients.VirtualMCPServers.Get(ctx, k.name, metav1.GetOptions{})
		if getErr == nil {
			k.see(current)
		}
	}
	if err != nil {
		return fmt.Errorf("applying the status of VirtualMCPServer %s: %w", k.name, err)
	}
	k.see(object)
	if before, after := i.on.Status.Phase, object.Status.Phase; before != after {
		k.logger.Info("Phase changed", "virtualMCPServer", k.name, "from", before, "to", after, "message", object.Status.Message)
		k.recordTransition(ctx, object)
	}
	return nil
}
