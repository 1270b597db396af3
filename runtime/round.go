// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"time"

	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/status"
)

// verdictDeadline is how long a round waits for the verdict on a backend. It is longer than the time after which a backend without
// any answer is given up, so that one that hangs is reported as that, and not as unknown shortly before.
const verdictDeadline = 15 * time.Second

// round is a check of all backends at once. There is one when this replica begins to report, for its predecessor may have known
// better, and one after each pause of the process, for nobody knows what happened in it. Until a round is complete nothing is
// reported: what the status says is another's word, or was true when it was written. What is served stays as it is meanwhile, and
// follows each verdict as it comes: clients must not lose their tools because a laptop slept.
type round struct {
	since    time.Time
	complete bool
}

// attend takes up the duty of this replica, and begins a round when one is due.
func (c *control) attend() {
	duty := c.duty()
	if standby := !duty.Reporting; standby != c.standby {
		c.standby = standby
		c.eachMonitored(func(m *member) { m.monitor.Standby(standby) })
	}
	resumed := c.options.Pauses.Resumed()
	since := latest(duty.Since, resumed)
	if !since.After(c.round.since) {
		return
	}
	paused := resumed.After(c.round.since)
	c.round = round{since: since}
	c.options.Logger.Debug("Checking all backends", "afterPause", paused)
	c.eachMonitored(func(m *member) {
		if paused {
			m.monitor.Reload() // an announcement of changed lists may have been lost
		}
		m.monitor.Recheck()
	})
}

func (c *control) duty() status.Duty {
	if c.options.Replica == nil {
		return status.Duty{Reporting: true}
	}
	return c.options.Replica.Duty()
}

// news receives a value when attend or heed have something to do.
func (c *control) news() <-chan struct{} {
	if c.options.Replica == nil {
		return nil
	}
	return c.options.Replica.Changed()
}

// heed has the backends probed on which the reporter changed its mind.
func (c *control) heed() {
	for _, key := range c.options.Replica.News() {
		for _, set := range []map[backend.Key]*member{c.members, c.incoming} {
			if m, there := set[key]; there && m.monitor != nil {
				m.monitor.Check()
			}
		}
	}
}

// conclude completes the round if every verdict is as new, and says when it is over at the latest otherwise.
func (c *control) conclude(views []view, now time.Time) time.Duration {
	if c.round.complete {
		return time.Hour
	}
	var wait time.Duration
	for _, v := range views {
		wait = max(wait, v.unconfirmed(c.round.since, now))
	}
	c.round.complete = wait == 0
	if wait == 0 {
		return time.Hour
	}
	return wait
}

// unconfirmed is how long to wait for the verdict to be confirmed by a probe since a time; zero when it is, or when it has been
// waited for long enough.
func (v view) unconfirmed(since, now time.Time) time.Duration {
	if v.monitor == nil || v.probed.After(since) {
		return 0
	}
	return max(0, verdictDeadline-now.Sub(latest(since, v.created)))
}

func (c *control) eachMonitored(do func(m *member)) {
	for _, set := range []map[backend.Key]*member{c.members, c.incoming} {
		for _, m := range set {
			if m.monitor != nil {
				do(m)
			}
		}
	}
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
