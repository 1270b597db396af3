// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/vmcp-dev/vmcp-operator/runtime/kube"
)

const (
	// leaseTimeout bounds one request for the Lease.
	leaseTimeout = 5 * time.Second
	// maxTimeouts is after how many renewals in a row without any answer the connection counts as dead. One may be chance, and a
	// second one still leaves time for a renewal over another connection before ReportWithin is over.
	maxTimeouts = 2
)

// LeasePolicy holds the times of the Lease. They form a ladder, so that at no time two processes think that they may write: the
// holder renews every RenewInterval; it stops reporting ReportWithin after its last renewal; only then, TakeAfter, another replica
// takes the Lease; and only if none did so, after Duration, the operator takes the status over. The holder counts from before it
// sent the renewal, all others from when they saw it, by their own clocks: no clocks are compared.
type LeasePolicy struct {
	// Duration is what the Lease says of itself, in whole seconds.
	Duration time.Duration
	// TakeAfter is how long another holder's Lease has to stay as it is before it is taken.
	TakeAfter time.Duration
	// ReportWithin is how long after its last renewal the holder may report.
	ReportWithin time.Duration
	// RenewInterval is the time between two renewals.
	RenewInterval time.Duration
	// RetryInterval is the time to the next try after one that failed.
	RetryInterval time.Duration
}

// DefaultLeasePolicy is the one that the operator counts on.
func DefaultLeasePolicy() LeasePolicy {
	const duration = 60 * time.Second
	return LeasePolicy{
		Duration:      duration,
		TakeAfter:     45 * time.Second,
		ReportWithin:  duration * 2 / 3,
		RenewInterval: 20 * time.Second,
		RetryInterval: time.Second,
	}
}

// Pauses tells of times during which this process stood still. See pause.Detector.
type Pauses interface {
	// Resumed is when the process went on after the last pause, zero when there was none. It is safe for concurrent use.
	Resumed() time.Time
	// OnResume has a function called after each pause. It must not block.
	OnResume(do func())
}

// Leases reads, watches and updates Leases of one namespace.
type Leases interface {
	kube.Getter[*coordinationv1.Lease]
	Update(ctx context.Context, lease *coordinationv1.Lease, options metav1.UpdateOptions) (*coordinationv1.Lease, error)
}

// ElectorOptions describe a candidate for a Lease. All fields without a remark are required.
type ElectorOptions struct {
	Leases Leases
	// Name is that of the Lease.
	Name string
	// Owner is the UID of the object that the Lease belongs to. A Lease of another owner, one that was created under the same name
	// later, is no Lease of ours. Empty means any.
	Owner types.UID
	// Identity names the candidate. Of several processes with one identity each goes on where the other left, so it must be unique
	// among those that run at one time; the name of the pod is.
	Identity string
	// Policy is the one by which the Lease is held. Zero means DefaultLeasePolicy.
	Policy LeasePolicy
	// Pauses tells of pauses of the process, after which a Lease that it held may be another's. It may be nil.
	Pauses Pauses
	// Changed, if not nil, is called after the Lease was taken or lost. It must not block, nor call the Elector.
	Changed func()
	// Unanswered, if not nil, is called after renewals in a row that the API server did not answer.
	Unanswered func()
	Logger     *slog.Logger
}

// Elector holds, or waits for, the Lease that says which replica of a runtime reports. Unlike client-go's leader election it
// watches the Lease rather than polling it, takes it at once when it is released, and never creates it: the operator does, so that
// the runtime's rights can name it.
type Elector struct {
	leases     Leases
	name       string
	owner      types.UID
	identity   string
	policy     LeasePolicy
	pauses     Pauses
	logger     *slog.Logger
	changed    func()
	unanswered func()

	timeouts int                   // renewals in a row without an answer; owned by Run
	doubtful *coordinationv1.Lease // what the last take was to change, if nobody knows whether it did; owned by Run

	mu       sync.Mutex
	lease    *coordinationv1.Lease // as last seen, nil when there is none
	observed time.Time             // when lease was first seen in its present state
	taken    time.Time             // when we took the Lease
	renewed  time.Time             // when our last successful renewal was sent; zero while we do not hold the Lease
	regained time.Time             // see Regained
	wake     chan struct{}
}

// NewElector makes a candidate.
func NewElector(o ElectorOptions) *Elector {
	e := &Elector{
		leases: o.Leases, name: o.Name, owner: o.Owner, identity: o.Identity, policy: o.Policy, pauses: o.Pauses, logger: o.Logger, changed: o.Changed,
		unanswered: o.Unanswered, wake: make(chan struct{}, 1),
	}
	if e.policy == (LeasePolicy{}) {
		e.policy = DefaultLeasePolicy()
	}
	if e.pauses != nil {
		e.pauses.OnResume(func() { signal(e.wake) })
	}
	return e
}

// Leading says that this replica may report: it holds the Lease and renewed it a short time ago, and since the process last stood
// still. It is safe for concurrent use.
func (e *Elector) Leading() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.leading(time.Now())
}

func (e *Elector) leading(now time.Time) bool {
	return !e.renewed.IsZero() && now.Sub(e.renewed) < e.policy.ReportWithin && !e.resumed().After(e.renewed)
}

// Holding says whether this replica holds the Lease as far as it knows, and since when. It is safe for concurrent use.
func (e *Elector) Holding() (holding bool, since time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.renewed.IsZero(), e.taken
}

// Regained is when this replica last could report again after a time in which it could not although the Lease was its own: the API
// server was out of reach, or the process stood still. It is zero when there was none, and safe for concurrent use.
func (e *Elector) Regained() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.regained
}

// Verify reads the Lease itself, for the watch of it may lag behind.
func (e *Elector) Verify(ctx context.Context) error {
	current, err := e.leases.Get(ctx, e.name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("reading Lease %s: %w", e.name, err)
	}
	e.see(current)
	return nil
}

func (e *Elector) resumed() time.Time {
	if e.pauses == nil {
		return time.Time{}
	}
	return e.pauses.Resumed()
}

// Run takes and renews the Lease until ctx ends, then releases it.
func (e *Elector) Run(ctx context.Context) {
	var watching sync.WaitGroup
	watching.Go(func() { kube.FollowOne(ctx, e.logger, e.leases, e.name, e.see, nil) })
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(e.step(ctx))
		select {
		case <-ctx.Done():
			watching.Wait()
			e.release(ctx)
			return
		case <-e.wake:
		case <-timer.C:
		}
	}
}

// see takes over what the watch, or an answer to an update, shows of the Lease.
func (e *Elector) see(lease *coordinationv1.Lease) {
	if lease != nil && e.owner != "" && !slices.ContainsFunc(lease.OwnerReferences, func(r metav1.OwnerReference) bool { return r.UID == e.owner }) {
		lease = nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if lease != nil && e.lease != nil && !kube.Newer(lease, e.lease) {
		return // the watch lags behind the answers to our updates
	}
	e.lease = lease
	e.observed = time.Now()
	if !e.renewed.IsZero() && holder(lease) != e.identity {
		e.renewed = time.Time{}
		e.logger.Info("Lost the Lease: another replica reports the status", "lease", e.name, "holder", holder(lease))
		e.notify()
	}
	signal(e.wake)
}

// step does what is due and says when the next thing is.
func (e *Elector) step(ctx context.Context) time.Duration {
	e.mu.Lock()
	lease, wait := e.lease, e.due(time.Now())
	e.mu.Unlock()
	if lease == nil {
		return e.policy.Duration // the watch will show it
	}
	if wait > 0 {
		return wait
	}
	err := e.take(ctx, lease)
	e.count(ctx, err)
	e.doubtful = nil
	if err != nil && !apierrors.IsConflict(err) {
		e.doubtful = lease
	}
	switch {
	case err == nil:
		return e.policy.RenewInterval
	case apierrors.IsConflict(err):
		e.logger.Debug("The Lease changed while it was being renewed", "lease", e.name)
	case ctx.Err() == nil:
		e.logger.Warn("Could not renew the Lease", "lease", e.name, "error", err)
	}
	return e.policy.RetryInterval
}

// count counts renewals that got no answer, and tells when there were too many.
func (e *Elector) count(ctx context.Context, err error) {
	if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
		e.timeouts = 0
		return
	}
	if e.timeouts++; e.timeouts == maxTimeouts && e.unanswered != nil {
		e.timeouts = 0
		e.unanswered()
	}
}

// due is the time until the Lease is to be renewed or taken; zero or less means now.
func (e *Elector) due(now time.Time) time.Duration {
	switch holder(e.lease) {
	case "":
		return 0
	case e.identity:
		if e.renewed.IsZero() || e.resumed().After(e.renewed) {
			return 0 // a former process of this pod held it, or this one before a pause
		}
		return e.policy.RenewInterval - now.Sub(e.renewed)
	default:
		return e.policy.TakeAfter - now.Sub(e.observed)
	}
}

// take makes us the holder of the Lease, or renews that we are. A conflict means that somebody was faster; the watch will show who.
func (e *Elector) take(ctx context.Context, seen *coordinationv1.Lease) error {
	sent := time.Now()
	lease := seen.DeepCopy()
	now := metav1.NewMicroTime(sent)
	if holder(lease) != e.identity {
		lease.Spec.AcquireTime = &now
		transitions := int32(1)
		if lease.Spec.LeaseTransitions != nil {
			transitions += *lease.Spec.LeaseTransitions
		}
		lease.Spec.LeaseTransitions = &transitions
	}
	seconds := int32(e.policy.Duration / time.Second) //nolint:gosec // A policy counts in seconds.
	lease.Spec.HolderIdentity = &e.identity
	lease.Spec.LeaseDurationSeconds = &seconds
	lease.Spec.RenewTime = &now
	updated, err := e.update(ctx, lease)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.lease != nil && kube.Newer(e.lease, updated) {
		return nil // the watch was faster, and shows that it is no longer ours
	}
	took := e.renewed.IsZero()
	regained := !took && !e.leading(time.Now())
	e.lease, e.observed, e.renewed = updated, time.Now(), sent
	switch {
	case took:
		e.taken = e.observed
		e.logger.Info("Holding the Lease: this replica reports the status", "lease", e.name)
		e.notify()
	case regained:
		e.regained = e.observed
		e.notify()
	}
	return nil
}

func (e *Elector) update(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, leaseTimeout)
	defer cancel()
	updated, err := e.leases.Update(ctx, lease, metav1.UpdateOptions{})
	if apierrors.IsConflict(err) {
		// What we saw is outdated, be it by a write of ours whose answer was lost.
		_ = e.Verify(ctx) // what is still wrong then, the watch puts right
	}
	if err != nil {
		return nil, fmt.Errorf("updating Lease %s: %w", e.name, err)
	}
	return updated, nil
}

// release gives the Lease back, so that the next replica need not wait for it to expire. It outlives ctx for a moment. A take that was cut may
// have been committed, or be so yet: the release either conflicts with it, and is made once more, or comes first and voids it.
func (e *Elector) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseTimeout)
	defer cancel()
	lease := e.stepDown()
	if lease == nil || holder(lease) != e.identity && lease != e.doubtful {
		return
	}
	err := e.free(ctx, lease)
	if apierrors.IsConflict(err) {
		if lease = e.stepDown(); holder(lease) != e.identity {
			return
		}
		err = e.free(ctx, lease)
	}
	if err != nil {
		e.logger.Warn("Could not release the Lease; the next replica waits for it to expire", "lease", e.name, "error", err)
	}
}

// stepDown has us report no more, and returns the Lease as last seen.
func (e *Elector) stepDown() *coordinationv1.Lease {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.renewed = time.Time{}
	return e.lease
}

// free leaves a Lease without a holder.
func (e *Elector) free(ctx context.Context, seen *coordinationv1.Lease) error {
	lease := seen.DeepCopy()
	none, now, second := "", metav1.NewMicroTime(time.Now()), int32(1)
	lease.Spec.HolderIdentity = &none
	lease.Spec.LeaseDurationSeconds = &second
	lease.Spec.RenewTime = &now
	_, err := e.update(ctx, lease)
	return err
}

// notify tells that Leading may have changed. It is called with e.mu held, so changed must not call back.
func (e *Elector) notify() {
	if e.changed != nil {
		e.changed()
	}
}

func holder(lease *coordinationv1.Lease) string {
	if lease == nil || lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *lease.Spec.HolderIdentity
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
