// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	poll = 50 * time.Millisecond
	// grace is the time between SIGTERM and SIGKILL. Nothing a daemon of a
	// throw-away cluster could save is worth more.
	grace = time.Second
	// killWait is how long a killed process may take to disappear.
	killWait = 5 * time.Second
)

// Supervisor knows daemons by name. It has one pid file and one log per name.
type Supervisor struct {
	Proc Proc
	PIDs string // directory of pid files
	Logs string // directory of logs
}

// Command is a daemon to start.
type Command struct {
	Name string
	Path string
	Args []string
	Env  []string // the whole environment: proxies and the like are not inherited
}

// Start starts a daemon in a session of its own: no terminal's signal reaches
// it and it outlives this process.
func (s Supervisor) Start(c Command) error {
	log, err := os.OpenFile(s.LogFile(c.Name), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return fmt.Errorf("start %s: %w", c.Name, err)
	}
	cmd := exec.Command(c.Path, c.Args...) //nolint:noctx // it outlives this process
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = c.Env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := errors.Join(cmd.Start(), log.Close()); err != nil {
		return fmt.Errorf("start %s: %w", c.Name, err)
	}
	record, err := s.Proc.Identify(cmd.Process.Pid)
	if err == nil {
		err = os.WriteFile(s.pidFile(c.Name), []byte(record.String()), 0o644)
	}
	if err != nil {
		// Without a pid file nobody could stop it.
		return fmt.Errorf("start %s: %w", c.Name, errors.Join(err, cmd.Process.Kill(), cmd.Process.Release()))
	}
	return cmd.Process.Release()
}

// LogFile is where a daemon's output goes.
func (s Supervisor) LogFile(name string) string { return filepath.Join(s.Logs, name+".log") }

func (s Supervisor) pidFile(name string) string { return filepath.Join(s.PIDs, name+".pid") }

// Names lists the daemons that have a pid file, sorted.
func (s Supervisor) Names() []string {
	files, err := filepath.Glob(s.pidFile("*"))
	if err != nil {
		return nil // only a malformed pattern
	}
	for i, f := range files {
		files[i] = strings.TrimSuffix(filepath.Base(f), ".pid")
	}
	slices.Sort(files)
	return files
}

// Lookup returns the record of a daemon and whether it still runs.
func (s Supervisor) Lookup(name string) (Record, bool) {
	content, err := os.ReadFile(s.pidFile(name))
	if err != nil {
		return Record{}, false
	}
	r, err := ParseRecord(string(content))
	if err != nil {
		return Record{}, false
	}
	return r, s.Proc.Alive(r)
}

// Dead returns the daemons that were started and no longer run, sorted.
func (s Supervisor) Dead() []string {
	return slices.DeleteFunc(s.Names(), func(name string) bool { _, alive := s.Lookup(name); return alive })
}

// Stop ends the named daemons together and removes their pid files.
func (s Supervisor) Stop(ctx context.Context, names ...string) error {
	var records []Record
	for _, name := range names {
		if r, alive := s.Lookup(name); alive {
			records = append(records, r)
		}
	}
	if err := s.Proc.Stop(ctx, records); err != nil {
		return fmt.Errorf("stop %s: %w", strings.Join(names, ", "), err)
	}
	for _, name := range names {
		if err := os.Remove(s.pidFile(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("stop %s: %w", name, err)
		}
	}
	return nil
}

// Stop asks processes to end, waits a moment, and kills those that remain.
func (p Proc) Stop(ctx context.Context, records []Record) error {
	p.signal(records, syscall.SIGTERM)
	if p.wait(ctx, records, grace) {
		return nil
	}
	return p.Kill(ctx, records)
}

// Kill kills processes and waits until they are gone.
func (p Proc) Kill(ctx context.Context, records []Record) error {
	p.signal(records, syscall.SIGKILL)
	if p.wait(ctx, records, killWait) {
		return nil
	}
	var left []int
	for _, r := range records {
		if p.Alive(r) {
			left = append(left, r.PID)
		}
	}
	return fmt.Errorf("processes %v survive SIGKILL", left)
}

func (p Proc) signal(records []Record, sig syscall.Signal) {
	for _, r := range records {
		if p.Alive(r) {
			// An error means that it ended just now, or is not ours to signal; wait tells.
			_ = syscall.Kill(r.PID, sig)
		}
	}
}

// wait returns whether all processes ended within the time given.
func (p Proc) wait(ctx context.Context, records []Record, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for slices.ContainsFunc(records, p.Alive) {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(poll):
		}
	}
	return true
}

// Tail returns the last lines of a log, each indented, for an error message.
func Tail(file string, lines int) string {
	content, err := os.ReadFile(file)
	if err != nil {
		return "    | (no log: " + err.Error() + ")"
	}
	all := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	return "    | " + strings.Join(all, "\n    | ")
}
