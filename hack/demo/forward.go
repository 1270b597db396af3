// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/test/harness"
)

const (
	// forwardAddress is where the gateway stays reachable after the demo.
	forwardAddress = "127.0.0.1:4483"
	forwardPort    = 4483
	// forwardPatience is for how long a cluster may not answer before forwarding ends by itself.
	forwardPatience = time.Minute
)

func forwardPIDFile() string { return filepath.Join("bin", "demo-forward.pid") }

// startForwarding starts "demo forward" as a process of its own and waits until the gateway answers there.
func startForwarding(ctx context.Context, env *environment) (string, error) {
	if err := stopForwarding(); err != nil {
		return "", err
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("starting the forwarder: %w", err)
	}
	log, err := os.Create(filepath.Join("bin", "demo-forward.log"))
	if err != nil {
		return "", fmt.Errorf("starting the forwarder: %w", err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(self, "forward") //nolint:noctx // it is to outlive this process
	cmd.Env = append(os.Environ(), "DEMO_CONTEXT="+env.context)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("starting the forwarder: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	started, err := processStart(cmd.Process.Pid)
	if err == nil {
		err = os.WriteFile(forwardPIDFile(), fmt.Appendf(nil, "%d %s\n", cmd.Process.Pid, started), 0o600)
	}
	if err != nil {
		_ = cmd.Process.Kill()
		return "", fmt.Errorf("starting the forwarder: %w", err)
	}
	err = harness.WaitFor(ctx, 30*time.Second, "waiting for "+forwardAddress, func(ctx context.Context) error {
		select {
		case <-ended:
			text, _ := os.ReadFile(log.Name())
			return fmt.Errorf("the forwarder ended: %s", strings.TrimSpace(string(text)))
		default:
		}
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", forwardAddress)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	return forwardAddress, err
}

// keepForwarding forwards to the gateway until the context ends or the cluster has been away for too long. kubectl's own
// forwarding ends with the pod that it chose; this one starts it anew.
func keepForwarding(ctx context.Context, out io.Writer) error {
	k, err := harness.FromEnvironment()
	if err != nil {
		return err
	}
	k.Context = os.Getenv("DEMO_CONTEXT")
	lastGood := time.Now()
	for ctx.Err() == nil {
		forward, err := harness.ForwardService(ctx, k, demoNamespace, v1alpha1.OperandName(gatewayName), forwardPort, int(v1alpha1.ServicePort))
		if err == nil {
			select {
			case <-forward.Done():
			case <-ctx.Done():
			}
			forward.Close()
			lastGood = time.Now()
		} else {
			_, _ = fmt.Fprintln(out, err)
			if time.Since(lastGood) > forwardPatience {
				return err
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	return nil
}

// stopForwarding ends the forwarder of an earlier demo, if it still runs.
func stopForwarding() error {
	content, err := os.ReadFile(forwardPIDFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("stopping the forwarder: %w", err)
	}
	fields := strings.Fields(string(content))
	if len(fields) == 2 {
		pid, err := strconv.Atoi(fields[0])
		// A process of the same number that started at another time is somebody else's.
		if started, startErr := processStart(pid); err == nil && startErr == nil && started == fields[1] {
			if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("stopping the forwarder (pid %d): %w", pid, err)
			}
			err := harness.WaitFor(context.Background(), 10*time.Second, "waiting for the forwarder to end", func(context.Context) error {
				if now, err := processStart(pid); err == nil && now == started {
					return fmt.Errorf("pid %d still runs", pid)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	if err := os.Remove(forwardPIDFile()); err != nil {
		return fmt.Errorf("stopping the forwarder: %w", err)
	}
	return nil
}

// processStart is the start time of a running process in clock ticks since boot (proc(5), field 22 of stat).
func processStart(pid int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	// The name of the program, in parentheses, may contain blanks.
	_, rest, ok := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')'):]), " ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 || fields[0] == "Z" {
		return "", fmt.Errorf("process %d has ended", pid)
	}
	return fields[19], nil
}
