// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// How long a server may take to end: after its input was closed, and then after SIGTERM (2025-11-25, basic/lifecycle,
// shutdown of stdio).
const (
	graceAfterClose = 2 * time.Second
	graceAfterTerm  = 2 * time.Second
	// graceForOutput is how long output is awaited that a descendant outside the process group may still hold open.
	graceForOutput = time.Second
)

// process is one run of the server, in a process group of its own.
type process struct {
	cmd    *exec.Cmd
	stdin  *os.File
	stdout *os.File
	stderr *os.File
	// exited is closed once the process was waited for; state is valid from then on.
	exited chan struct{}
	state  *os.ProcessState
}

// startProcess runs a command with pipes for its three streams. The caller reads stdout and stderr to their ends.
func startProcess(path string, argv []string) (*process, error) {
	var pipes [6]*os.File // read and write ends of stdin, stdout, stderr
	closeAll := func(files ...*os.File) {
		for _, f := range files {
			if f != nil {
				f.Close()
			}
		}
	}
	for i := 0; i < len(pipes); i += 2 {
		r, w, err := os.Pipe()
		if err != nil {
			closeAll(pipes[:]...)
			return nil, fmt.Errorf("opening pipes to the server: %w", err)
		}
		pipes[i], pipes[i+1] = r, w
	}
	// Not CommandContext: the server is ended in steps, see stop.
	cmd := &exec.Cmd{Path: path, Args: argv, Stdin: pipes[0], Stdout: pipes[3], Stderr: pipes[5]}
	ownProcessGroup(cmd)
	err := children.start(cmd)
	closeAll(pipes[0], pipes[3], pipes[5])
	if err != nil {
		closeAll(pipes[1], pipes[2], pipes[4])
		return nil, fmt.Errorf("starting the server: %w", err)
	}
	p := &process{cmd: cmd, stdin: pipes[1], stdout: pipes[2], stderr: pipes[4], exited: make(chan struct{})}
	go p.wait()
	return p, nil
}

// wait reaps the process. What it leaves behind in its group serves nobody and goes too.
func (p *process) wait() {
	defer close(p.exited)
	_ = p.cmd.Wait() // the state says it better
	p.state = p.cmd.ProcessState
	killGroup(p.cmd.Process)
	children.reaped(p.cmd.Process.Pid)
}

// stop ends the process: by closing its input, then SIGTERM, then SIGKILL to the group. It returns once it is reaped.
func (p *process) stop() {
	p.stdin.Close()
	if p.exitedWithin(graceAfterClose) {
		return
	}
	terminateGroup(p.cmd.Process)
	if p.exitedWithin(graceAfterTerm) {
		return
	}
	killGroup(p.cmd.Process)
	<-p.exited
}

func (p *process) exitedWithin(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-p.exited:
		return true
	case <-timer.C:
		return false
	}
}

var errLineTooLong = errors.New("line too long")

// readLines calls handle with each line of r that is not blank, until the end of r or a line of more than limit bytes. The
// line is valid during the call only.
func readLines(r io.Reader, limit int, handle func([]byte)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, min(64<<10, limit)), limit)
	for lines.Scan() {
		if line := bytes.TrimSpace(lines.Bytes()); len(line) > 0 {
			handle(line)
		}
	}
	err := lines.Err()
	switch {
	case errors.Is(err, bufio.ErrTooLong):
		return errLineTooLong
	case errors.Is(err, os.ErrClosed):
		return nil
	default:
		return err
	}
}
