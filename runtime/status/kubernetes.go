// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	vmcpac "github.com/vmcp-dev/vmcp-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/kube"
	"github.com/vmcp-dev/vmcp-operator/runtime/telemetry"
)

const (
	// applyInterval is the least time between two writes of the status. The first change after a quiet time is written at once.
	applyInterval = 5 * time.Second
	// applyTimeout bounds one request for the VirtualMCPServer.
	applyTimeout = 10 * time.Second
	// minBackoff and maxBackoff bound the time to the next try after the API server did not take a status. It has to be right ten seconds
	// after the API server came back, however long that was away; writes of a status that changes all the time come as often.
	minBackoff = time.Second
	maxBackoff = applyInterval
)

// Observer hears what became of each look at the status, by the results of package telemetry.
type Observer func(result string)

// KubeReporterOptions describe a KubeReporter. All fields without a remark are required.
type KubeReporterOptions struct {
	Clients *kube.Clients
	// Name is that of the VirtualMCPServer.
	Name string
	// UID is that of the VirtualMCPServer. One of another UID is not reported for. Empty means any.
	UID types.UID
	// Identity is that of the process that reports.
	Identity Identity
	// Lease is the policy by which the Lease is held. Zero means DefaultLeasePolicy.
	Lease LeasePolicy
	// Pauses tells of pauses of the process, after which what is to be reported is old. It may be nil.
	Pauses Pauses
	// Applied, if not nil, hears about applies of the status, and about those that nothing was left to do for.
	Applied Observer
	Logger  *slog.Logger
}

// KubeReporter reports into the status of the VirtualMCPServer. It applies, on the server and under a field manager of its own, the
// fields that the runtime owns; it writes when they differ from what the object holds, and in steady state not at all.
type KubeReporter struct {
	clients  *kube.Clients
	name     string
	uid      types.UID
	identity Identity
	pauses   Pauses
	logger   *slog.Logger
	applied  Observer
	elector  *Elector
	wake     chan struct{}
	news     news
	// Owned by Run.
	refused    refused
	eventLimit *rate.Limiter
	leftOut    int // events, since the last one that was made

	mu     sync.Mutex
	report *Report
	object *v1alpha1.VirtualMCPServer // as last seen, nil when there is none
}

// NewKubeReporter makes a reporter. It does nothing before Run.
func NewKubeReporter(o KubeReporterOptions) *KubeReporter {
	k := &KubeReporter{
		clients: o.Clients, name: o.Name, uid: o.UID, identity: o.Identity, pauses: o.Pauses, logger: o.Logger, applied: o.Applied,
		wake: make(chan struct{}, 1), news: newNews(), eventLimit: newEventLimit(),
	}
	if k.applied == nil {
		k.applied = func(string) {}
	}
	k.elector = NewElector(ElectorOptions{
		Leases: o.Clients.Leases, Name: v1alpha1.OperandName(o.Name), Owner: o.UID, Identity: o.Identity.Reporter, Policy: o.Lease, Pauses: o.Pauses,
		Unanswered: o.Clients.Reconnect, Logger: o.Logger,
		Changed: func() {
			signal(k.wake)
			signal(k.news.changed)
		},
	})
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
	watching.Go(func() { kube.FollowOne(ctx, k.logger, k.clients.VirtualMCPServers, k.name, k.see, nil) })
	defer watching.Wait()

	var (
		notBefore time.Time // of the next write
		checked   time.Time // when the object was last read because the watch may have missed something
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
		// The watch may come back much later than the Lease, and show only then that the operator took the status over.
		if regained := k.elector.Regained(); regained.After(checked) {
			if err := k.read(ctx); err != nil {
				k.logger.Warn("Could not look at what was reported meanwhile", "virtualMCPServer", k.name, "error", err)
				timer.Reset(minBackoff)
				continue
			}
			checked = regained
		}
		intent := k.decide(time.Now())
		if intent == nil {
			timer.Reset(k.refused.until(time.Now()))
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
		case k.refused.learn(err, intent.status, time.Now(), k.logger):
			// The rest may be taken.
		default:
			k.logger.Warn("Could not report the status", "virtualMCPServer", k.name, "error", err, "retryAfter", backoff)
			notBefore = time.Now().Add(backoff)
			backoff = longer(backoff)
		}
		signal(k.wake) // look again: at what is still different, or at what changed meanwhile
	}
}

// longer is the backoff after another one.
func longer(backoff time.Duration) time.Duration { return min(2*backoff, maxBackoff) }

// see takes over what the watch, or an answer, shows of the object.
func (k *KubeReporter) see(object *v1alpha1.VirtualMCPServer) {
	if object != nil && k.uid != "" && object.UID != k.uid {
		object = nil // ours was deleted; this one has a runtime of its own
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if object != nil && k.object != nil && !kube.Newer(object, k.object) {
		return // the watch lags behind the answers to our writes
	}
	k.news.compare(k.object, object)
	k.object = object
	signal(k.wake)
}

// read looks at the object itself, for the watch of it may lag behind.
func (k *KubeReporter) read(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	object, err := k.clients.VirtualMCPServers.Get(ctx, k.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil // the watch will show it
	}
	if err != nil {
		return fmt.Errorf("reading VirtualMCPServer %s: %w", k.name, err)
	}
	k.see(object)
	return nil
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
	if k.report == nil || k.object == nil || k.object.DeletionTimestamp != nil || k.report.AsOf.Before(k.since()) {
		return nil
	}
	status := Build(*k.report, k.identity, &k.object.Status, now)
	status, err := k.refused.prune(status, now)
	if err != nil {
		k.logger.Warn("Could not leave out of the status what the API server refuses", "virtualMCPServer", k.name, "error", err)
	}
	same, err := applied(k.object, status)
	if err != nil {
		// The managed fields are not readable as ours; an apply puts them right.
		k.logger.Warn("Could not compare the status with the object", "virtualMCPServer", k.name, "error", err)
	}
	if same {
		k.applied(telemetry.ApplySkipped)
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
		metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
	k.applied(resultOf(err))
	if apierrors.IsConflict(err) {
		// Whoever changed the object may have done so as the holder of the Lease.
		err = errors.Join(err, k.read(ctx), k.elector.Verify(ctx))
	}
	if err != nil {
		return fmt.Errorf("applying the status of VirtualMCPServer %s: %w", k.name, err)
	}
	k.see(object)
	if before, after := i.on.Status.Phase, object.Status.Phase; before != after {
		k.logger.Info("Phase changed", "virtualMCPServer", k.name, "from", before, "to", after, "message", object.Status.Message)
	}
	k.record(ctx, i.on, object)
	return nil
}

// resultOf is what an apply that ended with err comes to. An object that is gone has changed, too.
func resultOf(err error) string {
	switch {
	case err == nil:
		return telemetry.ApplySent
	case apierrors.IsConflict(err), apierrors.IsNotFound(err):
		return telemetry.ApplyConflict
	default:
		return telemetry.ApplyFailed
	}
}
