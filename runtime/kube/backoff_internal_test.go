// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"testing"
	"time"
)

// However long the API server was away, what changed is known ten seconds after it came back: no pause may be longer.
func TestWatchBackoff_IsShorterThanThePromise(t *testing.T) {
	t.Parallel()
	const promise = 10 * time.Second
	b := watchBackoff()
	for range 100 {
		if pause := b.Step(); pause > promise {
			t.Fatalf("a pause of %s, want at most %s", pause, promise)
		}
	}
}
