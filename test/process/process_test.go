// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package process_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/test/process"
)

func start(t *testing.T, script string) *process.Process {
	t.Helper()
	p, err := process.Start(process.Options{Name: "script", Dir: t.TempDir(), Program: "/bin/sh", Args: []string{"-c", script}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p
}

func TestStopEndsTheWholeGroup(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	// The shell ends at SIGTERM and leaves a child that ignores it.
	p := start(t, `(trap "" TERM; echo ready > `+pidFile+`; while :; do sleep 1; done) & wait`)
	waitFor(t, func() bool { _, err := os.Stat(pidFile); return err == nil })
	p.Stop()
	waitFor(t, func() bool { return syscall.Kill(-p.PID(), 0) != nil }) // nobody is left in the group
}

func TestSignalAndKill(t *testing.T) {
	p := start(t, "while :; do :; done")
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return state(t, p) == "T" })
	p.Kill() // what was stopped, too
	if err := p.Err(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("after the kill: %v", err)
	}
	if err := p.Signal(syscall.SIGCONT); err == nil {
		t.Error("a process that has ended took a signal")
	}
}

// state is the third field of proc_pid_stat(5); the second one holds no blank here.
func state(t *testing.T, p *process.Process) string {
	t.Helper()
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.PID()), "stat"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(stat))[2]
}

func TestWaitReadyOfAProcessThatEnds(t *testing.T) {
	p := start(t, "echo no such luck >&2; exit 3")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := p.WaitReady(ctx, "http://127.0.0.1:1/readyz")
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "no such luck") {
		t.Errorf("error %v does not say how it ended and what it printed", err)
	}
}

// The clock of another process counts what that process uses: a busy one nearly all the time it gets, a sleeping one nothing.
func TestCPU(t *testing.T) {
	busy, idle := start(t, "while :; do :; done"), start(t, "exec sleep 60")
	waitFor(t, func() bool { return used(t, busy) > 100*time.Millisecond })
	if cpu := used(t, idle); cpu > 50*time.Millisecond {
		t.Errorf("a sleeping process used %v", cpu)
	}
	if rss, err := process.RSS(busy.PID()); err != nil || rss < 100<<10 || rss > 100<<20 {
		t.Errorf("RSS of a shell: %d bytes, %v", rss, err)
	}
	if n, err := process.Descriptors(idle.PID()); err != nil || n < 3 {
		t.Errorf("descriptors: %d, %v; want standard input, output and error at least", n, err)
	}
	if _, err := process.CPU(1 << 22); err == nil { // above the highest id that the kernel gives
		t.Error("the clock of no process was read")
	}
}

func used(t *testing.T, p *process.Process) time.Duration {
	t.Helper()
	cpu, err := process.CPU(p.PID())
	if err != nil {
		t.Fatal(err)
	}
	return cpu
}

func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	ticks := time.NewTicker(time.Millisecond)
	defer ticks.Stop()
	for !done() {
		if time.Now().After(deadline) {
			t.Fatal("not within 10 s")
		}
		<-ticks.C
	}
}
