// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend_test

import (
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
)

// TestWithAnswered hears of each answer on the way to the end of what was asked.
func TestWithAnswered(t *testing.T) {
	young, modernURL := newModern(t, nil)
	count := func(c *backend.Client, do string) (n int64, err error) {
		var answers atomic.Int64
		ctx := backend.WithAnswered(deadline(t, 10*time.Second), func() { answers.Add(1) })
		if do == "probe" {
			err = c.Probe(ctx)
		} else {
			_, err = c.Inventory(ctx)
		}
		return answers.Load(), err
	}
	for name, test := range map[string]struct {
		url    string
		probes []int64 // answers of one after the other, at least
	}{
		"modern: server/discover":                       {url: modernURL, probes: []int64{1, 1}},
		"legacy: era, initialize and initialized, ping": {url: serve(t, newScripted(t)), probes: []int64{3, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t, test.url, v1alpha1.TransportStreamableHTTP, backend.Limits{})
			for i, want := range test.probes {
				if n, err := count(c, "probe"); err != nil || n < want {
					t.Errorf("probe %d: %d answers, %v; want %d", i+1, n, err, want)
				}
			}
			if n, err := count(c, "lists"); err != nil || n < 1 {
				t.Errorf("lists: %d answers, %v", n, err)
			}
		})
	}
	young.set(func(w http.ResponseWriter, _ *http.Request, _ request) bool {
		w.WriteHeader(http.StatusBadGateway)
		_, _ = io.WriteString(w, "away")
		return true
	})
	if n, err := count(newClient(t, modernURL, v1alpha1.TransportStreamableHTTP, backend.Limits{}), "probe"); err == nil || n != 1 {
		t.Errorf("an error: %d answers, %v; want it to be one", n, err)
	}
}
