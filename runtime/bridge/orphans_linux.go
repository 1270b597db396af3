// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// reapOrphans waits for processes that were handed to this one because their parents ended, until ctx ends. Only the first
// process of a container, or a subreaper, gets such; unreaped they would fill the container's process table. Processes
// that this program started are left to those who wait for them: waiting for just any child, as an init does, would take
// their exit status away.
func reapOrphans(ctx context.Context) {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	defer signal.Stop(ended)
	for {
		children.reapOrphans()
		select {
		case <-ctx.Done():
			return
		case <-ended:
		}
	}
}

// reapOrphans waits for those children of this process that are not in the table and have ended. The kernel lists children
// by thread (proc_pid_children(5)); where it does not, nothing is reaped.
func (t *childTable) reapOrphans() {
	t.mu.Lock()
	defer t.mu.Unlock()
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		return // a bad pattern only
	}
	for _, list := range lists {
		pids, err := os.ReadFile(list)
		if err != nil {
			continue // the thread is gone
		}
		for field := range strings.FieldsSeq(string(pids)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				continue
			}
			if _, ours := t.pids[pid]; !ours {
				_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil) // not ended yet: another SIGCHLD will come
			}
		}
	}
}
