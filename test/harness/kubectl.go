// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package harness drives a cluster and MCP servers from outside, as a user does: with kubectl and with an MCP client that is
// not ours. The demo and the end-to-end tests share it.
package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Kubectl runs kubectl against one cluster.
type Kubectl struct {
	// Path is the program.
	Path string
	// Context is a context of the kubeconfig, "" for the current one.
	Context string
	// Env is added to the environment of this process.
	Env []string
}

// FromEnvironment is the kubectl in PATH with what KUBECONFIG and the current context say.
func FromEnvironment() (Kubectl, error) {
	path, err := exec.LookPath("kubectl")
	if err != nil {
		return Kubectl{}, fmt.Errorf("looking for kubectl: %w (bin/cluster env prints a PATH that has it)", err)
	}
	return Kubectl{Path: path}, nil
}

// Command is kubectl with arguments, not started.
func (k Kubectl) Command(ctx context.Context, args ...string) *exec.Cmd {
	if k.Context != "" {
		args = append([]string{"--context", k.Context}, args...)
	}
	cmd := exec.CommandContext(ctx, k.Path, args...)
	cmd.Env = append(os.Environ(), k.Env...)
	return cmd
}

// Run runs kubectl and returns what it printed to stdout. The error quotes stderr.
func (k Kubectl) Run(ctx context.Context, args ...string) (string, error) {
	return k.run(k.Command(ctx, args...), args)
}

// RunInput is Run with a text on stdin.
func (k Kubectl) RunInput(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd := k.Command(ctx, args...)
	cmd.Stdin = strings.NewReader(stdin)
	return k.run(cmd, args)
}

// Stream runs kubectl with its output going to w.
func (k Kubectl) Stream(ctx context.Context, w io.Writer, args ...string) error {
	cmd := k.Command(ctx, args...)
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("kubectl %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// GetJSON decodes one object.
func (k Kubectl) GetJSON(ctx context.Context, into any, args ...string) error {
	out, err := k.Run(ctx, append(append([]string{"get"}, args...), "--output=json")...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		return fmt.Errorf("decoding the output of kubectl get %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

func (k Kubectl) run(cmd *exec.Cmd, args []string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// WaitFor polls a condition until it holds or the time is over; then the error is the condition's last one.
func WaitFor(ctx context.Context, limit time.Duration, what string, condition func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		err := condition(ctx)
		if err == nil {
			return nil
		}
		// A condition that was cut off by the deadline says less than the one before it.
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("%s: not within %s: %w", what, limit, last)
			}
			return fmt.Errorf("%s: %w", what, ctx.Err())
		case <-tick.C:
		}
	}
}
