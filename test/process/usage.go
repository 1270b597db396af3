// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package process

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// CPU is the processor time that a process has used, user and system, with its threads that ended, to the nanosecond. It reads
// the clock that clock_getcpuclockid(3) names; /proc/PID/stat counts the same in steps of 10 ms.
func CPU(pid int) (time.Duration, error) {
	const perProcessScheduled = 2 // CPUCLOCK_SCHED of a whole process, include/linux/posix-timers_types.h
	var used unix.Timespec
	if err := unix.ClockGettime(int32(^pid)<<3|perProcessScheduled, &used); err != nil {
		return 0, fmt.Errorf("reading the CPU clock of process %d: %w", pid, err)
	}
	return time.Duration(used.Nano()), nil
}

// RSS is the resident memory of a process in bytes.
func RSS(pid int) (int64, error) { return status(pid, "VmRSS") }

// status is a field of /proc/PID/status that is a size, in bytes.
func status(pid int, field string) (int64, error) {
	file, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("reading %s of process %d: %w", field, pid, err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if size, ok := strings.CutPrefix(lines.Text(), field+":"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(size, "kB")), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("reading %s of process %d: %w", field, pid, err)
			}
			return kib << 10, nil
		}
	}
	return 0, fmt.Errorf("reading %s of process %d: %w", field, pid, errors.Join(lines.Err(), errNoField))
}

var errNoField = errors.New("there is no such field; has the process ended?")

// Descriptors is the number of files that a process has open, sockets included.
func Descriptors(pid int) (int, error) {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return 0, fmt.Errorf("counting the descriptors of process %d: %w", pid, err)
	}
	return len(entries), nil
}
