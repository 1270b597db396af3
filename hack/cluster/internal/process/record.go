// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package process starts daemons that outlive the program, recognises them
// later, and stops them. A process is known by its id, its start time and the
// boot it belongs to, so that a reused id is never mistaken for it.
package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Record identifies a process beyond the reuse of its id.
type Record struct {
	PID int
	// Start is when it started, in clock ticks since boot: field 22 of proc_pid_stat(5).
	Start uint64
	// Boot is the kernel's boot id at that time.
	Boot string
}

// String is the content of a pid file; ParseRecord reads it.
func (r Record) String() string { return fmt.Sprintf("%d %d %s\n", r.PID, r.Start, r.Boot) }

// ParseRecord reads the content of a pid file.
func ParseRecord(s string) (Record, error) {
	f := strings.Fields(s)
	if len(f) != 3 {
		return Record{}, fmt.Errorf("pid file: want PID START BOOT, got %q", s)
	}
	pid, err1 := strconv.Atoi(f[0])
	start, err2 := strconv.ParseUint(f[1], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return Record{}, fmt.Errorf("pid file: %w", err)
	}
	if pid < 2 {
		return Record{}, fmt.Errorf("pid file: %d is no process of ours", pid)
	}
	return Record{PID: pid, Start: start, Boot: f[2]}, nil
}

// stat is the part of proc_pid_stat(5) that matters here.
type stat struct {
	state byte // 'Z' and 'X' are dead
	start uint64
}

// parseStat reads /proc/PID/stat. The second field, the name, is in
// parentheses and may hold spaces and parentheses itself.
func parseStat(s string) (stat, error) {
	end := strings.LastIndexByte(s, ')')
	f := strings.Fields(s[end+1:])
	if end < 0 || len(f) < 20 || len(f[0]) != 1 {
		return stat{}, fmt.Errorf("unexpected process status %q", s)
	}
	start, err := strconv.ParseUint(f[19], 10, 64)
	if err != nil {
		return stat{}, fmt.Errorf("process status: start time: %w", err)
	}
	return stat{state: f[0][0], start: start}, nil
}

// Proc is the proc file system; tests have their own.
type Proc string

// System is the machine's.
const System Proc = "/proc"

func (p Proc) read(elem ...string) (string, error) {
	content, err := os.ReadFile(filepath.Join(append([]string{string(p)}, elem...)...))
	return string(content), err
}

// BootID returns the id of the current boot (random(4)).
func (p Proc) BootID() (string, error) {
	id, err := p.read("sys", "kernel", "random", "boot_id")
	return strings.TrimSpace(id), err
}

// Identify returns the record of a running process.
func (p Proc) Identify(pid int) (Record, error) {
	boot, err := p.BootID()
	if err != nil {
		return Record{}, err
	}
	content, err := p.read(strconv.Itoa(pid), "stat")
	if err != nil {
		return Record{}, err
	}
	s, err := parseStat(content)
	return Record{PID: pid, Start: s.start, Boot: boot}, err
}

// Alive tells whether the very process of the record still runs.
func (p Proc) Alive(r Record) bool {
	if boot, err := p.BootID(); err != nil || boot != r.Boot {
		return false
	}
	content, err := p.read(strconv.Itoa(r.PID), "stat")
	if err != nil {
		return false
	}
	s, err := parseStat(content)
	return err == nil && s.start == r.Start && s.state != 'Z' && s.state != 'X'
}

// Find returns the running processes whose executable and arguments match.
func (p Proc) Find(match func(exe string, args []string) bool) []Record {
	dirs, err := filepath.Glob(filepath.Join(string(p), "[0-9]*"))
	if err != nil {
		return nil // only a malformed pattern
	}
	var found []Record
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == os.Getpid() {
			continue
		}
		exe, err := os.Readlink(filepath.Join(dir, "exe"))
		if err != nil {
			continue // a kernel thread, not ours, or gone
		}
		cmdline, err := p.read(strconv.Itoa(pid), "cmdline")
		if err != nil || !match(strings.TrimSuffix(exe, " (deleted)"), strings.Split(strings.TrimRight(cmdline, "\x00"), "\x00")) {
			continue
		}
		if r, err := p.Identify(pid); err == nil && p.Alive(r) {
			found = append(found, r)
		}
	}
	return found
}
