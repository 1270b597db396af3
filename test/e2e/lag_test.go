//go:build e2e

// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"
	"time"
)

// measure prints how long it took after a fault until something was so, and fails the test if that was too long.
func measure(t *testing.T, fault, until string, bound, measured time.Duration) {
	t.Helper()
	t.Logf("fault=%q until=%q bound=%s measured=%.1fs", fault, until, bound, measured.Seconds())
	if measured > bound {
		t.Errorf("%s: %s after %s, want within %s", fault, until, measured.Round(10*time.Millisecond), bound)
	}
}
