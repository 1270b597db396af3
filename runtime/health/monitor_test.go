// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package health_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/health"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	errRefused      = errors.New("connection refused")
	errUnauthorized = errors.New("unauthorized")
)

// fake is a backend whose behaviour can be changed.
type fake struct {
	mu     sync.Mutex
	answer func(ctx context.Context) error
	load   func(ctx context.Context) error
	steps  []time.Duration // answers of a probe that takes several requests, in the place of answer
	open   int
	most   int
	probes []time.Time
	loads  int
}

func ok(context.Context) error      { return nil }
func refuses(context.Context) error { return errRefused }
func hangs(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func takes(d time.Duration) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (f *fake) set(answer func(context.Context) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = answer
}

func (f *fake) Probe(ctx context.Context, answered func()) error {
	f.mu.Lock()
	answer := f.answer
	if len(f.steps) > 0 {
		steps := f.steps
		answer = func(ctx context.Context) error { return f.answerInSteps(ctx, steps, answered) }
	}
	f.probes = append(f.probes, time.Now())
	f.open++
	f.most = max(f.most, f.open)
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.open--
		f.mu.Unlock()
	}()
	return answer(ctx)
}

// answerInSteps answers several requests, each after its time.
func (f *fake) answerInSteps(ctx context.Context, steps []time.Duration, answered func()) error {
	for _, step := range steps {
		if err := takes(step)(ctx); err != nil {
			return err
		}
		answered()
	}
	return nil
}

func (f *fake) Load(ctx context.Context, _ func()) error {
	f.mu.Lock()
	f.loads++
	load := f.load
	f.mu.Unlock()
	if load != nil {
		return load(ctx)
	}
	return nil
}

func (f *fake) Classify(err error) health.Fault {
	if errors.Is(err, errUnauthorized) {
		return health.Fault{Reason: v1alpha1.ReasonUnauthorized, Unauthorized: true}
	}
	return health.Fault{Reason: v1alpha1.ReasonConnectionRefused, Message: err.Error()}
}

func (f *fake) counts() (probes, loads int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.probes), f.loads
}

func (f *fake) inFlight() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.open
}

// monitored runs a test in a bubble of virtual time with a monitor of the fake.
func monitored(t *testing.T, f *fake, test func(t *testing.T, m *health.Monitor)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		if f.answer == nil {
			f.answer = ok
		}
		m := health.NewMonitor(health.DefaultPolicy(), f, health.Observer{Verdict: func(health.Verdict) {}}, nil)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			m.Run(ctx)
		}()
		synctest.Wait()
		test(t, m)
		cancel()
		<-ended
		if f.most > 1 {
			t.Errorf("%d probes were in flight at once", f.most)
		}
	})
}

func pass(d time.Duration) {
	time.Sleep(d) // virtual time
	synctest.Wait()
}

func expect(t *testing.T, m *health.Monitor, want v1alpha1.BackendStatus) {
	t.Helper()
	if got := m.Verdict(); got.Status != want {
		t.Fatalf("verdict is %s (%s: %s), want %s", got.Status, got.Reason, got.Message, want)
	}
}

func TestMonitor_IsReadyOnlyWithTheLists(t *testing.T) {
	f := &fake{load: takes(time.Second)}
	monitored(t, f, func(t *testing.T, m *health.Monitor) {
		expect(t, m, v1alpha1.BackendUnknown)
		pass(time.Second)
		expect(t, m, v1alpha1.BackendReady)
	})
}

func TestMonitor_ReadsListsAgainWhenTheBackendWasAway(t *testing.T) {
	f := &fake{}
	monitored(t, f, func(t *testing.T, m *health.Monitor) {
		if _, loads := f.counts(); loads != 1 {
			t.Fatalf("lists were read %d times at the start, want once", loads)
		}
		pass(time.Minute)
		if _, loads := f.counts(); loads != 1 {
			t.Fatalf("lists of a healthy backend were read %d times, want once", loads)
		}
		f.set(refuses)
		pass(10 * time.Second)
		expect(t, m, v1alpha1.BackendUnavailable)
		f.set(ok)
		pass(6 * time.Second)
		expect(t, m, v1alpha1.BackendReady)
		if _, loads := f.counts(); loads != 2 {
			t.Errorf("lists were read %d times, want once more after the backend came back", loads)
		}
		m.Reload()
		synctest.Wait()
		if _, loads := f.counts(); loads != 3 {
			t.Errorf("lists were read %d times, want at once after a change was announced", loads)
		}
		pass(6 * time.Minute)
		if _, loads := f.counts(); loads != 4 {
			t.Errorf("lists were read %d times, want once more after five minutes", loads)
		}
	})
}

func TestMonitor_NoticesDeathWhileIdle(t *testing.T) {
	f := &fake{}
	monitored(t, f, func(t *testing.T, m *health.Monitor) {
		expect(t, m, v1alpha1.BackendReady)
		f.set(refuses)
		pass(8 * time.Second) // one interval with jitter, then two more probes at a second each
		expect(t, m, v1alpha1.BackendUnavailable)
	})
}

func TestMonitor_NoticesDeathFromCallsSooner(t *testing.T) {
	f := &fake{}
	monitored(t, f, func(t *testing.T, m *health.Monitor) {
		pass(2 * time.Second)
		f.set(refuses)
		for range 100 { // a burst of calls that fail together
			m.CallFailed(health.Fault{Reason: v1alpha1.ReasonConnectionRefused})
		}
		synctest.Wait()
		expect(t, m, v1alpha1.BackendDegraded) // not on the burst alone
		pass(1100 * time.Millisecond)
		expect(t, m, v1alpha1.BackendUnavailable)
	})
}

func TestMonitor_OneThatHangs(t *testing.T) {
	f := &fake{}
	monitored(t, f, func(t *testing.T, m *health.Monitor) {
		f.set(hangs)
		pass(10 * time.Second)
		expect(t, m, v1alpha1.BackendDegraded)
		pass(10 * time.Second)
		expect(t, m, v1alpha1.BackendUnavailable)
		if got := m.Verdict().Reason; got != v1alpha1.ReasonTimeout {
			t.Errorf("reason is %s, want %s", got, v1alpha1.ReasonTimeout)
		}
		f.set(ok)
		pass(20 * time.Second)
		expect(t, m, v1alpha1.BackendReady)
	})
}

func TestMonitor_SlowOneStaysDegraded(t *testing.T) {
	f := &fake{answer: takes(3 * time.Second)}
	changes := 0
	synctest.Test(t, func(t *testing.T) {
		m := health.NewMonitor(health.DefaultPolicy(), f, health.Observer{Verdict: func(health.Verdict) { changes++ }}, nil)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			m.Run(ctx)
		}()
		pass(2 * time.Minute)
		expect(t, m, v1alpha1.BackendDegraded)
		cancel()
		<-ended
	})
	if changes != 1 {
		t.Errorf("the verdict changed %d times, want once: a slow backend must not go to and fro", changes)
	}
}

func TestMonitor_Unauthorized(t *testing.T) {
	f := &fake{answer: func(context.Context) error { return errUnauthorized }}
	monitored(t, f, func(t *testing.T, m *health.Monitor) {
		expect(t, m, v1alpha1.BackendUnauthenticated)
	})
}

func TestMonitor_FailsWhenListsCannotBeRead(t *testing.T) {
	f := &fake{load: refuses}
	monitored(t, f, func(t *testing.T, m *health.Monitor) {
		expect(t, m, v1alpha1.BackendUnknown)
		pass(3 * time.Second)
		expect(t, m, v1alpha1.BackendUnavailable)
	})
}

func TestMonitor_ProbesAtTheIntervalOfThePolicy(t *testing.T) {
	f := &fake{}
	monitored(t, f, func(t *testing.T, _ *health.Monitor) {
		pass(time.Minute)
		f.mu.Lock()
		defer f.mu.Unlock()
		seen := map[time.Duration]bool{}
		for i := 1; i < len(f.probes); i++ {
			gap := f.probes[i].Sub(f.probes[i-1])
			seen[gap] = true
			if gap < 4500*time.Millisecond || gap > 5500*time.Millisecond {
				t.Errorf("probe %d came after %s, want 5 s with a tenth of jitter", i, gap)
			}
		}
		if len(seen) < 2 {
			t.Error("the interval does not vary")
		}
	})
}

func TestMonitor_EndsWithItsContextWhileAProbeHangs(t *testing.T) {
	f := &fake{answer: hangs}
	monitored(t, f, func(t *testing.T, m *health.Monitor) { expect(t, m, v1alpha1.BackendUnknown) })
}

// TestMonitor_SlowFromTheStart has a backend take 10 s for each answer, of which the first probe needs three. It is slow, not dead: that is
// 12 s without any answer.
func TestMonitor_SlowFromTheStart(t *testing.T) {
	for name, test := range map[string]struct {
		steps []time.Duration
		want  v1alpha1.BackendStatus
	}{
		"slow":               {steps: []time.Duration{10 * time.Second, 10 * time.Second, 10 * time.Second}, want: v1alpha1.BackendDegraded},
		"hangs in the midst": {steps: []time.Duration{10 * time.Second, time.Hour}, want: v1alpha1.BackendUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			monitored(t, &fake{steps: test.steps}, func(t *testing.T, m *health.Monitor) {
				pass(21 * time.Second)
				if v := m.Verdict(); v.Status != v1alpha1.BackendUnknown {
					t.Errorf("before it is known it is %+v", v)
				}
				pass(10 * time.Second)
				if v := m.Verdict(); v.Status != test.want {
					t.Errorf("it is %+v, want %s", v, test.want)
				}
			})
		})
	}
}
