// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package health_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/health"
)

// watched is a monitor of a fake in a bubble of virtual time.
type watched struct {
	*health.Monitor
	confirmed atomic.Int64
	changes   atomic.Int64 // of the verdict
	paused    atomic.Pointer[time.Time]
}

// pause has the process have gone on at this moment.
func (w *watched) pause() {
	now := time.Now()
	w.paused.Store(&now)
}

func watch(t *testing.T, f *fake, test func(t *testing.T, w *watched)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &watched{}
		w.Monitor = health.NewMonitor(health.DefaultPolicy(), f, health.Observer{
			Verdict:   func(health.Verdict) { w.changes.Add(1) },
			Confirmed: func() { w.confirmed.Add(1) },
		}, func() time.Time {
			if at := w.paused.Load(); at != nil {
				return *at
			}
			return time.Time{}
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			w.Run(ctx)
		}()
		synctest.Wait()
		test(t, w)
		cancel()
		<-ended
		if f.most > 1 {
			t.Errorf("%d probes were in flight at once", f.most)
		}
	})
}

func TestMonitor_Recheck(t *testing.T) {
	for name, c := range map[string]struct {
		before func(context.Context) error // how the backend answers for a long time
		now    func(context.Context) error
		within time.Duration // until the verdict is confirmed; a moment less is not enough
		want   v1alpha1.BackendStatus
	}{
		"one that answers":                    {ok, ok, 0, v1alpha1.BackendReady},
		"one that refuses as before":          {refuses, refuses, 0, v1alpha1.BackendUnavailable},
		"one that is back":                    {refuses, ok, 0, v1alpha1.BackendReady},
		"one that died is not given up early": {ok, refuses, 2 * time.Second, v1alpha1.BackendUnavailable},
		"one that begins to hang":             {ok, hangs, 2 * time.Second, v1alpha1.BackendDegraded},
		"one that was dead and hangs now":     {refuses, hangs, 2 * time.Second, v1alpha1.BackendUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{answer: c.before}
			watch(t, f, func(t *testing.T, w *watched) {
				pass(42 * time.Second) // between two probes, whatever the jitter
				for f.inFlight() > 0 {
					pass(time.Second)
				}
				f.set(c.now)
				asked := time.Now()
				w.Recheck()
				synctest.Wait()
				if c.within > 0 {
					pass(c.within - time.Millisecond)
					if n := w.confirmed.Load(); n != 0 || !w.Probed().Before(asked) {
						t.Errorf("the verdict %s was confirmed too early", w.Verdict().Status)
					}
					pass(time.Millisecond)
				}
				if n := w.confirmed.Load(); n != 1 || w.Probed().Before(asked) {
					t.Errorf("the verdict was confirmed %d times", n)
				}
				expect(t, w.Monitor, c.want)
				pass(time.Minute)
				if n := w.confirmed.Load(); n != 1 {
					t.Errorf("the verdict was confirmed %d times, and asked for once", n)
				}
			})
		})
	}
}

// A probe that is open for longer than a healthy backend takes shows at once that a hanging one still hangs.
func TestMonitor_RecheckOfOneThatHangs(t *testing.T) {
	f := &fake{answer: hangs}
	watch(t, f, func(t *testing.T, w *watched) {
		w.Recheck()
		pass(3 * time.Second)
		expect(t, w.Monitor, v1alpha1.BackendUnknown)
		if n := w.confirmed.Load(); n != 0 {
			t.Error("nothing is known of the backend, and that was confirmed")
		}
		pass(10 * time.Second)
		expect(t, w.Monitor, v1alpha1.BackendUnavailable)
		if n := w.confirmed.Load(); n != 1 {
			t.Errorf("the verdict was confirmed %d times, want once", n)
		}
		pass(9 * time.Second) // 5 s to the next probe, give or take 0.5, which is open since
		w.Recheck()
		synctest.Wait()
		if n := w.confirmed.Load(); n != 2 {
			t.Error("a probe that is open and late does not confirm the verdict")
		}
	})
}

func TestMonitor_APauseVoidsTheOpenProbe(t *testing.T) {
	for name, open := range map[string]func(context.Context) error{
		"that fails then": func(ctx context.Context) error {
			_ = takes(time.Second)(ctx)
			return errRefused
		},
		"that is answered then":       takes(time.Second),
		"that is slow then":           takes(5 * time.Second),
		"that has not been answered":  hangs,
		"whose deadline passed in it": takes(time.Hour),
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{answer: ok}
			watch(t, f, func(t *testing.T, w *watched) {
				f.set(open)
				for f.inFlight() == 0 {
					pass(100 * time.Millisecond)
				}
				changes, before := w.changes.Load(), w.Probed()
				f.set(ok)
				w.pause()
				if name == "that has not been answered" {
					w.Recheck() // it is not waited for
				}
				for w.Probed().Equal(before) {
					pass(100 * time.Millisecond)
				}
				expect(t, w.Monitor, v1alpha1.BackendReady)
				if n := w.changes.Load() - changes; n != 0 {
					t.Errorf("the verdict changed %d times for what was open before the pause", n)
				}
				f.mu.Lock()
				defer f.mu.Unlock()
				if last := f.probes[len(f.probes)-1]; !w.Probed().Equal(last) {
					t.Errorf("the verdict was confirmed at %s, and not by the probe at %s that was begun after the pause", w.Probed(), last)
				}
			})
		})
	}
}

func TestMonitor_ProbesSeldomOnStandby(t *testing.T) {
	f := &fake{answer: ok}
	watch(t, f, func(t *testing.T, w *watched) {
		w.Standby(true)
		pass(6 * time.Second) // the probe that was arranged for before
		begun, _ := f.counts()
		pass(5 * time.Minute)
		if n, _ := f.counts(); n-begun < 9 || n-begun > 12 {
			t.Errorf("%d probes within five minutes on standby, want one every 30 s", n-begun)
		}
		f.set(refuses)
		w.CallFailed(health.Fault{Reason: v1alpha1.ReasonConnectionRefused})
		pass(3 * time.Second)
		expect(t, w.Monitor, v1alpha1.BackendUnavailable)
		f.set(ok)
		w.Check()
		synctest.Wait()
		expect(t, w.Monitor, v1alpha1.BackendReady)

		w.Standby(false)
		w.Recheck()
		synctest.Wait()
		begun, _ = f.counts()
		pass(time.Minute)
		if n, _ := f.counts(); n-begun < 10 || n-begun > 14 {
			t.Errorf("%d probes within a minute, want one every 5 s", n-begun)
		}
	})
}
