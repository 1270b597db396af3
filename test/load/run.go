// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"slices"
	"sync"
	"time"
)

// Call is something to do again and again.
type Call func() error

// Result is what came of a time of calls.
type Result struct {
	// Calls succeeded within Elapsed.
	Calls   int
	Elapsed time.Duration
	// Errors failed, Err is one of them.
	Errors int
	Err    error
	// latencies of the calls that succeeded, sorted.
	latencies []time.Duration
}

// PerSecond is the rate of calls that succeeded.
func (r Result) PerSecond() float64 { return float64(r.Calls) / r.Elapsed.Seconds() }

// Latency is the latency that a fraction of the calls stayed within, 0 if there was no call.
func (r Result) Latency(fraction float64) time.Duration {
	if len(r.latencies) == 0 {
		return 0
	}
	return r.latencies[min(int(fraction*float64(len(r.latencies))), len(r.latencies)-1)]
}

// Run repeats each call from a goroutine of its own for a time, or until it fails.
func Run(calls []Call, duration time.Duration) Result {
	each := make([]Result, len(calls))
	var running sync.WaitGroup
	begin := time.Now()
	end := begin.Add(duration)
	for i, call := range calls {
		running.Go(func() { each[i] = repeat(call, end) })
	}
	running.Wait()
	total := Result{Elapsed: time.Since(begin)}
	for _, r := range each {
		total.Calls += r.Calls
		total.Errors += r.Errors
		if r.Err != nil {
			total.Err = r.Err
		}
		total.latencies = append(total.latencies, r.latencies...)
	}
	slices.Sort(total.latencies)
	return total
}

// Once makes each call once, all at the same time.
func Once(calls []Call) Result {
	var (
		running sync.WaitGroup
		mu      sync.Mutex
		total   Result
	)
	begin := time.Now()
	for _, call := range calls {
		running.Go(func() {
			err := call()
			took := time.Since(begin)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				total.Errors++
				total.Err = err
				return
			}
			total.Calls++
			total.latencies = append(total.latencies, took)
		})
	}
	running.Wait()
	total.Elapsed = time.Since(begin)
	slices.Sort(total.latencies)
	return total
}

// Join is the result of several runs as if they had been one, in a row.
func Join(results ...Result) Result {
	var total Result
	for _, r := range results {
		total.Calls += r.Calls
		total.Elapsed += r.Elapsed
		total.Errors += r.Errors
		if r.Err != nil {
			total.Err = r.Err
		}
		total.latencies = append(total.latencies, r.latencies...)
	}
	slices.Sort(total.latencies)
	return total
}

func repeat(call Call, end time.Time) Result {
	r := Result{latencies: make([]time.Duration, 0, 1<<12)}
	for last := time.Now(); last.Before(end); {
		if err := call(); err != nil {
			r.Errors++
			r.Err = err
			return r
		}
		now := time.Now()
		r.latencies = append(r.latencies, now.Sub(last))
		r.Calls++
		last = now
	}
	return r
}
