// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/vmcp-dev/vmcp-operator/test/audit"
)

const (
	operatorAgents = "vmcp-operator/"
	runtimeAgents  = "vmcp-runtime/"
	electionAgent  = operatorAgents + "leader-election"
)

// request is a kind of requests. The agents of all runtimes are one.
type request struct {
	agent, verb, resource string
	// writes says that it may have changed something, refused that it did not: what it was decided on had changed (409), and
	// another one followed.
	writes, refused bool
}

// label is the verb, with a mark if the request was refused.
func (r request) label() string {
	if r.refused {
		return r.verb + " (409)"
	}
	return r.verb
}

// requests counts requests, in the order in which the API server answered them.
type requests struct {
	mu     sync.Mutex
	log    *audit.Log
	counts map[request]int
}

func newRequests(path string) *requests {
	return &requests{log: audit.Open(path), counts: map[request]int{}}
}

// read takes in what was logged meanwhile.
func (r *requests) read() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Next(func(e *audit.Event) {
		agent := e.Agent()
		switch {
		case strings.HasPrefix(agent, runtimeAgents):
			agent = runtimeAgents
		case !strings.HasPrefix(agent, operatorAgents):
			return
		}
		if e.ObjectRef.Resource != "" { // otherwise discovery, health or metrics
			r.counts[request{agent, e.Verb, e.Resource(), e.Writes(), e.ResponseStatus.Code == http.StatusConflict}]++
		}
	})
}

// tally are counts at one moment.
type tally map[request]int

func (r *requests) now() (tally, error) {
	if err := r.read(); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(tally(r.counts)), nil
}

// since is what came after before.
func (t tally) since(before tally) tally {
	d := tally{}
	for k, n := range t {
		if n -= before[k]; n != 0 {
			d[k] = n
		}
	}
	return d
}

// sum counts the requests that which lets through.
func (t tally) sum(which ...func(request) bool) int {
	total := 0
	for k, n := range t {
		if !slices.ContainsFunc(which, func(f func(request) bool) bool { return !f(k) }) {
			total += n
		}
	}
	return total
}

func (t tally) pick(which ...func(request) bool) tally {
	p := tally{}
	for k, n := range t {
		if !slices.ContainsFunc(which, func(f func(request) bool) bool { return !f(k) }) {
			p[k] = n
		}
	}
	return p
}

// sorted are the requests, the most frequent first.
func (t tally) sorted() []request {
	return slices.SortedFunc(maps.Keys(t), func(a, b request) int {
		return cmp.Or(-cmp.Compare(t[a], t[b]), cmp.Compare(a.agent, b.agent), cmp.Compare(a.label(), b.label()), cmp.Compare(a.resource, b.resource))
	})
}

// byOperator leaves out the leader election, events, and what a scrape of the metrics makes the operator ask.
func byOperator(r request) bool {
	switch r.resource {
	case "events", "tokenreviews", "subjectaccessreviews":
		return false
	}
	return strings.HasPrefix(r.agent, operatorAgents) && r.agent != electionAgent
}

// byRuntimes leaves out the Leases, which they renew whatever happens, and events.
func byRuntimes(r request) bool {
	return r.agent == runtimeAgents && r.resource != "leases" && r.resource != "events"
}

// writing lets through what was meant to write, writes what did.
func writing(r request) bool { return r.writes }

func writes(r request) bool { return r.writes && !r.refused }

// of lets the named resources through, their subresources included.
func of(resources ...string) func(request) bool {
	return func(r request) bool {
		resource, _, _ := strings.Cut(r.resource, "/")
		return slices.Contains(resources, resource)
	}
}

func not(f func(request) bool) func(request) bool { return func(r request) bool { return !f(r) } }
