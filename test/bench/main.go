// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Command bench measures the gateway against httputil.ReverseProxy, and against no hop at all, on one machine: the data rows of the
// project's table of numbers. Each program that takes part is a process of its own: the MCP servers (bench echo), the proxy (bench
// proxy), the gateway (vmcp serve), and this one, which is all the clients. Only figures of one run, taken in turns, are compared.
//
//	bench -vmcp bin/vmcp -plan short -out docs/performance.md
//	bench soak -vmcp bin/vmcp -calls 200000
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"

	"github.com/vmcp-dev/vmcp-operator/test/document"
)

// timeout bounds everything.
const timeout = 90 * time.Minute

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(args) > 0 {
		if serve, ok := roles[args[0]]; ok {
			return serve(ctx, args[1:])
		}
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	vmcp := flags.String("vmcp", "bin/vmcp", "the gateway's `program`")
	name := flags.String("plan", "short", "smoke, short or full: how long, and with how many sessions; only full is for figures that are kept")
	out := flags.String("out", "", "`file` that gets the tables, between its markers")
	dir := flags.String("dir", "", "`folder` for logs and profiles (default a new one below the temporary folder)")
	profile := flags.Bool("profile", false, "also take a CPU profile of the gateway under 16 clients, for each era")
	only := flags.String("run", "", "`regexp` of the rows to measure")
	_ = flags.Parse(args) // it exits
	p, ok := plans[*name]
	if !ok {
		return fmt.Errorf("-plan: %q is none of smoke, short and full", *name)
	}
	rows, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	if *dir == "" {
		if *dir, err = os.MkdirTemp("", "vmcp-bench-"); err != nil {
			return fmt.Errorf("making a folder for the logs: %w", err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("looking for this program, which is also the servers: %w", err)
	}
	b := &bench{plan: p, rows: rows, vmcp: *vmcp, self: self, dir: *dir, profile: *profile, report: report{plan: *name}}
	err = errors.Join(b.throughput(ctx), b.manyBackends(ctx))
	text := b.report.markdown()
	fmt.Printf("\n%s\nlogs: %s\n", text, *dir)
	if *out != "" && err == nil {
		err = document.Replace(*out, "bench", text)
	}
	return err
}

// plan says how much is measured.
type plan struct {
	// pairs is the number of turns of proxy and gateway, slice how long each of them is.
	pairs int
	slice time.Duration
	// rounds is how often all clients begin at once.
	rounds int
	// sessions is the number of sessions whose memory is measured.
	sessions int
	// hang is how long a backend hangs while new clients come.
	hang time.Duration
}

var plans = map[string]plan{
	"smoke": {pairs: 3, slice: 100 * time.Millisecond, rounds: 2, sessions: 200, hang: time.Second},
	"short": {pairs: 15, slice: 250 * time.Millisecond, rounds: 5, sessions: 2000, hang: 5 * time.Second},
	"full":  {pairs: 25, slice: time.Second, rounds: 15, sessions: 10000, hang: 30 * time.Second},
}

// bench is one run.
type bench struct {
	plan      plan
	rows      *regexp.Regexp
	vmcp      string
	self, dir string
	profile   bool
	report    report
}
