// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"reflect"
	"slices"
	"testing"
	"time"
)

func TestPlanFollowsFromTheSeed(t *testing.T) {
	t.Parallel()
	one, again, other := plan(1, 10*time.Minute), plan(1, 10*time.Minute), plan(2, 10*time.Minute)
	if !reflect.DeepEqual(one, again) {
		t.Error("one seed gave two plans")
	}
	if reflect.DeepEqual(one, other) {
		t.Error("two seeds gave one plan")
	}
	for _, f := range plan(1, 3*time.Minute) {
		if !slices.Contains(one, f) {
			t.Errorf("%s is not in a longer run", f)
		}
	}
}

func TestPlan(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		for _, length := range []time.Duration{wave, 3 * time.Minute, 10 * time.Minute} {
			faults := plan(seed, length)
			seen, free := map[faultKind]int{}, map[int]time.Duration{}
			for i, f := range faults {
				seen[f.kind]++
				if i > 0 && f.at < faults[i-1].at {
					t.Fatalf("seed %d: %s is not in order", seed, f)
				}
				// All is well before and after each, for as long as the longest way back takes.
				if f.at < free[f.slot] || f.at+f.lasts+quiet > length {
					t.Errorf("seed %d, %s: %s begins before %s, or ends after %s", seed, length, f, free[f.slot], length-quiet)
				}
				free[f.slot] = f.at + f.lasts + rules[recovered].status
				if f.slot == nobody {
					free[f.slot] = f.at + f.lasts + gapLeast
				}
				if f.kind == withdraw && !slots[f.slot].auth {
					t.Errorf("seed %d: %s has no credentials", seed, f)
				}
				if (f.kind == slow) != (f.delay > 0) || f.kind == slow && (f.delay < 3*time.Second || f.delay > 10*time.Second) {
					t.Errorf("seed %d: %s with a delay of %s", seed, f, f.delay)
				}
				// A pause of less than 5 s is none, and a machine that is busy makes some (runtime/pause).
				if f.kind == freezeRuntime && f.lasts < 6*time.Second {
					t.Errorf("seed %d: %s is too short to be noticed", seed, f)
				}
			}
			if length < 10*time.Minute {
				continue
			}
			for _, kind := range []faultKind{die, hang, slow, unauthorize, garbage, leave, rename, tellTools, hideTools, killRuntime, freezeRuntime, restartAPI} {
				if seen[kind] == 0 {
					t.Errorf("seed %d: nothing like %q in %s", seed, kind, length)
				}
			}
		}
	}
}
