// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"testing"
	"time"
)

// However long the API server was away, the status is right ten seconds after it came back: no pause between tries may be longer.
func TestBackoff_IsShorterThanThePromise(t *testing.T) {
	t.Parallel()
	const promise = 10 * time.Second
	for pause := minBackoff; ; pause = longer(pause) {
		if pause > promise {
			t.Fatalf("a pause of %s, want at most %s", pause, promise)
		}
		if pause == longer(pause) {
			return
		}
	}
}
