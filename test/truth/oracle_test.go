// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

const s = time.Second

// at is an observation that took no time.
func at(t time.Duration) span { return span{t, t} }

// one is the truth of backend "a" beside backend "b", to which nothing happens.
func one(changes ...change) *truth {
	for i := range changes {
		if changes[i].from == 0 {
			changes[i].from = changes[i].at
		}
		if changes[i].tools == "" && changes[i].event != left {
			changes[i].tools = baseTool
		}
	}
	return &truth{backends: map[string][]change{
		"a": append([]change{{event: beforeTheRun, tools: baseTool}}, changes...),
		"b": {{event: beforeTheRun, tools: baseTool}},
	}}
}

// says makes the status at a time, with the phase that follows from it.
func says(t time.Duration, a v1alpha1.BackendStatus) reported {
	r := reported{span: at(t), backends: map[string]v1alpha1.BackendStatus{"b": v1alpha1.BackendReady}}
	list := []v1alpha1.BackendStatus{v1alpha1.BackendReady}
	if a != absent {
		r.backends["a"], list = a, append(list, a)
	}
	r.phase = phaseOf(list)
	return r
}

func unknown(t time.Duration) reported {
	return reported{span: at(t), phase: v1alpha1.PhaseUnknown, backends: map[string]v1alpha1.BackendStatus{"a": v1alpha1.BackendUnknown, "b": v1alpha1.BackendUnknown}}
}

func offers(t time.Duration, a string) listed {
	l := listed{era: eras[0], span: at(t), tools: map[string]string{"b": baseTool}}
	if a != "" {
		l.tools["a"] = a
	}
	return l
}

const (
	ready           = v1alpha1.BackendReady
	degraded        = v1alpha1.BackendDegraded
	unavailable     = v1alpha1.BackendUnavailable
	unauthenticated = v1alpha1.BackendUnauthenticated
)

func TestJudge(t *testing.T) {
	t.Parallel()
	const both = baseTool + " " + moreTool
	dead, brief := one(change{event: died, at: 10 * s}), one(change{event: died, at: 10 * s}, change{event: recovered, at: 12 * s})
	busy := one(change{event: died, at: 10 * s, busy: true})
	hanging := one(change{event: hung, at: 10 * s})
	afterReport := one(change{event: died, at: 10 * s, busy: true})
	afterReport.writes = []time.Duration{14 * s}
	gone := one()
	gone.runtime = []outage{{from: 10 * s, to: forever, fresh: true}}
	thawed := one(change{event: died, at: 20 * s})
	thawed.runtime = []outage{{from: 10 * s, to: 30 * s}}
	restarted := one()
	restarted.runtime = []outage{{from: 10 * s, to: 12 * s, fresh: true}}
	without := one(change{event: died, at: 10 * s})
	without.api = []outage{{from: 8 * s, to: 40 * s}}

	returned := one(change{event: left, at: 42 * s})
	returned.api = without.api

	for name, test := range map[string]struct {
		truth   *truth
		reports []reported
		lists   []listed
		// want are the beginnings of the lies.
		want []string
	}{
		"all is well":                    {truth: one(), reports: []reported{says(1*s, ready)}, lists: []listed{offers(1*s, baseTool)}},
		"a false alarm is one at once":   {truth: one(), reports: []reported{says(1*s, degraded)}, want: []string{"status of a", "phase of truth"}},
		"a backend that is not there":    {truth: one(change{event: left, at: 1 * s}), reports: []reported{says(7*s, ready)}, want: []string{"status of a"}},
		"a backend that nobody made":     {truth: one(), reports: []reported{{span: at(1 * s), phase: v1alpha1.PhaseReady, backends: map[string]v1alpha1.BackendStatus{"a": ready, "b": ready, "c": ready}}}, want: []string{"status of c"}},
		"tools that nobody offers":       {truth: one(), lists: []listed{offers(1*s, both)}, want: []string{"tools 2025-11-25 of a"}},
		"tools that are missing":         {truth: one(), lists: []listed{offers(1*s, "")}, want: []string{"tools 2025-11-25 of a"}},
		"tools of an unknown backend":    {truth: one(), reports: []reported{unknown(1 * s)}, lists: []listed{offers(2*s, "")}},
		"dead and not noticed yet":       {truth: dead, reports: []reported{says(25*s, ready)}, lists: []listed{offers(25*s, baseTool)}},
		"dead and noticed":               {truth: dead, reports: []reported{says(11*s, degraded), says(13*s, unavailable), says(60*s, unavailable)}, lists: []listed{offers(13*s, ""), offers(60*s, "")}},
		"a frozen status":                {truth: dead, reports: []reported{says(12*s, ready), says(26*s, ready), says(27*s, ready)}, want: []string{"status of a from 26.0 s to 27.0 s", "phase of truth from 26.0 s to 27.0 s"}},
		"a frozen list":                  {truth: dead, reports: []reported{says(26*s, unavailable)}, lists: []listed{offers(26*s, baseTool)}, want: []string{"tools 2025-11-25 of a"}},
		"degraded is not unavailable":    {truth: dead, reports: []reported{says(26*s, degraded)}, want: []string{"status of a"}},
		"dead under traffic, in time":    {truth: busy, reports: []reported{says(15*s, ready)}},
		"dead under traffic, late":       {truth: busy, reports: []reported{says(16*s, ready)}, want: []string{"status of a", "phase of truth"}},
		"a report has to wait":           {truth: afterReport, reports: []reported{says(19*s, degraded)}},
		"a report waited too long":       {truth: afterReport, reports: []reported{says(20*s, degraded)}, want: []string{"status of a"}},
		"no report excuses a list":       {truth: afterReport, lists: []listed{offers(16*s, baseTool)}, want: []string{"tools 2025-11-25 of a"}},
		"a brief death may be told late": {truth: brief, reports: []reported{says(13*s, unavailable), says(19*s, ready)}},
		"a brief death may go unseen":    {truth: brief, reports: []reported{says(13*s, ready), says(19*s, ready)}},
		"a recovery that nobody saw":     {truth: brief, reports: []reported{says(20*s, unavailable)}, want: []string{"status of a", "phase of truth"}},
		"hangs: degraded within 10 s":    {truth: hanging, reports: []reported{says(21*s, ready)}, want: []string{"status of a", "phase of truth"}},
		"hangs: unavailable within 20 s": {truth: hanging, reports: []reported{says(21*s, degraded), says(31*s, degraded)}, want: []string{"status of a from 31.0 s"}},
		"hangs: as it should be":         {truth: hanging, reports: []reported{says(19*s, ready), says(29*s, degraded), says(31*s, unavailable)}},
		"slow is served": {
			truth: one(change{event: slowed, at: 10 * s}), reports: []reported{says(12*s, ready), says(21*s, degraded)}, lists: []listed{offers(21*s, baseTool)},
		},
		"slow is not dead": {
			truth: one(change{event: slowed, at: 10 * s}), reports: []reported{says(21*s, unavailable)}, lists: []listed{offers(21*s, "")},
			want: []string{"status of a", "tools 2025-11-25 of a"},
		},
		"401":                  {truth: one(change{event: locked, at: 10 * s}), reports: []reported{says(26*s, unauthenticated)}, lists: []listed{offers(26*s, "")}},
		"401 is no connection": {truth: one(change{event: locked, at: 10 * s}), reports: []reported{says(26*s, unavailable)}, want: []string{"status of a"}},
		"tools, told":          {truth: one(change{event: toolsTold, at: 10 * s, tools: both}), lists: []listed{offers(15*s, baseTool), offers(16*s, both)}},
		"tools, told and late": {truth: one(change{event: toolsTold, at: 10 * s, tools: both}), lists: []listed{offers(16*s, baseTool)}, want: []string{"tools 2025-11-25 of a"}},
		"tools, untold":        {truth: one(change{event: toolsUntold, at: 10 * s, tools: both}), lists: []listed{offers(300*s, baseTool), offers(301*s, both)}},
		"tools, untold and late": {
			truth: one(change{event: toolsUntold, at: 10 * s, tools: both}), lists: []listed{offers(318*s, baseTool)}, want: []string{"tools 2025-11-25 of a"},
		},
		"the phase disagrees with the backends beside it": {
			truth: dead, reports: []reported{{span: at(12 * s), phase: v1alpha1.PhaseReady, backends: map[string]v1alpha1.BackendStatus{"a": unavailable, "b": ready}}},
			want: []string{"phase of truth"},
		},
		"what the operator still says of one that left is no contradiction": {
			truth: thawed, reports: []reported{{span: at(41 * s), phase: v1alpha1.PhaseReady, backends: map[string]v1alpha1.BackendStatus{"a": ready, "b": ready, "c": v1alpha1.BackendUnknown}}},
		},
		"but it has to go": {
			truth: thawed, reports: []reported{{span: at(60 * s), phase: v1alpha1.PhaseReady, backends: map[string]v1alpha1.BackendStatus{"a": unavailable, "b": ready, "c": v1alpha1.BackendUnknown}}},
			want: []string{"phase of truth"},
		},
		"a dead runtime's status":                {truth: gone, reports: []reported{says(74*s, ready), unknown(75 * s), unknown(500 * s)}},
		"a dead runtime's status for too long":   {truth: gone, reports: []reported{says(76*s, ready)}, want: []string{"phase of truth", "status of a", "status of b"}},
		"a frozen runtime knows nothing":         {truth: thawed, reports: []reported{says(29*s, ready), says(45*s, ready)}},
		"a thawed one has to learn":              {truth: thawed, reports: []reported{says(46*s, ready)}, want: []string{"status of a", "phase of truth"}},
		"a new process serves what it found":     {truth: restarted, lists: []listed{offers(20*s, ""), offers(28*s, baseTool)}},
		"a new process has to find it":           {truth: restarted, lists: []listed{offers(28*s, "")}, want: []string{"tools 2025-11-25 of a"}},
		"left when the API server was just back": {truth: returned, reports: []reported{says(49*s, ready)}, lists: []listed{offers(49*s, baseTool)}},
		"left when the API server had been back for 10 s": {
			truth: returned, reports: []reported{says(51*s, ready)}, lists: []listed{offers(51*s, baseTool)}, want: []string{"status of a", "tools 2025-11-25 of a"},
		},
		"the API server is back": {truth: without, reports: []reported{says(50*s, ready)}},
		"the API server has been back for long": {
			truth: without, reports: []reported{says(51*s, ready)}, want: []string{"status of a", "phase of truth"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lies := judge(test.truth, &history{reports: test.reports, lists: test.lists})
			var got []string
			for _, l := range lies {
				got = append(got, l.String())
			}
			matched := len(got) == len(test.want)
			for i := range got {
				matched = matched && strings.HasPrefix(got[i], test.want[i])
			}
			if !matched {
				t.Errorf("lies:\n%s\nwant those that begin with\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
}

func TestMeasure(t *testing.T) {
	t.Parallel()
	truth := one(change{event: died, at: 10 * s}, change{event: recovered, at: 40 * s}, change{event: slowed, at: 60 * s}, change{event: recovered, at: 61 * s})
	h := &history{
		reports: []reported{says(9*s, ready), says(11*s, degraded), says(15*s, unavailable), says(41*s, unavailable), says(47*s, ready), says(62*s, ready)},
		lists:   []listed{offers(9*s, baseTool), offers(12*s, ""), offers(42*s, baseTool)},
	}
	want := map[string]time.Duration{"status died": 5 * s, "status well again": 7 * s, "tools 2025-11-25 died": 2 * s, "tools 2025-11-25 well again": 2 * s}
	got := measure(truth, h)
	for _, l := range got {
		if key := l.channel + " " + string(l.event); want[key] != l.took {
			t.Errorf("%s at %s took %s, want %s", key, l.at, l.took, want[key])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d lags, want %d: what was superseded before it showed has none", len(got), len(want))
	}
}

func TestQuantiles(t *testing.T) {
	t.Parallel()
	var lags []lag
	for i := range 200 {
		lags = append(lags, lag{took: time.Duration(200-i) * s})
	}
	if got, want := quantiles(lags), [3]time.Duration{100 * s, 198 * s, 200 * s}; got != want {
		t.Errorf("quantiles %v, want %v", got, want)
	}
	if got := quantiles(nil); got != [3]time.Duration{} {
		t.Errorf("quantiles of none: %v", got)
	}
}

func TestSilentIn(t *testing.T) {
	t.Parallel()
	truth := one()
	truth.runtime = []outage{{from: 10 * s, to: 80 * s}}
	h := &history{reports: []reported{says(9*s, ready), unknown(75 * s), unknown(80 * s), unknown(83 * s), says(85*s, v1alpha1.BackendUnknown), says(89*s, ready)}}
	if got, want := silentIn(truth, h), (silent{phase: 10 * s, needless: 2 * s, backends: 4 * s}); got != want {
		t.Errorf("silent for %+v, want %+v", got, want)
	}
}

// Every rule is complete, and says where its bounds are from.
func TestRules(t *testing.T) {
	t.Parallel()
	for name, r := range rules {
		if r.source == "" || r.list == 0 && name != beforeTheRun || !r.same && r.status < r.leave {
			t.Errorf("the rule of %q is not complete: %+v", name, r)
		}
	}
}
