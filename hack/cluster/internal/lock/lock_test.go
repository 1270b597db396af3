// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package lock

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func acquire(t *testing.T, path string, timeout time.Duration, waiting func()) (*Lock, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	return Acquire(ctx, path, waiting)
}

func TestOnlyOneHolds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "lock")
	first, err := acquire(t, path, time.Second, func() { t.Error("waits for a free lock") })
	if err != nil {
		t.Fatal(err)
	}
	waits := 0
	if _, err := acquire(t, path, 3*poll, func() { waits++ }); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("second holder: got %v, want a timeout", err)
	}
	if waits != 1 {
		t.Errorf("said %d times that it waits, want once", waits)
	}
	if err := first.Release(); err != nil {
		t.Fatal(err)
	}
	second, err := acquire(t, path, time.Second, func() {})
	if err != nil {
		t.Fatalf("after release: %v", err)
	}
	if err := second.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
}

func TestWaiterSurvivesRemoval(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first, err := acquire(t, path, time.Second, func() {})
	if err != nil {
		t.Fatal(err)
	}
	second, err := acquire(t, path, 10*time.Second, func() {
		if err := first.Remove(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := acquire(t, path, 2*poll, func() {}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the waiter holds a removed file: third holder got %v, want a timeout", err)
	}
	if err := second.Release(); err != nil {
		t.Fatal(err)
	}
}
