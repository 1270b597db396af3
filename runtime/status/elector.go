// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/vmcp-dev/vmcp-operator/runtime/kube"
)

// Times of the Lease. They form a ladder, so that at no time two processes think that they may write: the holder renews every
// renewInterval; it stops reporting reportWithin after its last renewal; only then, takeAfter, another replica takes the
// Lease; and only if none did so, after leaseDuration, the operator takes the status over. The holder counts from before it sent the
// renewal, all others from when they saw it, by their own clocks: no clocks are compared.
const (
	leaseDuration = 60 * time.Second
	takeAfter     = 45 * time.Second
	reportWithin  = leaseDuration * 2 / 3
	renewInterval = 20 * time.Second
	retryInterval = time.Second
	// leaseTimeout bounds one request for the Lease.
	leaseTimeout = 5 * time.Second
)

// Leases reads, watches and updates Leases of one namespace.
type Leases interface {
	kube.Getter[*coordinationv1.Lease]
	Update(ctx context.Context, lease *coordinationv1.Lease, options metav1.UpdateOptions) (*coordinationv1.Lease, error)
}

// Elector holds, or waits for, the Lease that says which replica of a runtime reports. Unlike client-go's leader election it
// watches the Lease rather than polling it, takes it at once when it is released, and never creates it: the operator does, so that
// the runtime's rights can name it.
type Elector struct {
	leases   Leases
	name     string
	identity string
	logger   *slog.Logger
	changed  func()

	mu       sync.Mutex
	lease    *coordinationv1.Lease // as last seen, nil when there is none
	observed time.Time             // when lease was first seen in its present state
	renewed  time.Time             // when our last successful renewal was sent; zero while we do not hold the Lease
	wake     chan struct{}
}

// NewElector makes the candidate identity for the named Lease. Of several processes with one identity each goes on where the
// other left, so it must be unique among those that run at one time; the name of the pod is. changed is called, when not nil,
// after the Lease was taken or lost.
func NewElector(leases Leases, name, identity string, logger *slog.Logger, changed func()) *Elector {
	return &Elector{leases: leases, name: name, identity: identity, logger: logger, changed: changed, wake: make(chan struct{}, 1)}
}

// Leading says that this replica may report: it holds the Lease and renewed it a short time ago. It is safe for concurrent use.
func (e *Elector) Leading() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.leading(time.Now())
}

func (e *Elector) leading(now time.Time) bool {
	return !e.renewed.IsZero() && now.Sub(e.renewed) < reportWithin
}

// Run takes and renews the Lease until ctx ends, then releases it.
func (e *Elector) Run(ctx context.Context) {
	var watching sync.WaitGroup
	watching.Go(func() { kube.FollowOne(ctx, e.logger, e.leases, e.name, e.see) })
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
		return leaseDuration // the watch will show it
	}
	if wait > 0 {
		return wait
	}
	err := e.take(ctx, lease)
	switch {
	case err == nil:
		return renewInterval
	case apierrors.IsConflict(err):
		e.logger.Debug("The Lease changed while it was being renewed", "lease", e.name)
	case ctx.Err() == nil:
		e.logger.Warn("Could not renew the Lease", "lease", e.name, "error", err)
	}
	return retryInterval
}

// due is the time until the Lease is to be renewed or taken; zero or less means now.
func (e *Elector) due(now time.Time) time.Duration {
	switch holder(e.lease) {
	case "":
		return 0
	case e.identity:
		if e.renewed.IsZero() {
			return 0 // a former process of this pod held it
		}
		return renewInterval - now.Sub(e.renewed)
	default:
		return takeAfter - now.Sub(e.observed)
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
	seconds := int32(leaseDuration / time.Second)
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
	resumed := !took && !e.leading(sent)
	e.lease, e.observed, e.renewed = updated, time.Now(), sent
	if took {
		e.logger.Info("Holding the Lease: this replica reports the status", "lease", e.name)
	}
	if took || resumed {
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
		current, getErr := e.leases.Get(ctx, e.name, metav1.GetOptions{})
		if getErr == nil {
			e.see(current)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("updating Lease %s: %w", e.name, err)
	}
	return updated, nil
}

// release gives the Lease back, so that the next replica need not wait for it to expire. It outlives ctx for a moment.
func (e *Elector) release(ctx context.Context) {
	e.mu.Lock()
	lease, held := e.lease, !e.renewed.IsZero()
	e.renewed = time.Time{}
	e.mu.Unlock()
	if !held || lease == nil {
		return
	}
	lease = lease.DeepCopy()
	none, now, second := "", metav1.NewMicroTime(time.Now()), int32(1)
	lease.Spec.HolderIdentity = &none
	lease.Spec.LeaseDurationSeconds = &second
	lease.Spec.RenewTime = &now
	if _, err := e.update(context.WithoutCancel(ctx), lease); err != nil {
		e.logger.Warn("Could not release the Lease; the next replica waits for it to expire", "lease", e.name, "error", err)
	}
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
