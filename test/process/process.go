// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package process runs the programs that a measurement needs beside itself, each in a process group of its own with its output in
// a file, and asks the kernel what they cost.
package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// stopTimeout is what a program has to end by itself after SIGTERM.
const stopTimeout = 35 * time.Second

// Options says what to run.
type Options struct {
	// Name is what the process is called in errors, and the name of its log. Required.
	Name string
	// Dir is where the log is kept, as NAME.log. Required.
	Dir string
	// Program and Args are the command. Program is required.
	Program string
	Args    []string
	// Env is added to the environment.
	Env []string
}

// Process is a running program.
type Process struct {
	name, log string
	cmd       *exec.Cmd
	ended     chan struct{}
	err       error // of the end; valid once ended is closed
}

// Start runs a program until it ends, or until Stop.
func Start(o Options) (*Process, error) {
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("starting %s: %w", o.Name, err)
	}
	p := &Process{name: o.Name, log: filepath.Join(o.Dir, o.Name+".log"), ended: make(chan struct{})}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", o.Name, err)
	}
	defer log.Close()
	p.cmd = exec.Command(o.Program, o.Args...) //nolint:noctx // Stop ends it, and first asks it to
	p.cmd.Env = append(os.Environ(), o.Env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", o.Name, err)
	}
	go func() {
		defer close(p.ended)
		p.err = p.cmd.Wait()
	}()
	return p, nil
}

// PID is the id of the process, and of its group.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Log is the file with what the process printed.
func (p *Process) Log() string { return p.log }

// Err is nil while the process runs; afterwards it says that it ended, and why as far as the last of its output tells.
func (p *Process) Err() error {
	select {
	case <-p.ended:
	default:
		return nil
	}
	return fmt.Errorf("%s ended (%w); its output ends with: %s", p.name, cmp.Or(p.err, errEnded), tail(p.log))
}

var errEnded = errors.New("exit status 0")

// Stop asks the process group to end, insists after a while, and waits for the process.
func (p *Process) Stop() {
	_ = syscall.Kill(-p.PID(), syscall.SIGTERM) // it fails when all have ended
	insist := time.NewTimer(stopTimeout)
	defer insist.Stop()
	select {
	case <-p.ended:
	case <-insist.C:
	}
	_ = syscall.Kill(-p.PID(), syscall.SIGKILL) // children that a program left behind, too
	<-p.ended
}

// Signal sends a signal to the process group.
func (p *Process) Signal(signal syscall.Signal) error {
	if err := p.Err(); err != nil {
		return err
	}
	if err := syscall.Kill(-p.PID(), signal); err != nil {
		return fmt.Errorf("sending %s to %s: %w", signal, p.name, err)
	}
	return nil
}

// Kill ends the process group without a chance to say good-bye, and waits for the process.
func (p *Process) Kill() {
	_ = syscall.Kill(-p.PID(), syscall.SIGKILL) // it fails when all have ended
	<-p.ended
}

// Wait waits for the process, ends it if the context ends first, and returns what it printed. It is an error unless the process
// exits with 0.
func (p *Process) Wait(ctx context.Context) (output []byte, err error) {
	select {
	case <-p.ended:
		if p.err != nil {
			err = p.Err()
		}
	case <-ctx.Done():
		err = fmt.Errorf("waiting for %s to end: %w; its output ends with: %s", p.name, ctx.Err(), tail(p.log))
	}
	p.Stop()
	output, readErr := os.ReadFile(p.log)
	return output, errors.Join(err, readErr)
}

// WaitReady waits until a GET of the URL answers 200, the process ends, or the context does.
func (p *Process) WaitReady(ctx context.Context, url string) error {
	return p.wait(ctx, "answer 200 at "+url, func() bool {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return false
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return false
		}
		answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
}

// WaitListening waits until something listens on the address, the process ends, or the context does.
func (p *Process) WaitListening(ctx context.Context, address string) error {
	return p.wait(ctx, "listen on "+address, func() bool {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
}

func (p *Process) wait(ctx context.Context, what string, done func() bool) error {
	ticks := time.NewTicker(20 * time.Millisecond)
	defer ticks.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s to %s: %w; its output ends with: %s", p.name, what, ctx.Err(), tail(p.log))
		case <-p.ended:
			return p.Err()
		case <-ticks.C:
		}
	}
	return nil
}

// FreeAddress is host:port on loopback that nobody listens on. Somebody may take it before it is used; then that use fails.
func FreeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("looking for a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// tailLength is how much of a log is quoted in an error.
const tailLength = 600

func tail(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	if len(text) > tailLength {
		text = text[len(text)-tailLength:]
	}
	return string(text)
}
