// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package runtime_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// What is in the list can be called at any moment, also at the one at which another backend takes the place of the one that was there: lists
// and backends are swapped in one step, and what was replaced ends after it.
func TestRun_ReplacesABackendUnderItsCallers(t *testing.T) {
	const swaps, callers = 40, 4
	one, other := startMCPServer(t, "echo"), startMCPServer(t, "echo")
	d, reports := newDiscoverer(target("alpha", one.url())), &recorder{}
	r := start(t, standalone(d, reports))
	reports.expectPhase(t, soon, v1alpha1.PhaseReady)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var calls, failed atomic.Int64
	var calling sync.WaitGroup
	for range callers {
		session, _ := r.connect(t)
		calling.Go(func() {
			for ctx.Err() == nil {
				text, err := call(t, session, "alpha_echo", "hello")
				calls.Add(1)
				if err != nil || text != "echo: hello" {
					failed.Add(1)
					t.Errorf("a call during a swap answered %q, %v", text, err)
				}
			}
		})
	}
	for i := range swaps {
		to := other
		if i%2 == 1 {
			to = one
		}
		d.set(target("alpha", to.url()))
		eventually(t, soon, func() string {
			if report, _ := reports.last(); len(report.Backends) == 1 && report.Backends[0].Target.URL == to.url() {
				return ""
			}
			return "the backend at the other address is not reported"
		})
	}
	stop()
	calling.Wait()
	t.Logf("%d calls during %d swaps, %d failed", calls.Load(), swaps, failed.Load())
}
