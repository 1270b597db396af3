// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"strconv"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// leaseAt is the state of a Lease after so many changes of its spec; versions count its changes of any kind.
func leaseAt(version int, holder string, renewal int) *coordinationv1.Lease {
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{UID: "lease", ResourceVersion: strconv.Itoa(version)},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity: new(holder),
			// Of another clock, which is far behind.
			RenewTime: &metav1.MicroTime{Time: time.Unix(int64(renewal), 0)},
		},
	}
}

// A story is told in seconds since the operator started. What the watch shows is seen; at every look that is due the API server is
// read, and shows the last state, or fails while it is away.
func TestHeartbeat(t *testing.T) {
	t.Parallel()
	type span struct{ from, to int }
	for name, c := range map[string]struct {
		seen map[int]*coordinationv1.Lease
		// behind is what only the API server shows, not the watch.
		behind map[int]*coordinationv1.Lease
		away   span
		frozen span // the operator itself
		lost   int  // the second in which the reporter counts as gone; 0: never in five minutes
		reason string
	}{
		"renewed": {
			seen: renewals(0, 300),
		},
		"held, then silent": {
			seen: renewals(0, 100), lost: 160, reason: "HeartbeatLost",
		},
		"silent since before the operator started": {
			seen: map[int]*coordinationv1.Lease{0: leaseAt(1, "a", 1)}, lost: 60, reason: "HeartbeatLost",
		},
		"released since before the operator started": {
			seen: map[int]*coordinationv1.Lease{0: leaseAt(1, "", 1)}, lost: 60, reason: "Released",
		},
		"released, no successor": {
			seen: with(renewals(0, 100), 110, leaseAt(110, "", 110)), lost: 120, reason: "Released",
		},
		"released, successor in time": {
			seen: with(with(renewals(0, 100), 110, leaseAt(110, "", 110)), 119, leaseAt(119, "b", 119)), lost: 179, reason: "HeartbeatLost",
		},
		"released soon after the operator started": {
			seen: with(renewals(0, 20), 25, leaseAt(25, "", 25)), lost: 35, reason: "Released",
		},
		"released, and no successor could take it": {
			seen: with(renewals(0, 100), 110, leaseAt(110, "", 110)), away: span{111, 119}, lost: 175, reason: "Released",
		},
		"a change of the metadata is no sign of life": {
			seen: with(renewals(0, 100), 130, leaseAt(130, "a", 101)), lost: 160, reason: "HeartbeatLost",
		},
		"an older state is no sign of life": {
			seen:   with(renewals(0, 100), 130, leaseAt(80, "a", 80)),
			behind: map[int]*coordinationv1.Lease{130: leaseAt(101, "a", 101)}, lost: 160, reason: "HeartbeatLost",
		},
		"the watch is broken, the API server shows renewals": {
			seen: renewals(0, 100), behind: renewals(120, 300),
		},
		"the API server is away and the runtime cannot renew": {
			seen: with(renewals(0, 100), 161, leaseAt(161, "a", 161)), away: span{115, 159}, lost: 221, reason: "HeartbeatLost",
		},
		"the API server was away, then the runtime is silent": {
			seen: renewals(0, 100), away: span{115, 155}, lost: 210, reason: "HeartbeatLost",
		},
		"the operator was frozen": {
			seen: renewals(0, 100), frozen: span{101, 200}, lost: 260, reason: "HeartbeatLost",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			start := time.Now()
			h := heartbeat{since: start}
			var live *coordinationv1.Lease
			lost := 0
			for second := range 300 {
				now := start.Add(time.Duration(second) * time.Second)
				if lease := c.seen[second]; lease != nil {
					h, live = h.see(lease, now), lease
				}
				if lease := c.behind[second]; lease != nil {
					live = lease
				}
				if second >= c.frozen.from && second < c.frozen.to {
					continue
				}
				if next := h.nextLook(); !next.IsZero() && !now.Before(next) {
					if second >= c.away.from && second < c.away.to {
						h = h.blind(now)
					} else {
						h = h.look(live, now)
					}
				}
				if h.lost != "" {
					lost = second
					break
				}
			}
			g.Expect(lost).To(Equal(c.lost))
			g.Expect(h.lost).To(Equal(c.reason))
		})
	}
}

// renewals are a renewal by the holder a every 20 s.
func renewals(from, to int) map[int]*coordinationv1.Lease {
	seen := map[int]*coordinationv1.Lease{}
	for second := from; second <= to; second += 20 {
		seen[second] = leaseAt(second+1, "a", second+1)
	}
	return seen
}

func with(seen map[int]*coordinationv1.Lease, second int, lease *coordinationv1.Lease) map[int]*coordinationv1.Lease {
	seen[second] = lease
	return seen
}

// Between renewals the API server is asked nothing.
func TestHeartbeatAsksNothingWhileRenewed(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	start := time.Now()
	h := heartbeat{since: start}
	for second := range 300 {
		now := start.Add(time.Duration(second) * time.Second)
		if second%20 == 0 {
			h = h.see(leaseAt(second+1, "a", second+1), now)
		}
		g.Expect(now.Before(h.nextLook())).To(BeTrue(), "second %d", second)
	}
}

// A loss stays one until there is a sign of life, and is answered once.
func TestHeartbeatIsLostOnce(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	start := time.Now()
	lease := leaseAt(1, "a", 1)
	h := heartbeat{since: start}.see(lease, start)
	for second := 30; second <= 60; second += 10 {
		h = h.look(lease, start.Add(time.Duration(second)*time.Second))
	}
	g.Expect(h.lost).To(Equal("HeartbeatLost"))
	g.Expect(h.nextLook()).To(Equal(h.looked), "the takeover is decided on what is true when it is sent")
	h.takenOver = true
	g.Expect(h.nextLook()).To(BeZero())

	again := h.see(leaseAt(2, "a", 2), start.Add(time.Hour))
	g.Expect(again.lost).To(BeEmpty())
	g.Expect(again.takenOver).To(BeFalse())
	reborn := leaseAt(1, "", 0)
	reborn.UID = types.UID("another")
	again = h.see(reborn, start.Add(time.Hour))
	g.Expect(again.lost).To(BeEmpty())
	g.Expect(again.deadline()).To(Equal(start.Add(time.Hour + handOverTimeout)))
}

// The watch notes every renewal when it shows it, and wakes the controller only for what it has to act on.
func TestLeaseEvents(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	at := time.Now()
	woken := 0
	l := leaseHandler{
		EventHandler: handler.Funcs{
			UpdateFunc: func(context.Context, event.UpdateEvent, workqueue.TypedRateLimitingInterface[reconcile.Request]) {
				woken++
			},
		},
		heartbeats: &heartbeats{},
		now:        func() time.Time { return at },
	}
	known := func() heartbeat {
		_, h := l.heartbeats.update(client.ObjectKey{}, at, func(h heartbeat) heartbeat { return h })
		return h
	}
	show := func(before, after *coordinationv1.Lease) int {
		at, woken = at.Add(20*time.Second), 0
		l.Update(t.Context(), event.UpdateEvent{ObjectOld: before, ObjectNew: after}, nil)
		return woken
	}
	started := at
	l.Create(t.Context(), event.CreateEvent{Object: leaseAt(1, "", 0)}, nil)
	g.Expect(known().since).To(Equal(started))

	g.Expect(show(leaseAt(1, "", 0), leaseAt(2, "a", 1))).To(Equal(1), "taken")
	g.Expect(show(leaseAt(2, "a", 1), leaseAt(3, "a", 2))).To(BeZero(), "renewed")
	g.Expect(known().changed).To(Equal(at))
	renewed := at
	g.Expect(show(leaseAt(3, "a", 2), leaseAt(3, "a", 2))).To(BeZero(), "shown again")
	g.Expect(known().changed).To(Equal(renewed))
	relabelled := leaseAt(4, "a", 2)
	relabelled.Labels = map[string]string{"a": "b"}
	g.Expect(show(leaseAt(3, "a", 2), relabelled)).To(Equal(1), "changed in what is ours")
	g.Expect(known().changed).To(Equal(renewed))

	for _, after := range []time.Duration{lookAfter, heartbeatTimeout} {
		l.heartbeats.update(client.ObjectKey{}, at, func(h heartbeat) heartbeat { return h.look(leaseAt(4, "a", 2), renewed.Add(after)) })
	}
	g.Expect(known().lost).To(Equal("HeartbeatLost"))
	g.Expect(show(leaseAt(4, "a", 2), leaseAt(5, "a", 3))).To(Equal(1), "a sign of life after a loss")

	l.Delete(t.Context(), event.DeleteEvent{Object: leaseAt(5, "a", 3)}, nil)
	g.Expect(known().holder).To(BeEmpty())
	g.Expect(known().since).To(Equal(started), "the grace after the start is over for all")
}
