// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// Times of the Lease, as the operator counts them. The runtime's own are shorter: a holder renews every 20 s, and another replica
// takes the Lease 45 s after the last renewal.
const (
	// heartbeatTimeout is how long a held Lease may stay as it is before its holder counts as gone. It is also the grace after the
	// operator started, or could not read the Lease: what the runtime did meanwhile is not known.
	heartbeatTimeout = 60 * time.Second
	// handOverTimeout is how long a Lease may stay released before its last holder counts as gone without a successor.
	handOverTimeout = 10 * time.Second
	// A watch that broke unnoticed looks like a runtime that stopped. So a Lease that is overdue, one renewal and a half after its
	// last change, is read from the API server itself, first lookAfter its last change and then every lookInterval. One that is
	// released is looked at in the middle and at the end of the time that a successor has.
	lookAfter        = 30 * time.Second
	lookAfterRelease = handOverTimeout / 2
	lookInterval     = 10 * time.Second
	lookTimeout      = 5 * time.Second
	// maxLookGap is the longest time between two looks over which the operator may say that it could read all the while. A holder
	// renews 20 s after the last time and then tries every second: an API server that was away from then until the Lease would have
	// expired, at 60 s, was away at one of the looks.
	maxLookGap = 40 * time.Second
)

// heartbeat is what this process knows of one Lease. Times are of its own clock; those in the Lease are of another machine's and
// only compared for being the same. Its methods return the next state and change nothing.
type heartbeat struct {
	uid     types.UID
	version string
	holder  string
	renewed time.Time

	// changed is when this process saw holder or renewed change.
	changed time.Time
	// witnessed says that this process saw the holder release the Lease: it was there before and is not any more.
	witnessed bool
	// looked is when the Lease was last known to be as it is here, or a look at it failed.
	looked time.Time
	// since is when the operator started, or was able to read again: before, silence proves nothing.
	since time.Time
	// lost is why the reporter counts as gone, HeartbeatLost or Released, or "". It stays until the Lease changes.
	lost string
	// takenOver says that this loss has been answered with a takeover. There is one for each.
	takenOver bool
}

// see takes in a Lease that a watch, a cache or an answer shows. One that is older than what is known is ignored.
func (h heartbeat) see(lease *coordinationv1.Lease, now time.Time) heartbeat {
	same := h.uid == lease.UID
	if same && !newer(lease.ResourceVersion, h.version) {
		return h
	}
	seen := heartbeat{
		uid: lease.UID, version: lease.ResourceVersion, holder: ptr.Deref(lease.Spec.HolderIdentity, ""),
		changed: now, looked: now, since: h.since,
	}
	if lease.Spec.RenewTime != nil {
		seen.renewed = lease.Spec.RenewTime.Time
	}
	if same && seen.holder == h.holder && seen.renewed.Equal(h.renewed) {
		h.version = lease.ResourceVersion
		return h
	}
	seen.witnessed = same && h.holder != "" && seen.holder == ""
	return seen
}

// newer compares versions of one object (KEP-5504, comparable resource versions).
func newer(a, b string) bool {
	order, err := resourceversion.CompareResourceVersion(a, b)
	return err != nil || order > 0
}

// look takes in the Lease as the API server itself has it, and judges it.
func (h heartbeat) look(lease *coordinationv1.Lease, now time.Time) heartbeat {
	h = h.see(lease, now)
	if h.version != lease.ResourceVersion {
		return h // a watch was faster
	}
	if now.Sub(h.looked) > maxLookGap {
		h.since = now
	}
	h.looked = now
	if now.Before(h.deadline()) {
		h.lost = ""
		return h
	}
	h.lost = v1alpha1.ReasonHeartbeatLost
	if h.holder == "" {
		h.lost = v1alpha1.ReasonReleased
	}
	return h
}

// blind notes that the Lease could not be read: all of the waiting begins anew.
func (h heartbeat) blind(now time.Time) heartbeat {
	h.since, h.looked, h.lost = now, now, ""
	return h
}

// deadline is when the reporter counts as gone if nothing changes. A release that was seen, and nothing missed since, needs no grace.
func (h heartbeat) deadline() time.Time {
	if h.witnessed && !h.since.After(h.changed) {
		return h.changed.Add(handOverTimeout)
	}
	if h.holder == "" {
		return later(h.changed.Add(handOverTimeout), h.since.Add(heartbeatTimeout))
	}
	return later(h.changed, h.since).Add(heartbeatTimeout)
}

// nextLook is when the Lease is to be read from the API server; it is zero once there is nothing more to find out.
func (h heartbeat) nextLook() time.Time {
	switch {
	case h.takenOver:
		return time.Time{}
	case h.lost != "":
		return h.looked // The takeover did not succeed yet: it is decided on what is true now.
	}
	next := h.looked.Add(lookInterval)
	if !h.looked.After(h.changed) { // no look yet
		next = h.changed.Add(lookAfter)
		if h.holder == "" {
			next = h.changed.Add(lookAfterRelease)
		}
	}
	if deadline := h.deadline(); deadline.Before(next) {
		return deadline
	}
	return next
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// heartbeats keeps the heartbeat of every Lease. The zero value is ready for use.
type heartbeats struct {
	mu      sync.Mutex
	started time.Time
	entries map[client.ObjectKey]heartbeat
}

// start notes when the controller started to run; without it, the first use counts.
func (b *heartbeats) start(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.started.IsZero() {
		b.started = now
	}
}

// update replaces the heartbeat of the Lease of that key and returns what it was and is.
func (b *heartbeats) update(key client.ObjectKey, now time.Time, change func(heartbeat) heartbeat) (before, after heartbeat) {
	b.start(now)
	b.mu.Lock()
	defer b.mu.Unlock()
	before, known := b.entries[key]
	if !known {
		before = heartbeat{since: b.started}
	}
	after = change(before)
	if b.entries == nil {
		b.entries = map[client.ObjectKey]heartbeat{}
	}
	b.entries[key] = after
	return before, after
}

func (b *heartbeats) forget(key client.ObjectKey) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.entries, key)
}

// leaseHandler notes every change of a Lease at the moment at which the watch shows it. A renewal wakes nobody; a change of the
// holder, a sign of life after a loss and a change of the metadata wake the controller of the Lease's owner.
type leaseHandler struct {
	handler.EventHandler
	heartbeats *heartbeats
	now        func() time.Time
}

// Create implements handler.EventHandler.
func (l leaseHandler) Create(ctx context.Context, e event.CreateEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
	l.see(e.Object)
	l.EventHandler.Create(ctx, e, q)
}

// Update implements handler.EventHandler.
func (l leaseHandler) Update(ctx context.Context, e event.UpdateEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
	if l.see(e.ObjectNew) || metadataChanged(e.ObjectOld, e.ObjectNew) {
		l.EventHandler.Update(ctx, e, q)
	}
}

// Delete implements handler.EventHandler.
func (l leaseHandler) Delete(ctx context.Context, e event.DeleteEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
	l.heartbeats.forget(client.ObjectKeyFromObject(e.Object))
	l.EventHandler.Delete(ctx, e, q)
}

func (l leaseHandler) see(o client.Object) (wake bool) {
	lease, ok := o.(*coordinationv1.Lease)
	if !ok {
		return false
	}
	at := now(l.now)
	before, after := l.heartbeats.update(client.ObjectKeyFromObject(lease), at, func(h heartbeat) heartbeat { return h.see(lease, at) })
	return before.holder != after.holder || before.lost != after.lost
}
