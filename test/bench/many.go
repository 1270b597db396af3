// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/vmcp-dev/vmcp-operator/test/echo"
	"github.com/vmcp-dev/vmcp-operator/test/load"
	"github.com/vmcp-dev/vmcp-operator/test/standalone"
)

const (
	manyServers, toolsEach = 20, 50
	manyClients            = 64

	maxBegin         = 50 * time.Millisecond
	maxSlowdown      = 1.10
	callersMeanwhile = 16
)

// Rows of many backends, by which -run picks them.
const (
	rowBegin = "initialize and tools/list"
	rowHang  = "one backend hangs"
	rowState = "memory of a session"
)

func manyName(i int) string { return fmt.Sprintf("b%02d", i) }

// manyBackends measures what depends on the number of backends rather than on a call.
func (b *bench) manyBackends(ctx context.Context) error {
	if !b.rows.MatchString(rowBegin) && !b.rows.MatchString(rowHang) && !b.rows.MatchString(rowState) {
		return nil
	}
	var running stopAll
	defer running.stop()
	e, err := b.startEcho(ctx, load.Legacy, toolsEach)
	if err != nil {
		return err
	}
	running.add(e)
	var backends []standalone.Backend
	for i := range manyServers {
		backends = append(backends, standalone.Backend{Name: manyName(i), URL: e.url + "/" + manyName(i) + "/mcp"})
	}
	g, err := b.startGateway(ctx, "gateway-many", backends)
	if err != nil {
		return err
	}
	running.add(g)
	var failed error
	for _, row := range []struct {
		name    string
		measure func() error
	}{
		{rowBegin, func() error { return b.begin(g) }},
		{rowState, func() error { return b.memory(ctx, g) }},
		{rowHang, func() error { return b.hang(ctx, g, e) }},
	} {
		if !b.rows.MatchString(row.name) || ctx.Err() != nil {
			continue
		}
		if err := row.measure(); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", row.name, err))
			fmt.Printf("%s: %v\n", row.name, err)
		}
	}
	return failed
}

// begin measures how long clients take that all begin at once: each connects, opens a session and lists all tools.
func (b *bench) begin(g gateway) error {
	for _, era := range []load.Era{load.Legacy, load.Modern} {
		var middles, slowest []float64
		for round := -1; round < b.plan.rounds; round++ {
			r, err := beginTogether(g.Endpoint, era, manyClients)
			if err != nil {
				return err
			}
			if round >= 0 {
				middles = append(middles, float64(r.Latency(.5))/1e6)
				slowest = append(slowest, float64(r.Latency(1))/1e6)
			}
		}
		worst := spreadOf(slowest)
		b.report.add(figure{
			what: fmt.Sprintf("%s, %d backends x %d tools, %d %s clients at once: ms until a client has all, the middle one, and the slowest",
				rowBegin, manyServers, toolsEach, manyClients, era),
			measured: fmt.Sprintf("%s, %s", spreadOf(middles), worst),
			target:   fmt.Sprintf("slowest ≤ %d", maxBegin.Milliseconds()),
			verdict:  verdict(worst.median <= float64(maxBegin.Milliseconds())),
		})
	}
	return nil
}

var errTools = errors.New("not all tools are listed")

// beginOne is one client's beginning.
func beginOne(endpoint string, era load.Era) error {
	client, err := load.Dial(endpoint, era)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := client.Open(); err != nil {
		return err
	}
	n, err := client.Tools()
	if err != nil {
		return err
	}
	if n != manyServers*toolsEach {
		return fmt.Errorf("%w: %d", errTools, n)
	}
	return client.End()
}

// beginTogether has a number of clients begin at once.
func beginTogether(endpoint string, era load.Era, clients int) (load.Result, error) {
	calls := make([]load.Call, clients)
	for i := range calls {
		calls[i] = func() error { return beginOne(endpoint, era) }
	}
	r := load.Once(calls)
	return r, r.Err
}

// hang measures the calls to healthy backends while another does not answer, in turns with times when it does, and then how new
// clients fare while it hangs for longer.
func (b *bench) hang(ctx context.Context, g gateway, e server) error {
	sick := manyName(manyServers - 1)
	healthy, shut, err := callersOf(g, callersMeanwhile, manyName)
	defer shut()
	if err != nil {
		return err
	}
	stuck := &stuckCallers{g: g, backend: sick}
	defer stuck.wait()
	defer setHanging(context.WithoutCancel(ctx), e, sick, false) //nolint:errcheck // it ends with the process
	var ratios []float64
	var slowest time.Duration
	for turn := -1; turn < b.plan.pairs; turn++ {
		quiet := load.Run(healthy, 2*b.plan.slice)
		if err := setHanging(ctx, e, sick, true); err != nil {
			return err
		}
		stuck.begin(callersMeanwhile)
		loud := load.Run(healthy, 2*b.plan.slice)
		if err := setHanging(ctx, e, sick, false); err != nil {
			return err
		}
		stuck.wait()
		if err := errors.Join(quiet.Err, loud.Err, ctx.Err()); err != nil {
			return err
		}
		if quiet.Calls == 0 || loud.Calls == 0 {
			return errNoCall
		}
		if turn >= 0 {
			ratios = append(ratios, float64(loud.Latency(.5))/float64(quiet.Latency(.5)))
			slowest = max(slowest, loud.Latency(1))
		}
	}
	ratio := spreadOf(ratios)
	b.report.add(figure{
		what:     fmt.Sprintf("%s of %d: p50 of calls to the others, to that when it answers", rowHang, manyServers),
		measured: fmt.Sprintf("%s; slowest call %s ms", ratio, milliseconds(slowest)),
		target:   fmt.Sprintf("≤ %.2f", maxSlowdown), verdict: verdict(ratio.median <= maxSlowdown),
	})

	if err := setHanging(ctx, e, sick, true); err != nil {
		return err
	}
	stuck.begin(callersMeanwhile)
	var begins []float64
	for end := time.Now().Add(b.plan.hang); time.Now().Before(end) && ctx.Err() == nil; {
		start := time.Now()
		if err := beginOne(g.Endpoint, load.Legacy); err != nil && !errors.Is(err, errTools) { // those of the sick one may be gone
			return err
		}
		begins = append(begins, float64(time.Since(start))/1e6)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	b.report.add(figure{
		what:     fmt.Sprintf("%s for %v: ms until a new client has its list", rowHang, b.plan.hang),
		measured: spreadOf(begins).String(), target: "–", verdict: "–",
	})
	return nil
}

// callersOf are legacy clients, each calling one backend.
func callersOf(g gateway, n int, backend func(int) string) (calls []load.Call, shut func(), err error) {
	var clients []*load.Client
	shut = func() {
		for _, c := range clients {
			c.Close()
		}
	}
	for i := range n {
		c, err := load.Dial(g.Endpoint, load.Legacy)
		if err != nil {
			return nil, shut, err
		}
		clients = append(clients, c)
		if err := c.Open(); err != nil {
			return nil, shut, err
		}
		calls = append(calls, c.Caller(echo.Tool(backend(i)), small).Call)
	}
	return calls, shut, nil
}

// stuckCallers call a backend that hangs, once each.
type stuckCallers struct {
	g       gateway
	backend string
	calling sync.WaitGroup
}

func (s *stuckCallers) begin(n int) {
	for range n {
		s.calling.Go(func() {
			calls, shut, err := callersOf(s.g, 1, func(int) string { return s.backend })
			defer shut()
			if err == nil {
				_ = calls[0]() // it may well fail: that is what the gateway says of a backend that hangs
			}
		})
	}
}

func (s *stuckCallers) wait() { s.calling.Wait() }

func setHanging(ctx context.Context, e server, backend string, hang bool) error {
	method := http.MethodDelete
	if hang {
		method = http.MethodPost
	}
	request, err := http.NewRequestWithContext(ctx, method, e.url+"/hang/"+backend, http.NoBody)
	if err != nil {
		return fmt.Errorf("having %s hang: %w", backend, err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("having %s hang: %w", backend, err)
	}
	response.Body.Close()
	return nil
}
