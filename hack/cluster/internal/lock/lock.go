// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package lock keeps two runs of the program from changing the same directory at once.
package lock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// poll is how often a lock that somebody else holds is tried again.
const poll = 100 * time.Millisecond

// Lock is a held flock(2); the kernel releases it when the process ends, however it ends.
type Lock struct{ file *os.File }

// Acquire takes the lock, which is a file, and waits for it as long as ctx
// allows; waiting is called once, before the first wait.
func Acquire(ctx context.Context, path string, waiting func()) (*Lock, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	for first := true; ; first = false {
		l, err := try(path)
		if l != nil || err != nil {
			return l, err
		}
		if first {
			waiting()
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for lock %s: %w", path, context.Cause(ctx))
		case <-time.After(poll):
		}
	}
}

// try returns nil when somebody else holds the lock, or has just removed it.
func try(path string) (*Lock, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("lock: %w: another user, root perhaps, runs a cluster with this state; be that user, or set VMCP_CLUSTER_STATE to a directory of your own", err)
	}
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil && isCurrent(file, path) {
		return &Lock{file: file}, nil
	}
	err = errors.Join(ignoreBusy(err), file.Close())
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return nil, nil
}

func ignoreBusy(err error) error {
	if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR) {
		return nil
	}
	return err
}

// isCurrent tells whether the path still leads to the file that was locked.
func isCurrent(file *os.File, path string) bool {
	mine, err1 := file.Stat()
	now, err2 := os.Stat(path)
	return err1 == nil && err2 == nil && os.SameFile(mine, now)
}

// Release gives the lock up and leaves the file.
func (l *Lock) Release() error { return l.file.Close() }

// Remove removes the file and gives the lock up.
func (l *Lock) Remove() error {
	return errors.Join(os.Remove(l.file.Name()), l.file.Close())
}
