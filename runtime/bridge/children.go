// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"os/exec"
	"sync"
)

// children are the processes that this program started and has not waited for yet. reapOrphans leaves them alone.
var children = childTable{pids: map[int]struct{}{}}

type childTable struct {
	// mu is held while a process starts: it is in the table before anybody can ask.
	mu   sync.Mutex
	pids map[int]struct{}
}

func (t *childTable) start(cmd *exec.Cmd) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return err
	}
	t.pids[cmd.Process.Pid] = struct{}{}
	return nil
}

func (t *childTable) reaped(pid int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.pids, pid)
}
