// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/vmcp-dev/vmcp-operator/test/audit"
	"github.com/vmcp-dev/vmcp-operator/test/document"
)

// result is what a run found out.
type result struct {
	options
	lies   []lie
	lags   []lag
	faults map[faultKind]int
	silent silent
	// stalled is how long the watcher itself got no time at most.
	stalled  time.Duration
	requests requests
}

func (b *book) count(k faultKind) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults[k]++
}

func (b *book) result(o options, stalled time.Duration, r requests) *result {
	lies := b.judge()
	b.mu.Lock()
	defer b.mu.Unlock()
	return &result{
		options: o, lies: lies, lags: measure(&b.truth, &b.history), faults: maps.Clone(b.faults), silent: silentIn(&b.truth, &b.history),
		stalled: stalled, requests: r,
	}
}

// announced are the lags of everything that the runtime could learn of: nobody announced the rest.
func (r *result) announced() []lag {
	return slices.DeleteFunc(slices.Clone(r.lags), func(l lag) bool { return l.event == toolsUntold })
}

// command is what has the same happen again.
func (r *result) command() string {
	return fmt.Sprintf("make truth SEED=%d TRUTH_TIME=%s", r.seed, r.length)
}

// last is the last line.
func (r *result) last() string {
	q := quantiles(r.announced())
	return fmt.Sprintf("lies: %d; lag p50 %s, p99 %s, max %s", len(r.lies), seconds(q[0]), seconds(q[1]), seconds(q[2]))
}

// quantiles are p50, p99 and the most, by nearest rank; zero of none.
func quantiles(lags []lag) (q [3]time.Duration) {
	if len(lags) == 0 {
		return q
	}
	sorted := slices.Clone(lags)
	slices.SortFunc(sorted, func(a, b lag) int { return cmp.Compare(a.took, b.took) })
	for i, percent := range []int{50, 99, 100} {
		q[i] = sorted[(len(sorted)*percent+99)/100-1].took
	}
	return q
}

const worst = 5

// details is the report for people who ran it.
func (r *result) details() string {
	var b strings.Builder
	b.WriteString(r.tables())
	b.WriteString("\nThe longest lags:\n\n")
	lags := r.announced()
	slices.SortFunc(lags, func(a, b lag) int { return -cmp.Compare(a.took, b.took) })
	for _, l := range lags[:min(worst, len(lags))] {
		fmt.Fprintf(&b, "- %s: %s of %s, %s at %s", seconds(l.took), l.channel, l.subject, l.event, seconds(l.at))
		if l.disturbed != "" {
			b.WriteString(" (" + l.disturbed + ")")
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "\nThe watcher itself got no time for %s at most.\n", seconds(r.stalled))
	if len(r.lies) > 0 {
		b.WriteString("\nLies:\n\n")
		for _, l := range r.lies {
			fmt.Fprintf(&b, "- %s\n", l)
		}
	}
	return b.String()
}

// document is what is kept of a run.
func (r *result) document() string {
	return fmt.Sprintf("Measured with %#q on %s/%s with %d CPUs, %s.\n\n%s\nThe last line: %s\n",
		r.command(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(), r.tables(), r.last())
}

// tables are what was done, how soon it showed, and what the runtime asked the API server.
func (r *result) tables() string {
	var b strings.Builder
	lines := [][]string{{"what was done", "times"}}
	for _, kind := range slices.Sorted(maps.Keys(r.faults)) {
		lines = append(lines, []string{string(kind), fmt.Sprint(r.faults[kind])})
	}
	b.WriteString(document.Table(lines))

	lines = [][]string{{"what became true", "shown by", "times", "p50", "p99", "max", "max undisturbed", "bound"}}
	for _, e := range []event{died, hung, slowed, locked, rejected, garbled, withdrawn, left, joined, recovered, restored, rotated, toolsTold, toolsUntold} {
		for _, channel := range []string{"status", "tools"} {
			var all, calm []lag
			for _, l := range r.lags {
				if l.event != e || !strings.HasPrefix(l.channel, channel) {
					continue
				}
				if all = append(all, l); l.disturbed == "" {
					calm = append(calm, l)
				}
			}
			if len(all) == 0 {
				continue
			}
			q, bound := quantiles(all), rules[e].status
			if channel == "tools" {
				bound = rules[e].list
			}
			text, undisturbed := seconds(bound), "–"
			if rules[e].busy > 0 {
				text = seconds(rules[e].busy) + " under traffic, " + text
			}
			if len(calm) > 0 {
				undisturbed = seconds(quantiles(calm)[2])
			}
			lines = append(lines, []string{string(e), channel, fmt.Sprint(len(all)), seconds(q[0]), seconds(q[1]), seconds(q[2]), undisturbed, text})
		}
	}
	b.WriteString("\n" + document.Table(lines))
	fmt.Fprintf(&b, "\nThe phase was Unknown for %s in all, of them %s while the runtime ran; beside another phase backends were unknown for %s.\n",
		seconds(r.silent.phase), seconds(r.silent.needless), seconds(r.silent.backends))

	lines = [][]string{{"requests of the runtime", "times", "per minute"}}
	for _, request := range slices.SortedFunc(maps.Keys(r.requests), func(a, b string) int {
		return cmp.Or(-cmp.Compare(r.requests[a], r.requests[b]), cmp.Compare(a, b))
	}) {
		lines = append(lines, []string{request, fmt.Sprint(r.requests[request]), fmt.Sprintf("%.1f", float64(r.requests[request])/r.length.Minutes())})
	}
	b.WriteString("\n" + document.Table(lines))
	return b.String()
}

// requests counts those of the runtime, by verb and resource.
type requests map[string]int

func countRequests(auditLog string) (requests, error) {
	counts := requests{}
	err := audit.Open(auditLog).Next(func(e *audit.Event) {
		if strings.HasPrefix(e.Agent(), "vmcp-runtime/") {
			counts[e.Verb+" "+e.Resource()]++
		}
	})
	return counts, err
}

func (r requests) since(before requests) requests {
	d := requests{}
	for k, n := range r {
		if n -= before[k]; n > 0 {
			d[k] = n
		}
	}
	return d
}

// writeTimeline writes what was done and what was seen, whenever it was another than before, in order.
func (b *book) writeTimeline(folder string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	type line struct {
		at   time.Duration
		text string
	}
	var lines []line
	add := func(at time.Duration, format string, values ...any) {
		lines = append(lines, line{at, fmt.Sprintf(format, values...)})
	}
	for name, changes := range b.truth.backends {
		for _, c := range changes {
			add(c.at, "truth   %s %s, tools %q", name, c.event, c.tools)
		}
	}
	for _, o := range b.truth.runtime {
		add(o.from, "truth   runtime %s until %s", o.what(), seconds(o.to))
	}
	for _, o := range b.truth.api {
		add(o.from, "truth   API server away until %s", seconds(o.to))
	}
	var before reported
	for _, r := range b.history.reports {
		if r.phase != before.phase {
			add(r.received, "phase   %s: %s", r.phase, r.message)
		}
		for _, name := range names(&b.truth, r.backends) {
			if r.backends[name] != before.backends[name] {
				add(r.received, "status  %s %s", name, orNothing(string(r.backends[name])))
			}
		}
		before = r
	}
	for _, era := range eras {
		var before listed
		for _, l := range b.history.lists {
			if l.era != era {
				continue
			}
			for _, name := range names(&b.truth, l.tools) {
				if l.tools[name] != before.tools[name] {
					add(l.received, "tools   %s %q (%s)", name, l.tools[name], era)
				}
			}
			before = l
		}
	}
	slices.SortStableFunc(lines, func(a, b line) int { return cmp.Compare(a.at, b.at) })
	var text strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&text, "%8.2f  %s\n", l.at.Seconds(), l.text)
	}
	return os.WriteFile(filepath.Join(folder, "timeline.txt"), []byte(text.String()), 0o600)
}
