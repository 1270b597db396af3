// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vmcp-dev/vmcp-operator/test/echo"
	"github.com/vmcp-dev/vmcp-operator/test/load"
	"github.com/vmcp-dev/vmcp-operator/test/process"
)

const (
	maxSessionBytes = 1 << 10
	maxStreamRatio  = 1.6
	// openers is how many sessions are opened at a time.
	openers = 16
)

// footprint is the memory of a Go program after garbage collections, in bytes.
type footprint struct {
	resident int64
	live     int64 // heap and stacks in use
}

func (f footprint) minus(g footprint) footprint {
	return footprint{resident: f.resident - g.resident, live: f.live - g.live}
}

func (f footprint) per(n int) string {
	return fmt.Sprintf("%.2f KiB resident, %.2f KiB live", kib(f.resident, n), kib(f.live, n))
}

func kib(bytes int64, n int) float64 { return float64(bytes) / float64(n) / 1024 }

var (
	heapAlloc  = regexp.MustCompile(`# HeapAlloc = (\d+)`)
	stackInUse = regexp.MustCompile(`# Stack = (\d+)`)
)

// measure has a program collect its garbage and measures what is left. The second collection frees what the first one's
// finalizers and pools let go.
func measure(ctx context.Context, pid int, pprof string) (f footprint, err error) {
	var profile []byte
	for range 3 {
		if profile, err = fetch(ctx, pprof+"/debug/pprof/heap?gc=1&debug=1"); err != nil {
			return f, err
		}
	}
	for _, figure := range []*regexp.Regexp{heapAlloc, stackInUse} {
		m := figure.FindSubmatch(profile)
		if m == nil {
			return f, fmt.Errorf("no %s in the heap profile", figure)
		}
		n, err := strconv.ParseInt(string(m[1]), 10, 64)
		if err != nil {
			return f, fmt.Errorf("reading the heap profile: %w", err)
		}
		f.live += n
	}
	f.resident, err = process.RSS(pid)
	return f, err
}

// memory measures what a session costs: one that only exists, one that has made a call, and one that holds its stream open, beside
// a stream of a bare net/http server.
func (b *bench) memory(ctx context.Context, g gateway) error {
	n := b.plan.sessions
	tool := echo.Tool(manyName(0))
	// The first time pays for what is kept for the next request, not for the session.
	if _, err := b.grow(ctx, g.PID(), g.pprof, func() (func(), error) { return openSessions(ctx, g.Endpoint, n, "") }); err != nil {
		return err
	}
	idle, err := b.grow(ctx, g.PID(), g.pprof, func() (func(), error) { return openSessions(ctx, g.Endpoint, n, "") })
	if err != nil {
		return err
	}
	b.report.add(figure{
		what: fmt.Sprintf("%s, %d backends, %d of them without a stream", rowState, manyServers, n), measured: idle.per(n),
		target: "≤ 1 KiB resident", verdict: verdict(idle.resident <= int64(n)*maxSessionBytes),
	})
	called, err := b.grow(ctx, g.PID(), g.pprof, func() (func(), error) { return openSessions(ctx, g.Endpoint, n, tool) })
	if err != nil {
		return err
	}
	b.report.add(figure{
		what: fmt.Sprintf("%s after a call, %d of them", rowState, n), measured: called.per(n), target: "–", verdict: "–",
	})

	bare, err := b.start(ctx, "streams", "stream")
	if err != nil {
		return err
	}
	defer bare.Stop()
	var streams [2]footprint
	for i, s := range []struct {
		pid             int
		pprof, endpoint string
		sessions        bool
	}{{g.PID(), g.pprof, g.Endpoint, true}, {bare.PID(), bare.url, bare.url + "/mcp", false}} {
		open := func() (func(), error) { return openStreams(ctx, s.endpoint, n, s.sessions) }
		if _, err := b.grow(ctx, s.pid, s.pprof, open); err != nil {
			return err
		}
		if streams[i], err = b.grow(ctx, s.pid, s.pprof, open); err != nil {
			return err
		}
	}
	// What the first time left resident is used again the second time, so only what is live can be compared.
	ratio := float64(streams[0].live) / float64(streams[1].live)
	b.report.add(figure{
		what:     fmt.Sprintf("%s with a stream, %d of them; a stream of a bare net/http server; ratio", rowState, n),
		measured: fmt.Sprintf("%.2f KiB live; %.2f KiB live; %.2f", kib(streams[0].live, n), kib(streams[1].live, n), ratio),
		target:   fmt.Sprintf("ratio ≤ %.1f", maxStreamRatio), verdict: verdict(ratio <= maxStreamRatio),
	})
	return nil
}

// grow is what a program's memory grows by through what open opens, which is shut afterwards.
func (b *bench) grow(ctx context.Context, pid int, pprof string, open func() (func(), error)) (footprint, error) {
	before, err := measure(ctx, pid, pprof)
	if err != nil {
		return footprint{}, err
	}
	shut, err := open()
	defer func() {
		shut()
		settle(ctx, pid)
	}()
	if err != nil {
		return footprint{}, err
	}
	settle(ctx, pid)
	after, err := measure(ctx, pid, pprof)
	return after.minus(before), err
}

// openSessions opens sessions, over connections that it closes; with a tool each of them calls it once. shut ends the sessions.
func openSessions(ctx context.Context, endpoint string, n int, tool string) (shut func(), err error) {
	clients := make([][]*load.Client, openers)
	var all errgroup.Group
	for i := range openers {
		all.Go(func() error {
			connection, err := load.Dial(endpoint, load.Legacy)
			if err != nil {
				return err
			}
			defer connection.Close()
			for k := i; k < n && ctx.Err() == nil; k += openers {
				c := connection.Another()
				if err := c.Open(); err != nil {
					return fmt.Errorf("session %d: %w", k+1, err)
				}
				clients[i] = append(clients[i], c)
				if tool != "" {
					if err := c.Caller(tool, small).Call(); err != nil {
						return fmt.Errorf("session %d: %w", k+1, err)
					}
				}
			}
			return ctx.Err()
		})
	}
	err = all.Wait()
	return func() { endSessions(endpoint, slices.Concat(clients...)) }, err
}

// endSessions ends sessions over one connection.
func endSessions(endpoint string, clients []*load.Client) {
	connection, err := load.Dial(endpoint, load.Legacy)
	if err != nil {
		return
	}
	defer connection.Close()
	for _, c := range clients {
		_ = c.Over(connection).End() // the gateway may not know it any more
	}
}

// openStreams opens streams, of sessions or of nothing. shut ends both.
func openStreams(ctx context.Context, endpoint string, n int, sessions bool) (shut func(), err error) {
	var clients []*load.Client
	shut = func() {
		for _, c := range clients {
			c.Close()
		}
		if sessions {
			endSessions(endpoint, clients)
		}
	}
	for k := range n {
		if ctx.Err() != nil {
			return shut, ctx.Err()
		}
		c, err := load.Dial(endpoint, load.Legacy)
		if err != nil {
			return shut, fmt.Errorf("stream %d: %w", k+1, err)
		}
		clients = append(clients, c)
		if sessions {
			if err := c.Open(); err != nil {
				return shut, fmt.Errorf("session %d: %w", k+1, err)
			}
		}
		if err := c.Listen(); err != nil {
			return shut, fmt.Errorf("stream %d: %w", k+1, err)
		}
	}
	return shut, nil
}

// settle waits until a server has noticed that connections were closed: until the number of its descriptors has stayed the same for
// a while, or 10 s have passed.
func settle(ctx context.Context, pid int) {
	const steady, every, atMost = 10, 50 * time.Millisecond, 200
	ticks := time.NewTicker(every)
	defer ticks.Stop()
	for last, same, n := -1, 0, 0; same < steady && n < atMost; n++ {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
		now, err := process.Descriptors(pid)
		if err != nil {
			return
		}
		if same++; now != last {
			last, same = now, 0
		}
	}
}
