// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/vmcp-dev/vmcp-operator/test/echo"
	"github.com/vmcp-dev/vmcp-operator/test/load"
	"github.com/vmcp-dev/vmcp-operator/test/process"
	"github.com/vmcp-dev/vmcp-operator/test/standalone"
)

const (
	soakTimeout = 60 * time.Minute
	// soakTurns is how often all clients are replaced with new ones, and the gateway looked at in between.
	soakTurns = 40
	// soakWarmUp is the number of those turns that fill pools and caches; growth is counted from there.
	soakWarmUp  = 10
	soakClients = 4 // of each kind
)

// level is something that has to stay flat.
type level struct {
	name string
	unit float64 // what a sample is divided by to be printed
	// allowed is the growth from the end of the warm-up to the end of the run that is taken for noise.
	allowed float64
	samples []float64
}

// soak makes a number of calls in both eras, same-era and crossed, JSON and streams, with clients that come and go, and fails unless
// the gateway's descriptors, goroutines and memory stay flat.
func soak(ctx context.Context, args []string) error {
	ctx, cancel := context.WithTimeout(ctx, soakTimeout)
	defer cancel()
	flags := flag.NewFlagSet("bench soak", flag.ExitOnError)
	vmcp := flags.String("vmcp", "bin/vmcp", "the gateway's `program`")
	calls := flags.Int("calls", 200_000, "`number` of calls in all")
	dir := flags.String("dir", "", "`folder` for logs (default a new one below the temporary folder)")
	_ = flags.Parse(args) // it exits
	var err error
	if *dir == "" {
		if *dir, err = os.MkdirTemp("", "vmcp-soak-"); err != nil {
			return fmt.Errorf("making a folder for the logs: %w", err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("looking for this program, which is also the servers: %w", err)
	}
	b := &bench{vmcp: *vmcp, self: self, dir: *dir, rows: regexp.MustCompile("")}

	var running stopAll
	defer running.stop()
	var backends []standalone.Backend
	for _, era := range []load.Era{load.Legacy, load.Modern} {
		e, err := b.startEcho(ctx, era, 1)
		if err != nil {
			return err
		}
		running.add(e)
		for _, name := range []string{era.String(), era.String() + echo.StreamSuffix} {
			backends = append(backends, standalone.Backend{Name: name, URL: e.url + "/" + name + "/mcp"})
		}
	}
	g, err := b.startGateway(ctx, "gateway-soak", backends)
	if err != nil {
		return err
	}
	running.add(g)

	levels := []*level{
		{name: "descriptors", unit: 1, allowed: 8},
		{name: "goroutines", unit: 1, allowed: 8},
		{name: "live memory, MiB", unit: 1 << 20, allowed: 1 << 20},
		{name: "resident memory, MiB", unit: 1 << 20, allowed: 8 << 20},
	}
	begin := time.Now()
	for turn := range soakTurns {
		if err := soakTurn(ctx, g, backends, *calls/soakTurns); err != nil {
			return fmt.Errorf("turn %d: %w", turn+1, err)
		}
		if err := sample(ctx, g, levels); err != nil {
			return fmt.Errorf("turn %d: %w", turn+1, err)
		}
	}
	fmt.Printf("at least %d calls in %v; logs: %s\n", *calls/soakTurns*soakTurns, time.Since(begin).Round(time.Second), *dir)
	return flat(levels)
}

// soakTurn makes a number of calls with clients of its own: of both eras, to every backend.
func soakTurn(ctx context.Context, g gateway, backends []standalone.Backend, total int) error {
	eras := []load.Era{load.Legacy, load.Modern}
	lots := len(eras) * len(backends) * soakClients
	each := (total + lots - 1) / lots
	var lives []load.Call
	for _, era := range eras {
		for _, backend := range backends {
			for i := range soakClients {
				size := small
				if i == 0 {
					size = large / 16
				}
				lives = append(lives, func() error {
					if err := life(ctx, g, era, backend.Name, size, each); err != nil {
						return fmt.Errorf("%s client, backend %s: %w", era, backend.Name, err)
					}
					return nil
				})
			}
		}
	}
	return load.Once(lives).Err
}

// life is a client from its first connection to its last call.
func life(ctx context.Context, g gateway, era load.Era, backend string, size, calls int) error {
	client, err := load.Dial(g.Endpoint, era)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := client.Open(); err != nil {
		return err
	}
	if _, err := client.Tools(); err != nil {
		return err
	}
	caller := client.Caller(echo.Tool(backend), size)
	for range calls {
		if err := errors.Join(ctx.Err(), caller.Call()); err != nil {
			return err
		}
	}
	return client.End()
}

var goroutines = regexp.MustCompile(`(?m)^go_goroutines (\d+)`)

// sample looks at the gateway once its clients are gone.
func sample(ctx context.Context, g gateway, levels []*level) error {
	settle(ctx, g.PID())
	memory, err := measure(ctx, g.PID(), g.pprof)
	if err != nil {
		return err
	}
	descriptors, err := process.Descriptors(g.PID())
	if err != nil {
		return err
	}
	metrics, err := fetch(ctx, g.Admin+"/metrics")
	if err != nil {
		return err
	}
	m := goroutines.FindSubmatch(metrics)
	if m == nil {
		return errors.New("no go_goroutines among the metrics")
	}
	running, err := strconv.Atoi(string(m[1]))
	if err != nil {
		return fmt.Errorf("reading the metrics: %w", err)
	}
	for i, v := range []float64{float64(descriptors), float64(running), float64(memory.live), float64(memory.resident)} {
		levels[i].samples = append(levels[i].samples, v)
	}
	return nil
}

// flat prints the levels and is an error unless all of them are flat.
func flat(levels []*level) error {
	var rising []string
	columns := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(columns, "what\tafter warm-up\tat the end\tgrowth by the slope\tallowed\tverdict")
	for _, l := range levels {
		steady := l.samples[soakWarmUp:]
		growth := slope(steady) * float64(len(steady)-1)
		word := "flat"
		if growth > l.allowed {
			word = "RISING"
			rising = append(rising, l.name)
		}
		fmt.Fprintf(columns, "%s\t%.1f\t%.1f\t%+.1f\t%.1f\t%s\n", l.name, steady[0]/l.unit, steady[len(steady)-1]/l.unit, growth/l.unit, l.allowed/l.unit, word)
	}
	_ = columns.Flush() // like Fprintf
	if len(rising) > 0 {
		return fmt.Errorf("not flat: %s", strings.Join(rising, ", "))
	}
	return nil
}

// slope is that of the line through samples at equal distances with the least squares.
func slope(samples []float64) float64 {
	n := float64(len(samples))
	var sx, sy, sxx, sxy float64
	for i, y := range samples {
		x := float64(i)
		sx, sy, sxx, sxy = sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	return (n*sxy - sx*sy) / (n*sxx - sx*sx)
}
