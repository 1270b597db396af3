// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// event is something that changes what is true of a backend.
type event string

// What happens to backends.
const (
	joined       event = "joined"
	left         event = "left"
	died         event = "died"
	hung         event = "hung"
	slowed       event = "slow"
	locked       event = "401 (no strategy)"
	rejected     event = "401 (strategy)"
	garbled      event = "garbage"
	recovered    event = "well again"
	withdrawn    event = "credentials removed"
	restored     event = "credentials back"
	rotated      event = "credentials rotated"
	toolsTold    event = "tools changed, told"
	toolsUntold  event = "tools changed, untold"
	beforeTheRun event = "before the run"
)

// absent is the status of a backend that is not listed.
const absent v1alpha1.BackendStatus = ""

// Bounds that are not of one event alone. DESIGN is the design document of this repository's owners; the sections named are its.
const (
	// silence is how long a status may be old without saying so while the runtime is frozen, cut off or dead: 60 s of the Lease, and a
	// takeover (issue 6; DESIGN 3, "The Lease is the one lock").
	silence = 65 * time.Second
	// reportInterval is the least time between two reports: the first change at once, further ones at most every 5 s (DESIGN 5).
	reportInterval = 5 * time.Second
	// roundDeadline is how long a runtime that was started, or woke up, may take before it reports and serves on its own knowledge: a
	// verdict on every backend, or its deadline (DESIGN 3; section 8's bound on an idle backend).
	roundDeadline = 15 * time.Second
	// apiReturn is how soon the status has to be right after the API server came back (issue 6, Shows).
	apiReturn = 10 * time.Second
	// resolution is how exactly the watcher knows when a report was written: it sees it arrive. No bound on the truth has it in it, only
	// the reckoning of reportInterval.
	resolution = 250 * time.Millisecond
)

// rule is what an event makes true, and how soon that has to show.
type rule struct {
	event event
	// want is the status that is right from then on, unless same: then it is what it was.
	want v1alpha1.BackendStatus
	same bool
	// via are states that are right on the way there.
	via []v1alpha1.BackendStatus
	// leave is how long the state before may stay, status how long it may take to come to want, list how long the list of tools may
	// stay as it was. With traffic, busy takes the place of all three unless it is zero.
	leave, status, list, busy time.Duration
	// byAPI says that the runtime hears of the event from the API server.
	byAPI bool
	// source is where the bounds are from.
	source string
}

// recovery is the longest pause between probes (5 s and a tenth, DESIGN 5), and an answer that is not slow (2 s). No design names
// a bound for the way back; this one follows from the times that it does name. The interval between reports comes on top.
const recovery = 7500 * time.Millisecond

// rules is the one table of bounds.
var rules = index([]rule{
	{
		// The runtime may read the credentials of one with a strategy a moment later: the operator has to bind the right first.
		event: joined, want: v1alpha1.BackendReady, via: []v1alpha1.BackendStatus{v1alpha1.BackendUnauthenticated}, leave: 5 * time.Second, status: 5 * time.Second, list: 5 * time.Second, byAPI: true,
		source: "issue 6, Shows: a backend that joins is seen within 5 s",
	},
	{
		event: left, want: absent, leave: 5 * time.Second, status: 5 * time.Second, list: 5 * time.Second, byAPI: true,
		source: "issue 6, Shows: one that leaves is gone within 5 s",
	},
	{
		event: died, want: v1alpha1.BackendUnavailable, via: []v1alpha1.BackendStatus{v1alpha1.BackendDegraded},
		leave: 15 * time.Second, status: 15 * time.Second, list: 15 * time.Second, busy: 5 * time.Second,
		source: "DESIGN 8: refused or reset, 5 s under traffic, 15 s idle",
	},
	{
		event: hung, want: v1alpha1.BackendUnavailable, via: []v1alpha1.BackendStatus{v1alpha1.BackendDegraded},
		leave: 10 * time.Second, status: 20 * time.Second, list: 20 * time.Second,
		source: "DESIGN 8: hangs, degraded within 10 s, unavailable within 20 s",
	},
	{
		event: slowed, want: v1alpha1.BackendDegraded, leave: 10 * time.Second, status: 10 * time.Second, list: 10 * time.Second,
		source: "DESIGN 8: what hangs is at first slow: degraded within 10 s; DESIGN 5: and served",
	},
	{
		event: locked, want: v1alpha1.BackendUnauthenticated, via: []v1alpha1.BackendStatus{v1alpha1.BackendDegraded},
		leave: 15 * time.Second, status: 15 * time.Second, list: 15 * time.Second,
		source: "DESIGN 8: as one that dies while idle",
	},
	{
		event: rejected, want: v1alpha1.BackendUnauthenticated, via: []v1alpha1.BackendStatus{v1alpha1.BackendDegraded},
		leave: 15 * time.Second, status: 15 * time.Second, list: 15 * time.Second,
		source: "DESIGN 8: as one that dies while idle",
	},
	{
		event: garbled, want: v1alpha1.BackendUnavailable, via: []v1alpha1.BackendStatus{v1alpha1.BackendDegraded},
		leave: 15 * time.Second, status: 15 * time.Second, list: 15 * time.Second,
		source: "DESIGN 8: as one that dies while idle",
	},
	{
		event: recovered, want: v1alpha1.BackendReady, via: []v1alpha1.BackendStatus{v1alpha1.BackendDegraded},
		leave: recovery, status: recovery, list: recovery,
		source: "DESIGN 5: probes every 5 s ± 10 %, an answer within 2 s",
	},
	{
		event: withdrawn, want: v1alpha1.BackendUnauthenticated, leave: 5 * time.Second, status: 5 * time.Second, list: 5 * time.Second, byAPI: true,
		source: "issue 6, Shows: as one that leaves",
	},
	{
		event: restored, want: v1alpha1.BackendReady, leave: 5 * time.Second, status: 5 * time.Second, list: 5 * time.Second, byAPI: true,
		source: "issue 6, Shows: as one that joins",
	},
	{
		event: rotated, want: v1alpha1.BackendReady, leave: recovery, status: recovery, list: recovery, byAPI: true,
		source: "issue 6, Deliver 2: used by the next probe, which is due as after a recovery",
	},
	{
		event: toolsTold, same: true, list: 5 * time.Second,
		source: "issue 6, Shows: clients see the right list within 5 s",
	},
	{
		event: toolsUntold, same: true, list: 5*time.Minute + recovery,
		source: "runtime/health: lists are read anew every 5 minutes, with the next probe",
	},
	{event: beforeTheRun, want: v1alpha1.BackendReady, source: "the run begins when the status is right"},
})

func index(list []rule) map[event]rule {
	m := make(map[event]rule, len(list))
	for _, r := range list {
		m[r.event] = r
	}
	return m
}
