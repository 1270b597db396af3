// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package progress

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestStep(t *testing.T) {
	failure := errors.New("failure")
	for name, c := range map[string]struct {
		takes time.Duration
		err   error
		want  string
	}{
		"short":   {1200 * time.Millisecond, nil, "==> x …\n    x: done in 1.2s\n"},
		"long":    {21 * time.Second, nil, "==> x …\n    x … 10s\n    x … 20s\n    x: done in 21.0s\n"},
		"failing": {0, failure, "==> x …\n    x: failed after 0.0s\n"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				err := New(&out).Step("x", func() error { <-time.After(c.takes); return c.err })
				if !errors.Is(err, c.err) || out.String() != c.want {
					t.Errorf("got %v and\n%swant %v and\n%s", err, &out, c.err, c.want)
				}
			})
		})
	}
}
