// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"slices"
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// All times are since the beginning of the run.

// forever is the end of what has not ended.
const forever = time.Duration(math.MaxInt64)

// change is a moment from which on something else is true of a backend.
type change struct {
	event event
	// from is before it was made, at after: what is new may show from the one on, what is old has its time from the other on.
	from, at time.Duration
	// tools are what the backend offers from then on, joined by blanks; "" if it is not listed.
	tools string
	// busy says that the backend gets calls all the time.
	busy bool
}

// outage is a time in which a process did not run, from inclusive.
type outage struct {
	from, to time.Duration
	// fresh says that another process came after it, which knows nothing; else the same one went on.
	fresh bool
}

// truth is what is known to be true, because it was done.
type truth struct {
	// backends are the changes of each, in order. The first one is what was so before the run.
	backends map[string][]change
	// runtime and api are the times in which the runtime and the API server did not run, in order.
	runtime, api []outage
	// writes are when the watcher saw the status change, in order.
	writes []time.Duration
}

// statuses is a set.
type statuses []v1alpha1.BackendStatus

func (s statuses) has(status v1alpha1.BackendStatus) bool { return slices.Contains(s, status) }

// wanted is the status that change i leads to.
func wanted(changes []change, i int) v1alpha1.BackendStatus {
	for rules[changes[i].event].same {
		i--
	}
	return rules[changes[i].event].want
}

// wantedTools are the tools that the list shows of the backend in the end.
func wantedTools(changes []change, i int) string {
	if wanted(changes, i).Served() {
		return changes[i].tools
	}
	return ""
}

// last is the newest change that may have begun at a time.
func last(changes []change, at time.Duration) int {
	for i := len(changes) - 1; i > 0; i-- {
		if changes[i].from <= at {
			return i
		}
	}
	return 0
}

// statusAt are the statuses that are right, or wrong not yet for too long, at a time.
func (t *truth) statusAt(backend string, at time.Duration) statuses {
	changes := t.backends[backend]
	if len(changes) == 0 {
		return statuses{absent}
	}
	return t.statusOf(changes, last(changes, at), at)
}

func (t *truth) statusOf(changes []change, i int, at time.Duration) statuses {
	c, set := changes[i], statuses{wanted(changes, i)}
	if i == 0 {
		return set
	}
	r := rules[c.event]
	if r.same {
		return t.statusOf(changes, i-1, at)
	}
	if at <= t.statusDeadline(c, r.leave) {
		set = append(set, t.statusOf(changes, i-1, min(at, c.from))...)
	}
	if at <= t.statusDeadline(c, r.status) {
		set = append(set, r.via...)
	}
	return set
}

// statusDeadline is until when a bound lets the status stay as it was.
func (t *truth) statusDeadline(c change, bound time.Duration) time.Duration {
	until := t.verdictDeadline(c, bound)
	if rules[c.event].byAPI {
		until = afterReturn(t.api, c.at, until)
	}
	if until == forever {
		return forever
	}
	// The report after which the next one has to wait.
	if i, _ := slices.BinarySearch(t.writes, until+1); i > 0 {
		until = max(until, t.writes[i-1]+reportInterval+resolution)
	}
	return afterReturn(t.api, c.at, until)
}

// verdictDeadline is until when a bound lets the runtime be of its old opinion: it needs the time in one piece.
func (t *truth) verdictDeadline(c change, bound time.Duration) time.Duration {
	if busy := rules[c.event].busy; busy > 0 && c.busy && !t.recentlyAway(c.at) {
		bound = busy
	}
	begin := c.at
	if begin == forever {
		return forever // it is being done
	}
	for _, o := range t.runtime {
		if o.to <= begin || o.from >= begin+bound {
			continue
		}
		if o.to == forever {
			return forever
		}
		begin, bound = o.to, min(max(bound, roundDeadline), rules[hung].status) // it looks at everything anew
	}
	return begin + bound
}

// recentlyAway says that the runtime may not have served everything yet that is well, so that calls did not reach it.
func (t *truth) recentlyAway(at time.Duration) bool {
	return slices.ContainsFunc(t.runtime, func(o outage) bool { return o.from <= at && at-o.to < roundDeadline })
}

// afterReturn puts a deadline off if the API server was away meanwhile, or came back a moment before.
func afterReturn(api []outage, begin, until time.Duration) time.Duration {
	for _, o := range api {
		if o.from > until || o.to != forever && o.to+apiReturn <= begin {
			continue
		}
		if o.to == forever {
			return forever
		}
		until = max(until, o.to+apiReturn)
	}
	return until
}

// toolsAt are the lists of a backend's tools that are right, or wrong not yet for too long.
func (t *truth) toolsAt(backend string, at time.Duration) []string {
	changes := t.backends[backend]
	if len(changes) == 0 {
		return []string{""}
	}
	i := last(changes, at)
	lists := t.toolsOf(changes, i, at)
	if wanted(changes, i).Served() {
		lists = append(lists, t.untold(changes, i, at)...)
	}
	for _, o := range t.runtime {
		if o.fresh && o.from <= at && at-o.to <= roundDeadline {
			lists = append(lists, "") // a new process serves what it has found so far
		}
	}
	return lists
}

func (t *truth) toolsOf(changes []change, i int, at time.Duration) []string {
	c, lists := changes[i], []string{wantedTools(changes, i)}
	if i == 0 {
		return lists
	}
	r := rules[c.event]
	until := t.verdictDeadline(c, r.list)
	if r.byAPI {
		until = afterReturn(t.api, c.at, until)
	}
	if at > until {
		return lists
	}
	return append(lists, t.toolsOf(changes, i-1, min(at, c.from))...)
}

// untold are the tools that a backend had before changes that it told nobody of, and that nobody need have noticed yet: whatever else
// happens to the backend, unless it is long enough away for its lists to be read anew.
func (t *truth) untold(changes []change, i int, at time.Duration) (lists []string) {
	for j := 1; j <= i; j++ {
		if c := changes[j]; c.event == toolsUntold && at <= t.verdictDeadline(c, rules[toolsUntold].list) {
			lists = append(lists, changes[j-1].tools)
		}
	}
	return lists
}

// silenced says that the runtime has been away for so long that the status must not be its word any more.
func (t *truth) silenced(at time.Duration) bool {
	return slices.ContainsFunc(t.runtime, func(o outage) bool { return at > o.from+silence && at < o.to })
}

// phases are those that some choice of statuses leads to: of each backend one that is right, or wrong not yet for too long. What is
// reported as unknown may be.
func (t *truth) phases(at time.Duration, reported map[string]v1alpha1.BackendStatus) []v1alpha1.Phase {
	var sets []statuses
	for name := range t.backends {
		set := t.statusAt(name, at)
		if reported[name] == v1alpha1.BackendUnknown {
			set = append(set, v1alpha1.BackendUnknown)
		}
		sets = append(sets, set)
	}
	var phases []v1alpha1.Phase
	all := func(may func(v1alpha1.BackendStatus) bool) bool {
		return !slices.ContainsFunc(sets, func(s statuses) bool { return !slices.ContainsFunc(s, may) })
	}
	some := func(may func(v1alpha1.BackendStatus) bool) bool {
		return slices.ContainsFunc(sets, func(s statuses) bool { return slices.ContainsFunc(s, may) })
	}
	isReady := func(s v1alpha1.BackendStatus) bool { return s == v1alpha1.BackendReady || s == absent }
	isServed := v1alpha1.BackendStatus.Served
	isAway := func(s v1alpha1.BackendStatus) bool { return !s.Served() }
	isIll := func(s v1alpha1.BackendStatus) bool { return !isReady(s) }
	if all(isReady) {
		phases = append(phases, v1alpha1.PhaseReady)
	}
	if some(isServed) && some(isIll) || all(func(s v1alpha1.BackendStatus) bool { return s == absent }) {
		phases = append(phases, v1alpha1.PhaseDegraded)
	}
	if all(isAway) {
		phases = append(phases, v1alpha1.PhaseFailed)
	}
	return phases
}

// known are the statuses that say something.
func known(list []v1alpha1.BackendStatus) []v1alpha1.BackendStatus {
	return slices.DeleteFunc(slices.Clone(list), func(s v1alpha1.BackendStatus) bool { return s == v1alpha1.BackendUnknown })
}

// phaseOf is what statuses of listed backends come to (DESIGN 3, "Phase").
func phaseOf(list []v1alpha1.BackendStatus) v1alpha1.Phase {
	ready, served := 0, 0
	for _, s := range list {
		if s == v1alpha1.BackendReady {
			ready++
		}
		if s.Served() {
			served++
		}
	}
	switch {
	case len(list) > 0 && served == 0:
		return v1alpha1.PhaseFailed
	case len(list) == 0 || ready < len(list):
		return v1alpha1.PhaseDegraded
	default:
		return v1alpha1.PhaseReady
	}
}
