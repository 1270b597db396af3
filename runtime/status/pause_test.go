// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package status_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pauses are those that a test makes.
type pauses struct {
	mu      sync.Mutex
	resumed time.Time
	notify  []func()
}

func (p *pauses) Resumed() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.resumed
}

func (p *pauses) OnResume(do func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.notify = append(p.notify, do)
}

// quietly has the process go on at this moment, without telling anybody.
func (p *pauses) quietly() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resumed = time.Now()
}

func (p *pauses) make() {
	p.quietly()
	for _, do := range p.notify {
		do()
	}
}

func TestElector_RenewsAfterAPauseBeforeItLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, p := newLeases(""), &pauses{}
		e, stop := pausing(t, l, "pod-1", p)
		pass(time.Second)
		l.goAway(true)
		pass(time.Second)
		p.quietly()
		if e.Leading() {
			t.Error("the elector leads by a renewal from before a pause")
		}
		p.make()
		pass(5 * time.Second)
		if e.Leading() {
			t.Error("the elector leads, and could not renew since the pause")
		}
		l.goAway(false)
		pass(2 * time.Second) // it tries every second
		if n := l.renewals(); !e.Leading() || n != 2 {
			t.Errorf("the elector leads: %t, after %d writes; want one more, at once", e.Leading(), n)
		}
		pass(time.Minute)
		if n := l.renewals(); !e.Leading() || n != 5 {
			t.Errorf("the elector leads: %t, after %d writes; want one every 20 s again", e.Leading(), n)
		}
		stop()
	})
}

// A replica that was taken for dead finds out before it reports.
func TestElector_ThawsAfterAnotherTookTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, p := newLeases(""), &pauses{}
		e, stop := pausing(t, l, "pod-1", p)
		pass(time.Second)
		l.mu.Lock()
		for _, w := range l.watches {
			w.Stop() // what happens is not seen
		}
		l.watches = nil
		other := "pod-2"
		l.lease.Spec.HolderIdentity, l.lease.ResourceVersion = &other, "99"
		l.mu.Unlock()
		p.make()
		if e.Leading() {
			t.Error("the elector leads before it looked")
		}
		pass(5 * time.Second)
		if holding, _ := e.Holding(); e.Leading() || holding || l.holder() != other {
			t.Errorf("the elector leads: %t, holds: %t; the holder is %s", e.Leading(), holding, l.holder())
		}
		stop()
	})
}
