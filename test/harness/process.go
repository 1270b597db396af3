// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// PodProcess finds the process of a pod, by the pod's UID, that was started as program. It works where the node is this machine.
func PodProcess(uid, program string) (*os.Process, error) {
	groups, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	for _, file := range groups {
		cgroup, err := os.ReadFile(file)
		// The systemd driver of the kubelet writes underscores.
		if err != nil || !bytes.Contains(cgroup, []byte("pod"+uid)) && !bytes.Contains(cgroup, []byte("pod"+strings.ReplaceAll(uid, "-", "_"))) {
			continue
		}
		folder := filepath.Dir(file)
		commandLine, err := os.ReadFile(filepath.Join(folder, "cmdline"))
		if err != nil {
			continue // it has ended
		}
		if name, _, _ := bytes.Cut(commandLine, []byte{0}); string(name) != program {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(folder))
		if err != nil {
			return nil, fmt.Errorf("reading the name of %s: %w", folder, err)
		}
		return os.FindProcess(pid)
	}
	return nil, fmt.Errorf("no process %s of pod %s on this machine", program, uid)
}
