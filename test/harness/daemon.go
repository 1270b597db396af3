// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// deathLimit is how long a killed process may take to disappear.
const deathLimit = 10 * time.Second

// Daemon is a process of the local cluster that can be taken away and given back. It is known by the file that bin/cluster keeps of it,
// which is kept up to date, so that bin/cluster goes on knowing it.
type Daemon struct {
	name, record, log string
	pid               int
	boot              string
	args, env         []string
}

// FindDaemon finds a running process of the local cluster by its name, such as kube-apiserver, in the folder of the cluster's state.
func FindDaemon(state, name string) (*Daemon, error) {
	d := &Daemon{name: name, record: filepath.Join(state, "pids", name+".pid"), log: filepath.Join(state, "logs", name+".log")}
	record, err := os.ReadFile(d.record)
	if err != nil {
		return nil, fmt.Errorf("looking for %s: %w", name, err)
	}
	fields := strings.Fields(string(record))
	if len(fields) != 3 {
		return nil, fmt.Errorf("looking for %s: %s holds %q, want PID START BOOT", name, d.record, record)
	}
	if d.pid, err = strconv.Atoi(fields[0]); err != nil {
		return nil, fmt.Errorf("looking for %s: %w", name, err)
	}
	d.boot = fields[2]
	for file, list := range map[string]*[]string{"cmdline": &d.args, "environ": &d.env} {
		content, err := os.ReadFile(d.proc(file))
		if err != nil {
			return nil, fmt.Errorf("reading how %s was started: %w", name, err)
		}
		for part := range bytes.SplitSeq(bytes.TrimSuffix(content, []byte{0}), []byte{0}) {
			*list = append(*list, string(part))
		}
	}
	if len(d.args) == 0 || filepath.Base(d.args[0]) != name {
		return nil, fmt.Errorf("process %d is no %s", d.pid, name)
	}
	return d, nil
}

func (d *Daemon) proc(file string) string {
	return filepath.Join("/proc", strconv.Itoa(d.pid), file)
}

// Kill ends it without a chance to say good-bye, and waits until it is gone.
func (d *Daemon) Kill(ctx context.Context) error {
	if err := syscall.Kill(d.pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("killing %s: %w", d.name, err)
	}
	return WaitFor(ctx, deathLimit, "waiting for the end of "+d.name, func(context.Context) error {
		state, _, err := d.stat()
		if err == nil && state != "Z" && state != "X" {
			return errors.New("it is there")
		}
		return nil
	})
}

// Start starts it as it was started before. It outlives this process, and need not answer yet.
func (d *Daemon) Start() error {
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("starting %s: %w", d.name, err)
	}
	defer log.Close()
	cmd := exec.Command(d.args[0], d.args[1:]...) //nolint:noctx // it outlives this process
	cmd.Env, cmd.Stdout, cmd.Stderr = d.env, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", d.name, err)
	}
	d.pid = cmd.Process.Pid
	go func() { _ = cmd.Wait() }() // so that no zombie stays if it ends before this process
	_, started, err := d.stat()
	if err == nil {
		err = os.WriteFile(d.record, fmt.Appendf(nil, "%d %s %s\n", d.pid, started, d.boot), 0o644)
	}
	if err != nil {
		return fmt.Errorf("recording the start of %s: %w", d.name, err)
	}
	return nil
}

// stat reads the state and the start time of the process, fields 3 and 22 of proc_pid_stat(5).
func (d *Daemon) stat() (state, started string, err error) {
	content, err := os.ReadFile(d.proc("stat"))
	if err != nil {
		return "", "", err
	}
	// The name, in parentheses, may hold blanks and parentheses itself.
	fields := bytes.Fields(content[bytes.LastIndexByte(content, ')')+1:])
	if len(fields) < 20 {
		return "", "", fmt.Errorf("%s holds %q", d.proc("stat"), content)
	}
	return string(fields[0]), string(fields[19]), nil
}
