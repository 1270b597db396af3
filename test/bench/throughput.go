// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/vmcp-dev/vmcp-operator/test/echo"
	"github.com/vmcp-dev/vmcp-operator/test/load"
	"github.com/vmcp-dev/vmcp-operator/test/process"
	"github.com/vmcp-dev/vmcp-operator/test/standalone"
)

const (
	small = 32
	large = 64 << 10
)

// cell is one kind of calls.
type cell struct {
	// client is the era of the clients, server that of the server behind the gateway. The proxy, which cannot translate, always
	// stands before a server of the clients' era.
	client, server load.Era
	stream         bool // answers are event streams
	size           int  // of the text, in bytes
	clients        int
	// rate is the least ratio of the calls per second, gateway to proxy; 0 if there is no target. There the CPU has one too.
	rate float64
}

// maxCPU is the target of the ratio of CPU per call, gateway to proxy.
const maxCPU = 1.0

func cells() []cell {
	var all []cell
	for _, era := range []load.Era{load.Legacy, load.Modern} {
		for _, size := range []int{small, large} {
			for _, clients := range []int{1, 16, 128} {
				c := cell{client: era, server: era, size: size, clients: clients}
				switch {
				case clients != 16:
				case size == small:
					c.rate = 1.0
				default:
					c.rate = 0.95
				}
				all = append(all, c)
			}
		}
	}
	for _, era := range []load.Era{load.Legacy, load.Modern} {
		all = append(all, cell{client: era, server: era, stream: true, size: small, clients: 16})
	}
	return append(all,
		cell{client: load.Legacy, server: load.Modern, size: small, clients: 16},
		cell{client: load.Modern, server: load.Legacy, size: small, clients: 16})
}

func (c cell) String() string {
	answer, size := "JSON", "32 B"
	if c.stream {
		answer = "SSE"
	}
	if c.size == large {
		size = "64 KiB"
	}
	return fmt.Sprintf("%s client, %s server, %s, %s, %d clients", c.client, c.server, answer, size, c.clients)
}

// backend is the server that a cell's calls end at.
func (c cell) backend(era load.Era) string {
	name := era.String()
	if c.stream {
		name += echo.StreamSuffix
	}
	return name
}

// stage is what the calls of all cells run on.
type stage struct {
	echo, proxy map[load.Era]server
	gateway     gateway
}

// throughput measures every cell.
func (b *bench) throughput(ctx context.Context) error {
	var wanted []cell
	for _, c := range cells() {
		if b.rows.MatchString(c.String()) {
			wanted = append(wanted, c)
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	var running stopAll
	defer running.stop()
	s := stage{echo: map[load.Era]server{}, proxy: map[load.Era]server{}}
	var backends []standalone.Backend
	for _, era := range []load.Era{load.Legacy, load.Modern} {
		e, err := b.startEcho(ctx, era, 1)
		if err != nil {
			return err
		}
		running.add(e)
		p, err := b.start(ctx, "proxy-"+era.String(), "proxy", "-to", e.url)
		if err != nil {
			return err
		}
		running.add(p)
		s.echo[era], s.proxy[era] = e, p
		for _, name := range []string{era.String(), era.String() + echo.StreamSuffix} {
			backends = append(backends, standalone.Backend{Name: name, URL: e.url + "/" + name + "/mcp"})
		}
	}
	g, err := b.startGateway(ctx, "gateway-calls", backends)
	if err != nil {
		return err
	}
	running.add(g)
	s.gateway = g
	var failed error
	for _, c := range wanted {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r, err := b.compare(ctx, c, s)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", c, err))
			fmt.Printf("%-60s %v\n", c, err)
			continue
		}
		b.report.comparisons = append(b.report.comparisons, r)
		fmt.Println(r)
	}
	return failed
}

// way is one of the ways to the server.
type way struct {
	name  string
	pid   int // of what stands in the way, 0 if nothing does
	calls []load.Call

	clients []*load.Client
	results []load.Result
	cpu     []time.Duration // that the process used in each slice
}

// open opens the clients of a way.
func (w *way) open(endpoint, tool string, c cell) error {
	for range c.clients {
		client, err := load.Dial(endpoint, c.client)
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		w.clients = append(w.clients, client)
		if err := client.Open(); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		w.calls = append(w.calls, client.Caller(tool, c.size).Call)
	}
	return nil
}

// shut ends the clients, and the sessions of those that have one.
func (w *way) shut() {
	for _, client := range w.clients {
		_ = client.End() // it may have failed before
		client.Close()
	}
}

// run runs one slice.
func (w *way) run(duration time.Duration, counted bool) error {
	var before, after time.Duration
	var err error
	if w.pid != 0 {
		if before, err = process.CPU(w.pid); err != nil {
			return err
		}
	}
	r := load.Run(w.calls, duration)
	if w.pid != 0 {
		if after, err = process.CPU(w.pid); err != nil {
			return err
		}
	}
	switch {
	case r.Errors > 0:
		return fmt.Errorf("%s: %d of %d calls failed, one with: %w", w.name, r.Errors, r.Calls+r.Errors, r.Err)
	case r.Calls == 0:
		return fmt.Errorf("%s: %w", w.name, errNoCall)
	case counted:
		w.results = append(w.results, r)
		w.cpu = append(w.cpu, after-before)
	}
	return nil
}

var errNoCall = errors.New("not one call ended within the time")

// compare measures one cell: after a warm-up, turns of direct, proxy and gateway, the last two in changing order, each over
// connections that stay open.
func (b *bench) compare(ctx context.Context, c cell, s stage) (comparison, error) {
	direct := &way{name: "direct"}
	proxy := &way{name: "ReverseProxy", pid: s.proxy[c.client].PID()}
	hop := &way{name: "gateway", pid: s.gateway.PID()}
	defer func() {
		for _, w := range []*way{direct, proxy, hop} {
			w.shut()
		}
	}()
	path := "/" + c.backend(c.client) + "/mcp"
	for _, w := range []struct {
		*way
		endpoint, tool string
	}{
		{direct, s.echo[c.client].url + path, echo.Tool(c.backend(c.client))},
		{proxy, s.proxy[c.client].url + path, echo.Tool(c.backend(c.client))},
		{hop, s.gateway.Endpoint, echo.Tool(c.backend(c.server))},
	} {
		if err := w.open(w.endpoint, w.tool, c); err != nil {
			return comparison{}, err
		}
	}
	for turn := -2; turn < b.plan.pairs; turn++ {
		order := []*way{direct, proxy, hop}
		if turn%2 == 0 {
			order = []*way{direct, hop, proxy}
		}
		for _, w := range order {
			if err := errors.Join(ctx.Err(), w.run(b.plan.slice, turn >= 0)); err != nil {
				return comparison{}, err
			}
		}
	}
	if b.profile && c.clients == 16 {
		if err := profileCPU(ctx, s.gateway.pprof, filepath.Join(b.dir, fmt.Sprintf("cpu-%s-%d.pprof", c.backend(c.client), c.size)), hop.calls); err != nil {
			return comparison{}, err
		}
	}
	return newComparison(c, direct, proxy, hop), nil
}

// profileCPU keeps a CPU profile of the gateway while the calls run.
func profileCPU(ctx context.Context, pprof, file string, calls []load.Call) error {
	const seconds = 5
	loading := make(chan load.Result, 1)
	go func() { loading <- load.Run(calls, (seconds+1)*time.Second) }()
	defer func() { <-loading }()
	profile, err := fetch(ctx, fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", pprof, seconds))
	if err != nil {
		return err
	}
	return os.WriteFile(file, profile, 0o644)
}

// fetch gets a URL of the gateway's or proxy's own.
func fetch(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("fetching %s: %w", url, err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %s", response.Status)
	}
	if err != nil {
		return nil, fmt.Errorf("fetching %s: %w", url, err)
	}
	return body, nil
}
