// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package olm

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/util/wait"
)

// Times of an announcement's tries.
const (
	// attemptTimeout bounds one try, all its requests included.
	attemptTimeout = 10 * time.Second
	// firstPause and longestPause bound the time between two tries; it doubles with each.
	firstPause   = 250 * time.Millisecond
	longestPause = 10 * time.Second
)

// errNotTried is what an Announcement says before its first try.
var errNotTried = errors.New("the OperatorCondition was not written yet")

// Announcement says the first word of an operator to OLM, before it leads: OLM takes a silent operator for one that may be upgraded.
// Where a condition of that type is there already it stands, because an OperatorCondition belongs to one version: whoever wrote it
// was this version, too, and knew more. But nothing that keeps OLM waiting stands for ever. Its own age counts, not that of the
// process: where each of these ends early, the next version may be what mends it.
//
// It is a Runnable of controller-runtime, and its Check is a readiness check.
type Announcement struct {
	Condition *OperatorCondition
	// First is what is said at first, and Overdue what replaces it if it still stands after Patience: nobody may be kept waiting for a
	// leader that never comes, or comes to no verdict. Something else with First's status is what a leader said, later and with
	// deadlines of its own: Overdue replaces it after twice that time.
	First, Overdue Statement
	Patience       time.Duration
	// Elected is closed when this process leads, and Judged when it has said what it came to as the leader. It has Patience for that.
	Elected, Judged <-chan struct{}
	Log             logr.Logger

	mu    sync.Mutex
	done  bool
	tried error
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: the first word is for those who wait for the lead, too.
func (*Announcement) NeedLeaderElection() bool { return false }

// Done says whether OLM has been told something.
func (a *Announcement) Done() bool { return a.Check(nil) == nil }

// Check is nil once OLM has been told something, and else says what is in the way. It asks nobody.
func (a *Announcement) Check(*http.Request) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.done:
		return nil
	case a.tried != nil:
		return a.tried
	default:
		return errNotTried
	}
}

// Start implements manager.Runnable. It tries until it succeeds or ctx ends.
func (a *Announcement) Start(ctx context.Context) error {
	var left time.Duration
	speak := func(ctx context.Context) (err error) {
		left, err = a.speak(ctx)
		return err
	}
	if !a.insist(ctx, speak) {
		return nil
	}
	a.note(nil, true)
	for elected := a.Elected; left > 0; {
		select {
		case <-ctx.Done():
			return nil
		case <-a.Judged:
			return nil
		case <-elected:
			elected, left = nil, a.Patience
		case <-time.After(left):
			if !a.insist(ctx, speak) {
				return nil
			}
		}
	}
	return nil
}

// speak says First where nothing is said, and Overdue where it is time for that. The result is for how long something may still stand
// that keeps OLM waiting; it is zero if nothing of the kind does.
func (a *Announcement) speak(ctx context.Context) (time.Duration, error) {
	stated, err := a.Condition.stated(ctx)
	if err != nil {
		return 0, err
	}
	said := meta.FindStatusCondition(stated, a.First.Type)
	if said == nil {
		return a.Patience, a.Condition.set(ctx, a.First)
	}
	if said.Status != a.First.Status {
		return 0, nil
	}
	patience := a.Patience
	if !a.First.saidBy(stated) {
		patience *= 2
	}
	if left := time.Until(said.LastTransitionTime.Add(patience)); left > 0 {
		return left, nil
	}
	return 0, a.Condition.set(ctx, a.Overdue)
}

// insist tries until it succeeds, and says whether it did before ctx ended.
func (a *Announcement) insist(ctx context.Context, try func(context.Context) error) bool {
	pauses := wait.Backoff{Duration: firstPause, Factor: 2, Jitter: 0.1, Steps: 10, Cap: longestPause}.DelayFunc()
	err := pauses.Until(ctx, true, true, func(ctx context.Context) (bool, error) {
		ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
		defer cancel()
		err := try(ctx)
		a.note(err, false)
		return err == nil, nil
	})
	return err == nil
}

// note keeps how the last try went, for Check, and logs what is new about it.
func (a *Announcement) note(err error, done bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil && (a.tried == nil || a.tried.Error() != err.Error()) {
		a.Log.Error(err, "Telling OLM about the operator; trying again")
	}
	a.tried, a.done = err, a.done || done
}
