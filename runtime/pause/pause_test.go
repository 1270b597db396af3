// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pause

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDetector_Look(t *testing.T) {
	start := read()
	after := func(monotonic, wall time.Duration) reading {
		return reading{start.monotonic + monotonic, start.wall.Add(wall)}
	}
	for name, c := range map[string]struct {
		looks  []reading
		pauses int
	}{
		"on time":                   {[]reading{after(time.Second, time.Second), after(2*time.Second, 2*time.Second)}, 0},
		"late":                      {[]reading{after(4900*time.Millisecond, 4900*time.Millisecond), after(9*time.Second, 9*time.Second)}, 0},
		"stopped":                   {[]reading{after(time.Second, time.Second), after(6*time.Second, 6*time.Second)}, 1},
		"stopped twice":             {[]reading{after(time.Minute, time.Minute), after(61*time.Second, 61*time.Second), after(time.Hour, time.Hour)}, 2},
		"the machine was suspended": {[]reading{after(time.Second, time.Hour), after(2*time.Second, time.Hour+time.Second)}, 1},
		"stopped, and the wall clock was set back": {[]reading{after(time.Minute, -time.Hour), after(61*time.Second, -time.Hour+time.Second)}, 1},
		"the wall clock was set back":              {[]reading{after(time.Second, -time.Hour), after(2*time.Second, -time.Hour+time.Second)}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var d Detector
			pauses := 0
			d.OnResume(func() { pauses++ })
			d.look(after(-time.Hour, -time.Hour)) // it does not run yet, so nothing is known to be late
			d.begin(&start)
			for _, at := range c.looks {
				d.look(at)
			}
			if pauses != c.pauses {
				t.Errorf("%d pauses, want %d", pauses, c.pauses)
			}
			if noticed := !d.resumed.IsZero(); noticed != (c.pauses > 0) {
				t.Errorf("resumed at %s", d.resumed)
			}
		})
	}
}

func TestDetector_SeesNoPauseInAProcessThatRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d Detector
		d.OnResume(func() { t.Error("a pause was noticed") })
		time.Sleep(time.Hour) // virtual time; before it runs
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			d.Run(ctx)
		}()
		time.Sleep(time.Hour)
		cancel()
		<-ended
		time.Sleep(time.Hour)
		if at := d.Resumed(); !at.IsZero() {
			t.Errorf("resumed at %s", at)
		}
	})
}

// A goroutine that runs again before the one that looks at the clock must not act on what it knew before the pause.
func TestDetector_ResumedNoticesAPauseByItself(t *testing.T) {
	var d Detector
	longAgo := read()
	longAgo.monotonic -= time.Minute
	d.begin(&longAgo)
	if d.Resumed().IsZero() {
		t.Error("the pause was not noticed before the next tick")
	}
}
