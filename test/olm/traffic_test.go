//go:build e2e_olm

// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package olm

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/vmcp-dev/vmcp-operator/test/harness"
)

const (
	// callInterval is how often each client means to call, however long the answers take. A machine without time to spare skips ticks of
	// the clock, and a client waits for a place among callsAtOnce.
	callInterval = 10 * time.Millisecond
	// leastStarted is the percentage of the calls meant that each client has to start: with less, the load is not what the test is for.
	leastStarted = 50
	// callLimit is how long an answer may take before the call counts as failed.
	callLimit = 5 * time.Second
	// callsAtOnce is how many calls of a client may wait for their answers.
	callsAtOnce = 256

	// legacy has sessions, modern has none.
	legacy, modern = "2025-11-25", "2026-07-28"
)

// calledTool is what a client calls, and what its answer says.
type calledTool struct{ name, says string }

// One of a server that speaks HTTP, whose pods an upgrade leaves alone, and one of a stdio server, whose pods it replaces, for the bridge in
// them comes with the runtime.
var (
	everythingTool = calledTool{"everything_test_simple_text", "simple text"}
	filesTool      = calledTool{"files_list_allowed_directories", "/scratch"}
)

// traffic is a client that calls a tool of a gateway again and again, in one session.
type traffic struct {
	gateway, revision string
	tool              calledTool
	session           *mcp.ClientSession
	cancel            context.CancelFunc
	done              chan struct{}

	mu       sync.Mutex
	started  int
	calling  time.Duration // for how long calls were started
	answered []time.Time   // in the order of the answers
	failed   []error
	slowest  time.Duration
}

// startTraffic opens a session of a protocol revision and calls a tool from then on. Only its context ends it before stop does.
func startTraffic(t *testing.T, endpoint, gateway, revision string, called calledTool) *traffic {
	t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "vmcp-e2e-olm", Version: "1"}, nil)
	var session *mcp.ClientSession
	// The runtime is Ready before kube-proxy routes to it.
	eventually(t, startLimit, "opening a session of "+revision, func(ctx context.Context) error {
		var err error
		// The session's streams live longer than this attempt.
		session, err = client.Connect(context.WithoutCancel(ctx), &mcp.StreamableClientTransport{Endpoint: endpoint, MaxRetries: 100},
			&mcp.ClientSessionOptions{ProtocolVersion: revision})
		if err != nil {
			return err
		}
		if got := session.InitializeResult().ProtocolVersion; got != revision {
			return fmt.Errorf("client and gateway agreed on revision %s", got)
		}
		_, err = harness.CallText(ctx, session, called.name, nil)
		return err
	})
	ctx, cancel := context.WithCancel(t.Context())
	x := &traffic{gateway: gateway, revision: revision, tool: called, session: session, cancel: cancel, done: make(chan struct{})}
	go x.run(ctx)
	t.Cleanup(func() { x.stop() })
	return x
}

func (x *traffic) run(ctx context.Context) {
	defer close(x.done)
	var calls sync.WaitGroup
	defer calls.Wait()
	places := make(chan struct{}, callsAtOnce)
	tick := time.NewTicker(callInterval)
	defer tick.Stop()
	began := time.Now()
	defer func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.calling = time.Since(began)
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		places <- struct{}{}
		x.mu.Lock()
		x.started++
		x.mu.Unlock()
		calls.Go(func() {
			x.call()
			<-places
		})
	}
}

// call is not cut off when the test stops calling: what has begun counts.
func (x *traffic) call() {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	began := time.Now()
	text, err := harness.CallText(ctx, x.session, x.tool.name, nil)
	if err == nil && !strings.Contains(text, x.tool.says) {
		err = fmt.Errorf("the answer is %q", text)
	}
	ended := time.Now()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.slowest = max(x.slowest, ended.Sub(began))
	if err != nil {
		x.failed = append(x.failed, fmt.Errorf("at %s, after %s: %w", ended.Format(time.TimeOnly), ended.Sub(began).Round(time.Millisecond), err))
		return
	}
	x.answered = append(x.answered, ended)
}

// stop ends calling and waits for the answers that are outstanding.
func (x *traffic) stop() {
	x.cancel()
	<-x.done
	_ = x.session.Close() // what it says then is not a call
}

// between counts the answers that came from one moment to another.
func (x *traffic) between(from, to time.Time) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := 0
	for _, at := range x.answered {
		if !at.Before(from) && at.Before(to) {
			n++
		}
	}
	return n
}

// check fails the test if a call failed or too few were made, and prints how many there were. It is for a client that has stopped.
func (x *traffic) check(t *testing.T) {
	t.Helper()
	x.mu.Lock()
	defer x.mu.Unlock()
	t.Logf("client of %s, %s, %s: %d calls answered, %d failed, the slowest took %s", x.gateway, x.revision, x.tool.name, len(x.answered), len(x.failed), x.slowest.Round(time.Millisecond))
	for i, err := range x.failed {
		if i == 10 {
			t.Errorf("and %d more", len(x.failed)-i)
			break
		}
		t.Error(err)
	}
	meant := max(1, int(x.calling/callInterval))
	share := 100 * x.started / meant
	t.Logf("it started %d calls in %s, %d %% of one every %s", x.started, x.calling.Round(time.Second), share, callInterval)
	if share < leastStarted {
		t.Errorf("it started %d %% of %d calls, want %d %% at least", share, meant, leastStarted)
	}
	if len(x.answered) == 0 {
		t.Error("no call was answered")
	}
}
