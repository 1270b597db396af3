// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Command pause is the first process of a pod's sandbox. It keeps the pod's
// namespaces alive, reaps processes that lost their parent (it is process 1
// where a pod shares its process namespace), and ends on SIGINT or SIGTERM.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for s := range signals {
		if s != syscall.SIGCHLD {
			return
		}
		reap()
	}
}

// reap collects every child that has ended; one SIGCHLD may stand for many.
func reap() {
	for {
		if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); err != syscall.EINTR && (err != nil || pid <= 0) {
			return
		}
	}
}
