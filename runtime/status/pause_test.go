// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package status_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/kube/kubetest"
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

func TestKubeReporter_WaitsForNewVerdicts(t *testing.T) {
	s := newServer(t)
	r := s.reporter(t, "pod-1")
	old := report(ready("a"))
	old.AsOf = time.Time{}
	r.Report(old)
	s.expectHolder(t, "pod-1")
	consistently(t, time.Second, func() string {
		if r.writes.Load() != 0 {
			return "what was seen before the Lease was taken was reported"
		}
		return ""
	})
	kubetest.Eventually(t, func() string {
		if !r.Duty().Reporting {
			return "the replica does not know that it reports"
		}
		return ""
	})
	current := report(ready("a"))
	current.AsOf = r.Duty().Since
	r.Report(current)
	s.expectPhase(t, v1alpha1.PhaseReady)
	r.expectWrites(t, 1)

	// From a pause on that is old, too, however short the pause was.
	r.pauses.make()
	current = report(down("a"))
	current.AsOf = r.Duty().Since
	r.Report(current)
	consistently(t, time.Second, func() string {
		if r.writes.Load() != 1 {
			return "what was seen before a pause was reported"
		}
		return ""
	})
	current.AsOf = r.pauses.Resumed()
	r.Report(current)
	s.expectPhase(t, v1alpha1.PhaseFailed)
	r.expectWrites(t, 2)
}

func TestKubeReporter_TellsOtherReplicasTheNews(t *testing.T) {
	s := newServer(t)
	first := s.reporter(t, "pod-1")
	first.Report(report(ready("a"), ready("b"), ready("c")))
	s.expectPhase(t, v1alpha1.PhaseReady)
	second := s.reporter(t, "pod-2")
	second.Report(report(ready("a"), ready("b"), ready("c")))
	<-second.Changed() // it knows the object
	if news := second.News(); len(news) != 0 {
		t.Errorf("what was there before is news: %v", news)
	}
	first.Report(report(ready("a"), down("b"), slow("c")))
	s.expectPhase(t, v1alpha1.PhaseDegraded)
	var news []backend.Key
	kubetest.Eventually(t, func() string {
		if news = append(news, second.News()...); len(news) < 2 {
			return fmt.Sprintf("the news are %v", news)
		}
		return ""
	})
	slices.SortFunc(news, backend.Key.Compare)
	if want := []backend.Key{down("b").Target.Key, slow("c").Target.Key}; !slices.Equal(news, want) {
		t.Errorf("the news are %v, want %v", news, want)
	}
	if news := first.News(); len(news) != 0 {
		t.Errorf("the reporter hears of its own reports: %v", news)
	}
	if second.Duty().Reporting {
		t.Error("both replicas report")
	}
}
