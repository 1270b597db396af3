// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// faultKind is something that the run does, and undoes after a while.
type faultKind string

// What is done to backends.
const (
	die         faultKind = "die"
	hang        faultKind = "hang"
	slow        faultKind = "slow"
	unauthorize faultKind = "401"
	garbage     faultKind = "garbage"
	leave       faultKind = "leave"
	rename      faultKind = "rename"
	withdraw    faultKind = "withdraw credentials"
	tellTools   faultKind = "change tools, told"
	hideTools   faultKind = "change tools, untold"
)

// What is done to the rest.
const (
	killRuntime   faultKind = "kill runtime"
	freezeRuntime faultKind = "freeze runtime"
	restartAPI    faultKind = "restart API server"
)

// fault is one of them. It is done at a time, and undone after another.
type fault struct {
	kind faultKind
	// slot is the backend, or nobody.
	slot  int
	at    time.Duration
	lasts time.Duration
	// delay is how long each answer of one that is slow takes.
	delay time.Duration
}

func (f fault) String() string {
	text := fmt.Sprintf("%7s  %s", seconds(f.at), f.kind)
	if f.slot != nobody {
		text += " " + slots[f.slot].name
	}
	if f.lasts > 0 {
		text += " for " + seconds(f.lasts)
	}
	if f.delay > 0 {
		text += ", answers after " + seconds(f.delay)
	}
	return text
}

// nobody is the slot of what is done to the runtime or the API server.
const nobody = -1

// slot is a place for a backend. What is in it may have several names, one after the other.
type slot struct {
	name string
	// modern is the era that it speaks, auth that it wants credentials, busy that it is called all the time.
	modern, auth, busy bool
}

// slots are all backends: half of them of each era, three with credentials, half of them called.
var slots = []slot{
	{name: "amber", busy: true},
	{name: "birch", modern: true, busy: true},
	{name: "cedar", auth: true, busy: true},
	{name: "delta", modern: true, auth: true, busy: true},
	{name: "ember", busy: true},
	{name: "fjord", modern: true},
	{name: "grove"},
	{name: "haven", modern: true},
	{name: "inlet", auth: true},
	{name: "jetty", modern: true},
}

// The run is a row of waves. In each some backends have one fault each, which overlap; it ends quietly, in which all is well.
const (
	wave     = 75 * time.Second
	waveOpen = 25 * time.Second // faults begin within
	quiet    = 18 * time.Second
	// long is what a fault lasts that has to show, brief what one lasts that may pass unseen.
	longLeast, longMost   = 22 * time.Second, 32 * time.Second
	briefLeast, briefMost = time.Second, 8 * time.Second
	// The runtime and the API server have their own row of faults, with a gap between them in which the operator finds its feet.
	gapLeast, gapMost = 30 * time.Second, 45 * time.Second
)

// plan lays the faults of a run out. It depends on nothing but its arguments.
func plan(seed uint64, length time.Duration) []fault {
	p := planner{length: length}
	// Each row has a sequence of its own, so that a shorter run is the beginning of a longer one.
	p.rand = rand.New(rand.NewPCG(seed, 1))
	for from := time.Duration(0); from+wave <= length; from += wave {
		p.wave(from)
	}
	p.rand = rand.New(rand.NewPCG(seed, 2))
	p.machinery()
	slices.SortStableFunc(p.faults, func(a, b fault) int { return cmp.Compare(a.at, b.at) })
	return p.faults
}

type planner struct {
	rand   *rand.Rand
	length time.Duration
	faults []fault
	// kinds, waves and breakdowns are bags: each kind comes before one comes again.
	kinds, breakdowns []faultKind
	waves             []bool
}

// between is a time between two.
func (p *planner) between(least, most time.Duration) time.Duration {
	return least + time.Duration(p.rand.Int64N(int64(most-least)))
}

// draw takes one out of a bag, and fills it when it is empty.
func draw[T any](p *planner, bag *[]T, fill ...T) T {
	if len(*bag) == 0 {
		*bag = slices.Clone(fill)
		p.rand.Shuffle(len(*bag), func(i, k int) { (*bag)[i], (*bag)[k] = (*bag)[k], (*bag)[i] })
	}
	one := (*bag)[0]
	*bag = (*bag)[1:]
	return one
}

// wave lays out one wave. Of four, one takes all backends down at about the same time.
func (p *planner) wave(from time.Duration) {
	if draw(p, &p.waves, true, false, false, false) {
		begin := p.between(0, waveOpen)
		for i := range slots {
			p.faults = append(p.faults, fault{kind: die, slot: i, at: from + begin + p.between(0, 5*time.Second), lasts: p.between(longLeast, wave-quiet-waveOpen-6*time.Second)})
		}
		return
	}
	for _, i := range p.rand.Perm(len(slots))[:6+p.rand.IntN(4)] {
		f := p.fault(i)
		f.at += from
		p.faults = append(p.faults, f)
	}
}

func (p *planner) fault(i int) fault {
	f := fault{slot: i, at: p.between(0, waveOpen), lasts: p.between(longLeast, longMost)}
	f.kind = draw(p, &p.kinds, die, hang, slow, unauthorize, garbage, leave, rename, withdraw, tellTools, hideTools, die, hang, slow, unauthorize)
	if f.kind == withdraw && !slots[i].auth {
		f.kind = unauthorize
	}
	switch f.kind {
	case rename, hideTools:
		f.lasts = 0 // it stays so
	case tellTools:
	case slow:
		f.delay = p.between(3*time.Second, 10*time.Second)
	default:
		if p.rand.IntN(5) == 0 {
			f.lasts = p.between(briefLeast, briefMost)
		}
	}
	return f
}

// machinery lays out what is done to the runtime and the API server.
func (p *planner) machinery() {
	const brief, long = "", " for long"
	for at := p.between(10*time.Second, gapMost); ; {
		drawn := draw(p, &p.breakdowns, killRuntime+brief, freezeRuntime+brief, restartAPI+brief, killRuntime+long, killRuntime+brief, freezeRuntime+brief, restartAPI+long, freezeRuntime+long)
		f := fault{slot: nobody, at: at}
		switch drawn {
		case killRuntime + brief:
			f.kind, f.lasts = killRuntime, p.between(100*time.Millisecond, 3*time.Second)
		case freezeRuntime + brief:
			f.kind, f.lasts = freezeRuntime, p.between(6*time.Second, 30*time.Second)
		case restartAPI + brief:
			f.kind, f.lasts = restartAPI, p.between(time.Second, 9*time.Second)
		case restartAPI + long: // long enough for whoever waits longer each time
			f.kind, f.lasts = restartAPI, p.between(15*time.Second, 35*time.Second)
		case killRuntime + long:
			f.kind, f.lasts = killRuntime, p.between(70*time.Second, 85*time.Second)
		default:
			f.kind, f.lasts = freezeRuntime, p.between(70*time.Second, 85*time.Second)
		}
		if f.at+f.lasts+quiet > p.length {
			return
		}
		p.faults = append(p.faults, f)
		at = f.at + f.lasts + p.between(gapLeast, gapMost)
	}
}
