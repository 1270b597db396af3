// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/vmcp-dev/vmcp-operator/test/load"
	"github.com/vmcp-dev/vmcp-operator/test/process"
	"github.com/vmcp-dev/vmcp-operator/test/standalone"
)

// server is a process that listens.
type server struct {
	*process.Process
	url string // without a path
}

// start starts this program in another role.
func (b *bench) start(ctx context.Context, name, role string, args ...string) (server, error) {
	address, err := process.FreeAddress()
	if err != nil {
		return server{}, err
	}
	p, err := process.Start(process.Options{Name: name, Dir: b.dir, Program: b.self, Args: append([]string{role, "-listen", address}, args...)})
	if err != nil {
		return server{}, err
	}
	if err := p.WaitListening(ctx, address); err != nil {
		p.Stop()
		return server{}, err
	}
	return server{Process: p, url: "http://" + address}, nil
}

// startEcho starts the MCP servers of an era.
func (b *bench) startEcho(ctx context.Context, era load.Era, tools int) (server, error) {
	return b.start(ctx, fmt.Sprintf("echo-%s-%d", era, tools), "echo", fmt.Sprintf("-modern=%t", era == load.Modern), fmt.Sprintf("-tools=%d", tools))
}

// gateway is the gateway, with its profiles.
type gateway struct {
	*standalone.Gateway
	pprof string // URL without a path
}

func (b *bench) startGateway(ctx context.Context, name string, backends []standalone.Backend) (gateway, error) {
	profiles, err := process.FreeAddress()
	if err != nil {
		return gateway{}, err
	}
	g, err := standalone.Start(ctx, standalone.Options{
		Program: b.vmcp, Name: name, Dir: b.dir, Backends: backends, Args: []string{"--pprof-listen", profiles, "--log-level", "warn"},
	})
	if err != nil {
		return gateway{}, err
	}
	return gateway{Gateway: g, pprof: "http://" + profiles}, nil
}

// stopAll stops what was started.
type stopAll []interface{ Stop() }

func (s *stopAll) add(p interface{ Stop() }) { *s = append(*s, p) }

func (s *stopAll) stop() {
	for _, p := range *s {
		p.Stop()
	}
}
