// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/vmcp-dev/vmcp-operator/test/load"
)

// spread is the middle and the ends of a number of figures.
type spread struct{ median, low, high float64 }

// spreadOf sorts the figures. There is at least one.
func spreadOf(figures []float64) spread {
	slices.Sort(figures)
	n := len(figures)
	s := spread{median: figures[n/2], low: figures[0], high: figures[n-1]}
	if n%2 == 0 {
		s.median = (figures[n/2-1] + figures[n/2]) / 2
	}
	return s
}

// String is the median, and in brackets the range.
func (s spread) String() string { return fmt.Sprintf("%.2f (%.2f–%.2f)", s.median, s.low, s.high) }

// comparison is what came of a cell.
type comparison struct {
	cell cell
	// perSecond of direct, proxy and gateway.
	direct, proxy, gateway float64
	// rate and cpu are ratios, gateway to proxy, pair by pair.
	rate, cpu spread
	// proxyCPU and gatewayCPU are the processor time of a call.
	proxyCPU, gatewayCPU time.Duration
	// Latencies of the calls through proxy and gateway.
	proxyP50, gatewayP50, proxyP99, gatewayP99 time.Duration
}

func newComparison(c cell, direct, proxy, hop *way) comparison {
	var rates, cpus []float64
	for i := range hop.results {
		p, g := proxy.results[i], hop.results[i]
		rates = append(rates, g.PerSecond()/p.PerSecond())
		cpus = append(cpus, perCall(hop.cpu[i], g.Calls)/perCall(proxy.cpu[i], p.Calls))
	}
	p, g := load.Join(proxy.results...), load.Join(hop.results...)
	return comparison{
		cell: c, direct: load.Join(direct.results...).PerSecond(), proxy: p.PerSecond(), gateway: g.PerSecond(),
		rate: spreadOf(rates), cpu: spreadOf(cpus),
		proxyCPU: time.Duration(perCall(total(proxy.cpu), p.Calls)), gatewayCPU: time.Duration(perCall(total(hop.cpu), g.Calls)),
		proxyP50: p.Latency(.5), gatewayP50: g.Latency(.5), proxyP99: p.Latency(.99), gatewayP99: g.Latency(.99),
	}
}

// perCall is in nanoseconds.
func perCall(cpu time.Duration, calls int) float64 { return float64(cpu) / float64(calls) }

func total(all []time.Duration) time.Duration {
	var sum time.Duration
	for _, d := range all {
		sum += d
	}
	return sum
}

func (c comparison) target() string {
	if c.cell.rate == 0 {
		return "–"
	}
	return fmt.Sprintf("rate ≥ %.2f, CPU ≤ %.2f", c.cell.rate, maxCPU)
}

func (c comparison) verdict() string {
	if c.cell.rate == 0 {
		return "–"
	}
	return verdict(c.rate.median >= c.cell.rate && c.cpu.median <= maxCPU)
}

func verdict(met bool) string {
	if met {
		return "met"
	}
	return "**missed**"
}

// String is a line for whoever waits.
func (c comparison) String() string {
	return fmt.Sprintf("%-66s rate %s  CPU %s  %s", c.cell, c.rate, c.cpu, c.verdict())
}

// figure is a row of what is not a comparison of calls.
type figure struct{ what, measured, target, verdict string }

// report is everything that was measured.
type report struct {
	plan        string
	comparisons []comparison
	figures     []figure
}

// add adds a row, and says it.
func (r *report) add(f figure) {
	r.figures = append(r.figures, f)
	fmt.Printf("%s: %s (target %s) %s\n", f.what, f.measured, f.target, f.verdict)
}

// markdown is the report as tables.
func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured with `make bench BENCH=%s` on %d CPUs, %s, %s/%s, %s. Ratios are gateway to `httputil.ReverseProxy`, the median of %d "+
		"pairs of slices with the lowest and highest in brackets; CPU is the process's user and system time per call. Calls per second depend on "+
		"the machine and on what else it does, ratios much less.\n",
		r.plan, runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH, time.Now().UTC().Format(time.DateOnly), plans[r.plan].pairs)
	if len(r.comparisons) > 0 {
		b.WriteString("\n| client → server | answer | text | clients | direct /s | proxy /s | gateway /s | rate ratio | CPU µs: proxy, gateway | CPU ratio | p50, p99 ms: proxy | gateway | target | verdict |\n" +
			"|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	}
	for _, c := range r.comparisons {
		answer, size := "JSON", "32 B"
		if c.cell.stream {
			answer = "SSE"
		}
		if c.cell.size == large {
			size = "64 KiB"
		}
		fmt.Fprintf(&b, "| %s → %s | %s | %s | %d | %.0f | %.0f | %.0f | %s | %.0f, %.0f | %s | %s, %s | %s, %s | %s | %s |\n",
			c.cell.client, c.cell.server, answer, size, c.cell.clients, c.direct, c.proxy, c.gateway, c.rate,
			microseconds(c.proxyCPU), microseconds(c.gatewayCPU), c.cpu,
			milliseconds(c.proxyP50), milliseconds(c.proxyP99), milliseconds(c.gatewayP50), milliseconds(c.gatewayP99), c.target(), c.verdict())
	}
	if len(r.figures) > 0 {
		b.WriteString("\n| what | measured | target | verdict |\n|---|---|---|---|\n")
	}
	for _, f := range r.figures {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", f.what, f.measured, f.target, f.verdict)
	}
	return b.String()
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.2f", float64(d)/float64(time.Millisecond))
}
