// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// span is when something was looked at: it was so at some time from sent to received.
type span struct{ sent, received time.Duration }

// reported is the status as it was read once.
type reported struct {
	span
	phase    v1alpha1.Phase
	backends map[string]v1alpha1.BackendStatus
	message  string
	// written is all that the runtime writes, which may change when nothing of the above does.
	written string
}

// listed is a list of tools as a client got it once.
type listed struct {
	span
	// era is the revision of MCP that the client speaks.
	era string
	// tools are those of each backend, joined by blanks.
	tools map[string]string
}

// history is all that was observed, in order.
type history struct {
	reports []reported
	lists   []listed
}

// lie is something that was wrong for longer than it may be.
type lie struct {
	// channel is where it was read: "status", "phase", or "tools" and the era.
	channel, subject string
	span             // of the observations that were wrong
	said, right      string
	// after is the last thing that was done to the subject before.
	after string
	// message is that of the status.
	message string
}

func (l lie) String() string {
	text := fmt.Sprintf("%s of %s from %s to %s: %s, but right was %s", l.channel, l.subject, seconds(l.sent), seconds(l.received), orNothing(l.said), l.right)
	if l.after != "" {
		text += "; before it: " + l.after
	}
	if l.message != "" {
		text += "; the status said: " + l.message
	}
	return text
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

// lag is how long something true took to show.
type lag struct {
	channel, subject string
	event            event
	at, took         time.Duration
	// disturbed says what else was out of order meanwhile.
	disturbed string
}

// judge holds observations against the truth.
func judge(t *truth, h *history) []lie {
	j := judgement{truth: t, open: map[string]int{}}
	for i := range h.reports {
		j.report(&h.reports[i])
	}
	r := 0
	for i := range h.lists {
		l := &h.lists[i]
		for r+1 < len(h.reports) && h.reports[r+1].sent <= l.received {
			r++
		}
		var status *reported
		if len(h.reports) > 0 {
			status = &h.reports[r]
		}
		j.list(l, status)
	}
	return j.lies
}

// judgement collects lies. What was wrong the last time it was looked at is still the same lie.
type judgement struct {
	*truth
	lies []lie
	open map[string]int // channel and subject to a lie that goes on
}

// note takes an observation of a subject into account. right has what would have been right, by its time.
func (j *judgement) note(channel, subject string, at span, said, message string, wrong bool, right func() string) {
	key := channel + " " + subject
	i, goesOn := j.open[key]
	switch {
	case !wrong:
		delete(j.open, key)
	case goesOn && j.lies[i].said == said:
		j.lies[i].received = at.received
	default:
		j.open[key] = len(j.lies)
		j.lies = append(j.lies, lie{channel: channel, subject: subject, span: at, said: said, right: right(), after: j.story(subject, at.received), message: message})
	}
}

// names are all backends that there ever were and those of an observation, in order.
func names[T any](t *truth, seen map[string]T) []string {
	all := slices.Collect(maps.Keys(t.backends))
	for name := range seen {
		if _, known := t.backends[name]; !known {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

func (j *judgement) report(r *reported) {
	if j.silenced(r.sent) && j.silenced(r.received) {
		j.note("phase", gateway, r.span, string(r.phase), "", r.phase != v1alpha1.PhaseUnknown, func() string { return "Unknown: nobody reports" })
		for _, name := range slices.Sorted(maps.Keys(r.backends)) {
			status := r.backends[name]
			j.note("status", name, r.span, string(status), "", status != v1alpha1.BackendUnknown, func() string { return "unknown: nobody reports" })
		}
		return
	}
	for _, name := range names(j.truth, r.backends) {
		said := r.backends[name]
		wrong := said != v1alpha1.BackendUnknown && !j.statusAt(name, r.sent).has(said) && !j.statusAt(name, r.received).has(said)
		j.note("status", name, r.span, string(said), r.message, wrong, func() string { return fmt.Sprintf("%q", j.statusAt(name, r.received)) })
	}
	switch list := slices.Collect(maps.Values(r.backends)); {
	case r.phase == v1alpha1.PhaseUnknown:
		j.note("phase", gateway, r.span, "", "", false, nil)
	case r.phase == phaseOf(known(list)) && (j.recentlyAway(r.sent) || j.recentlyAway(r.received)):
		// An entry that the operator said unknown of while nobody reported, and that the runtime does not have any more, goes with the operator's
		// next write.
		j.note("phase", gateway, r.span, "", "", false, nil)
	case r.phase != phaseOf(list):
		j.note("phase", gateway, r.span, string(r.phase), r.message, true, func() string { return fmt.Sprintf("%s, by the backends beside it", phaseOf(list)) })
	default:
		wrong := !slices.Contains(j.phases(r.sent, r.backends), r.phase) && !slices.Contains(j.phases(r.received, r.backends), r.phase)
		j.note("phase", gateway, r.span, string(r.phase), r.message, wrong, func() string { return fmt.Sprintf("%q", j.phases(r.received, r.backends)) })
	}
}

// list judges a list of tools. status is the status at that time: tools of a backend that it says nothing of may be missing.
func (j *judgement) list(l *listed, status *reported) {
	for _, name := range names(j.truth, l.tools) {
		said := l.tools[name]
		wrong := !slices.Contains(j.toolsAt(name, l.sent), said) && !slices.Contains(j.toolsAt(name, l.received), said)
		if said == "" && status != nil && status.backends[name] == v1alpha1.BackendUnknown {
			wrong = false
		}
		j.note("tools "+l.era, name, l.span, said, "", wrong, func() string { return fmt.Sprintf("%q", j.toolsAt(name, l.received)) })
	}
}

// story is what was done to a subject, and to the runtime and the API server, shortly before a time.
func (t *truth) story(subject string, at time.Duration) string {
	var parts []string
	if changes := t.backends[subject]; len(changes) > 0 {
		i := last(changes, at)
		for _, c := range changes[max(0, i-1) : i+1] {
			parts = append(parts, fmt.Sprintf("%s at %s", c.event, seconds(c.at)))
		}
	}
	for _, o := range t.runtime {
		if o.from <= at && at < o.to+time.Minute {
			parts = append(parts, fmt.Sprintf("runtime %s at %s", o.what(), o.times()))
		}
	}
	for _, o := range t.api {
		if o.from <= at && at < o.to+time.Minute {
			parts = append(parts, "API server away at "+o.times())
		}
	}
	return strings.Join(parts, ", ")
}

func (o outage) what() string {
	if o.fresh {
		return "dead"
	}
	return "frozen"
}

func (o outage) times() string {
	if o.to == forever {
		return seconds(o.from) + "–"
	}
	return seconds(o.from) + "–" + seconds(o.to)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// measure finds how long what was done took to show, wherever it did before something else was done. What was so already has no lag.
func measure(t *truth, h *history) []lag {
	var lags []lag
	for _, name := range names[int](t, nil) {
		changes := t.backends[name]
		status := func(yield func(span, string) bool) {
			for i := range h.reports {
				if r := &h.reports[i]; !yield(r.span, string(r.backends[name])) {
					return
				}
			}
		}
		lags = append(lags, t.lagsOf("status", name, changes, func(i int) string { return string(wanted(changes, i)) }, status)...)
		for _, era := range eras {
			tools := func(yield func(span, string) bool) {
				for i := range h.lists {
					if l := &h.lists[i]; l.era == era && !yield(l.span, l.tools[name]) {
						return
					}
				}
			}
			lags = append(lags, t.lagsOf("tools "+era, name, changes, func(i int) string { return wantedTools(changes, i) }, tools)...)
		}
	}
	return lags
}

// lagsOf finds those of one subject on one channel.
func (t *truth) lagsOf(channel, subject string, changes []change, want func(int) string, observed func(func(span, string) bool)) []lag {
	var lags []lag
	for i := 1; i < len(changes); i++ {
		if want(i) == want(i-1) {
			continue
		}
		end, already := forever, false
		if i+1 < len(changes) {
			end = changes[i+1].from
		}
		for at, said := range observed {
			if at.received < changes[i].from {
				already = said == want(i)
				continue
			}
			if already || at.received > end {
				break
			}
			if said == want(i) {
				took := max(0, at.received-changes[i].at)
				lags = append(lags, lag{channel: channel, subject: subject, event: changes[i].event, at: changes[i].at, took: took, disturbed: t.disturbance(changes[i].at, at.received)})
				break
			}
		}
	}
	return lags
}

// disturbance says what else was out of order in a time.
func (t *truth) disturbance(from, to time.Duration) string {
	var parts []string
	for _, o := range t.runtime {
		if o.from <= to && from <= o.to {
			parts = append(parts, "runtime "+o.what()+" "+o.times())
		}
	}
	for _, o := range t.api {
		if o.from <= to && from <= o.to {
			parts = append(parts, "API server away "+o.times())
		}
	}
	return strings.Join(parts, ", ")
}

// silent is how long the status said that it is not known what is true. That is no lie; a status that is always unknown is of no use.
type silent struct {
	// phase is how long the phase was Unknown, needless how much of it while the runtime ran.
	phase, needless time.Duration
	// backends is how long backends were unknown, added up, beside another phase.
	backends time.Duration
}

func silentIn(t *truth, h *history) (s silent) {
	for i := 1; i < len(h.reports); i++ {
		before, now := &h.reports[i-1], &h.reports[i]
		took := now.received - before.received
		if before.phase == v1alpha1.PhaseUnknown {
			s.phase += took
			if !slices.ContainsFunc(t.runtime, func(o outage) bool { return o.from <= now.received && before.received <= o.to }) {
				s.needless += took
			}
			continue
		}
		for _, status := range before.backends {
			if status == v1alpha1.BackendUnknown {
				s.backends += took
			}
		}
	}
	return s
}
