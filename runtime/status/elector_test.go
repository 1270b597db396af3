// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package status_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/vmcp-dev/vmcp-operator/runtime/kube/kubetest"
	"github.com/vmcp-dev/vmcp-operator/runtime/status"
)

// leases is an API server with one Lease, for tests in virtual time.
type leases struct {
	mu       sync.Mutex
	lease    *coordinationv1.Lease
	watches  []*watch.RaceFreeFakeWatcher
	away     bool
	cut      bool // writes are committed, but nobody hears of it
	stalled  bool // writes are not committed, and not answered
	writes   []time.Time
	requests int
}

var errAway = errors.New("connection refused")

func newLeases(holder string) *leases {
	l := &leases{lease: &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "vmcp-team", UID: "1", ResourceVersion: "1"}}}
	if holder != "" {
		l.lease.Spec.HolderIdentity = &holder
	}
	return l
}

func (l *leases) Get(context.Context, string, metav1.GetOptions) (*coordinationv1.Lease, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.requests++; l.away {
		return nil, errAway
	}
	return l.lease.DeepCopy(), nil
}

func (l *leases) Watch(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	if options.SendInitialEvents != nil {
		return nil, apierrors.NewInvalid(coordinationv1.SchemeGroupVersion.WithKind("Lease").GroupKind(), "", nil) // as servers that do not know it
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.requests++; l.away {
		return nil, errAway
	}
	w := watch.NewRaceFreeFake()
	w.Add(l.lease.DeepCopy())
	l.watches = append(l.watches, w)
	context.AfterFunc(ctx, w.Stop)
	return w, nil
}

func (l *leases) Update(ctx context.Context, lease *coordinationv1.Lease, _ metav1.UpdateOptions) (*coordinationv1.Lease, error) {
	updated, heard, err := l.commit(lease)
	if err != nil || heard {
		return updated, err
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

func (l *leases) commit(lease *coordinationv1.Lease) (updated *coordinationv1.Lease, heard bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.requests++; l.away {
		return nil, false, errAway
	}
	if l.stalled {
		return nil, false, nil
	}
	if lease.ResourceVersion != l.lease.ResourceVersion {
		return nil, false, apierrors.NewConflict(coordinationv1.Resource("leases"), lease.Name, errors.New("changed"))
	}
	version, err := strconv.Atoi(lease.ResourceVersion)
	if err != nil {
		return nil, false, err
	}
	l.lease = lease.DeepCopy()
	l.lease.ResourceVersion = strconv.Itoa(version + 1)
	l.writes = append(l.writes, time.Now())
	if l.cut {
		return nil, false, nil
	}
	for _, w := range l.watches {
		if !w.IsStopped() {
			w.Modify(l.lease.DeepCopy())
		}
	}
	return l.lease.DeepCopy(), true, nil
}

// replace deletes the Lease and creates another one.
func (l *leases) replace(owner metav1.OwnerReference) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lease = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{
		Name: l.lease.Name, UID: "2", ResourceVersion: l.lease.ResourceVersion + "0", OwnerReferences: []metav1.OwnerReference{owner},
	}}
	for _, w := range l.watches {
		w.Delete(l.lease.DeepCopy())
		w.Add(l.lease.DeepCopy())
	}
}

func (l *leases) goAway(away bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.away = away
	if away {
		for _, w := range l.watches {
			w.Stop()
		}
		l.watches = nil
	}
}

// cutOff has the answers to writes get lost, and the news of them, or not any more.
func (l *leases) cutOff(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = cut
}

// stall has writes wait until they are given up.
func (l *leases) stall(stalled bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stalled = stalled
}

func (l *leases) renewals() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.writes)
}

func (l *leases) holder() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *l.lease.Spec.HolderIdentity
}

// candidate runs an elector within a bubble. Its stop function makes it release the Lease.
func candidate(t *testing.T, l *leases, identity string) (e *status.Elector, stop func()) {
	t.Helper()
	return pausing(t, l, identity, &pauses{})
}

// pausing is a candidate in a process whose pauses a test makes.
func pausing(t *testing.T, l *leases, identity string, p *pauses) (e *status.Elector, stop func()) {
	t.Helper()
	e = status.NewElector(status.ElectorOptions{
		Leases: l, Name: "vmcp-team", Identity: identity, Logger: kubetest.Logger(t).With("pod", identity), Pauses: p,
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		e.Run(ctx)
	}()
	synctest.Wait()
	return e, func() {
		cancel()
		<-ended
		synctest.Wait()
	}
}

func pass(d time.Duration) {
	time.Sleep(d) // virtual time
	synctest.Wait()
}

func TestElector_TakesAFreeLeaseAndRenewsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeases("")
		e, stop := candidate(t, l, "pod-1")
		if !e.Leading() || l.holder() != "pod-1" {
			t.Fatalf("the free Lease was not taken at once: holder is %q", l.holder())
		}
		pass(10*time.Minute + time.Second)
		if n := len(l.writes); n != 31 {
			t.Errorf("%d writes in ten minutes, want one, and one more every 20 s", n)
		}
		if d := l.lease.Spec.LeaseDurationSeconds; d == nil || *d != 60 {
			t.Errorf("duration is %v, want 60 s", d)
		}
		stop()
		if l.holder() != "" {
			t.Errorf("the Lease was not released: holder is %q", l.holder())
		}
		if e.Leading() {
			t.Error("the elector leads after its end")
		}
	})
}

func TestElector_TakesAReleasedLeaseAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeases("")
		_, stopFirst := candidate(t, l, "pod-1")
		second, stopSecond := candidate(t, l, "pod-2")
		pass(5 * time.Minute)
		if second.Leading() {
			t.Fatal("two replicas lead")
		}
		stopFirst()
		if !second.Leading() || l.holder() != "pod-2" {
			t.Errorf("the released Lease was not taken at once: holder is %q", l.holder())
		}
		if n := l.lease.Spec.LeaseTransitions; n == nil || *n != 2 {
			t.Errorf("transitions are %v, want 2", n)
		}
		stopSecond()
	})
}

// A pod is told to end while it waits for the answer to a write of the Lease.
func TestElector_ReleasesALeaseThatItDoesNotKnowToHold(t *testing.T) {
	for name, tc := range map[string]struct {
		before time.Duration // its end
		cut    time.Duration // from when on it hears nothing
	}{
		"a renewal was cut":      {21 * time.Second, 10 * time.Second},
		"the first take was cut": {time.Second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLeases("")
				l.cutOff(tc.cut == 0)
				_, stopFirst := candidate(t, l, "pod-1")
				pass(tc.cut)
				l.cutOff(true)
				pass(tc.before - tc.cut)
				if l.holder() != "pod-1" {
					t.Fatalf("the holder is %q", l.holder())
				}
				second, stopSecond := candidate(t, l, "pod-2")
				l.cutOff(false)
				stopFirst()
				if !second.Leading() || l.holder() != "pod-2" {
					t.Errorf("the Lease was not released: holder is %q", l.holder())
				}
				stopSecond()
			})
		})
	}
}

// What is in doubt is no longer so: another replica was faster.
func TestElector_LeavesALeaseToItsSuccessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeases("")
		l.stall(true)
		_, stop := candidate(t, l, "pod-1")
		l.stall(false)
		other := "pod-2"
		taken := l.lease.DeepCopy()
		taken.Spec.HolderIdentity = &other
		if _, err := l.Update(t.Context(), taken, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		stop()
		if l.holder() != other {
			t.Errorf("the Lease of another was released: holder is %q", l.holder())
		}
	})
}

func TestElector_TakesALeaseThatIsNoLongerRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeases("pod-that-was-killed")
		e, stop := candidate(t, l, "pod-1")
		pass(44 * time.Second)
		if e.Leading() {
			t.Fatal("the Lease was taken too early")
		}
		pass(2 * time.Second)
		if !e.Leading() || l.holder() != "pod-1" {
			t.Errorf("the Lease was not taken 45 s after its last change: holder is %q", l.holder())
		}
		stop()
	})
}

func TestElector_GoesOnUnderItsOwnName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, stop := candidate(t, newLeases("pod-1"), "pod-1")
		if !e.Leading() {
			t.Error("a container that was restarted waits for its own Lease")
		}
		stop()
	})
}

func TestElector_StopsLeadingBeforeAnotherCanTakeOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeases("")
		e, stop := candidate(t, l, "pod-1")
		pass(19 * time.Second)
		l.goAway(true)
		pass(20 * time.Second)
		if !e.Leading() {
			t.Error("the elector gave up 39 s after its last renewal, want 40 s")
		}
		pass(2 * time.Second)
		if e.Leading() {
			t.Error("the elector still leads 41 s after its last renewal")
		}
		l.mu.Lock()
		requests := l.requests
		l.mu.Unlock()
		if requests > 60 {
			t.Errorf("%d requests within half a minute of absence", requests)
		}
		l.goAway(false)
		pass(12 * time.Second)
		if !e.Leading() {
			t.Error("the elector did not renew when the API server was back")
		}
		stop()
	})
}

// An object that is deleted and created anew has a new Lease under the old name. The pod of the first one is still there.
func TestElector_LeavesTheLeaseOfAnotherOwnerAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeases("")
		l.lease.OwnerReferences = []metav1.OwnerReference{{UID: "ours"}}
		e := status.NewElector(status.ElectorOptions{
			Leases: l, Name: "vmcp-team", Owner: "ours", Identity: "pod-1", Logger: kubetest.Logger(t),
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			e.Run(ctx)
		}()
		synctest.Wait()
		if !e.Leading() {
			t.Fatal("the elector did not take its own Lease")
		}
		l.replace(metav1.OwnerReference{UID: "theirs"})
		synctest.Wait()
		if e.Leading() {
			t.Error("the elector leads although its Lease is gone")
		}
		written := l.renewals()
		pass(5 * time.Minute)
		cancel()
		<-ended
		if n := l.renewals() - written; n != 0 || l.holder() != "" {
			t.Errorf("the elector wrote %d times to a Lease of another owner, which %q holds now", n, l.holder())
		}
	})
}

func TestElector_GivesWayToAForeignHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeases("")
		e, stop := candidate(t, l, "pod-1")
		other := "somebody"
		stolen := l.lease.DeepCopy()
		stolen.Spec.HolderIdentity = &other
		if _, err := l.Update(t.Context(), stolen, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if e.Leading() {
			t.Error("the elector leads although the Lease names another holder")
		}
		stop()
		if l.holder() != other {
			t.Errorf("the elector released a Lease that it did not hold: holder is %q", l.holder())
		}
	})
}
