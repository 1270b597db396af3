// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Command conformance examines the gateway with what others wrote: the public MCP conformance suites, and MCP clients. A server of
// each era, the Go SDK's conformance server, is examined directly first, then through the gateway, by clients of its own era and
// of the other. It prints one table and exits with 1 when a row is below what expected.yaml asks for.
//
//	conformance -vmcp bin/vmcp -server bin/mcp-servers/everything
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/vmcp-dev/vmcp-operator/test/process"
	"github.com/vmcp-dev/vmcp-operator/test/standalone"
)

// timeout bounds everything.
const timeout = 45 * time.Minute

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	flags := flag.NewFlagSet("conformance", flag.ExitOnError)
	vmcp := flags.String("vmcp", "bin/vmcp", "the gateway's `program`")
	server := flags.String("server", "bin/mcp-servers/everything", "the conformance server's `program`")
	cache := flags.String("cache", "", "`folder` to keep the npm packages in (default ~/.cache/vmcp-operator/conformance, or $VMCP_CACHE/conformance)")
	dir := flags.String("dir", "", "`folder` for logs and what the suites say about each scenario (default a new one below the temporary folder)")
	only := flags.String("run", "", "`regexp` of the rows to run")
	_ = flags.Parse(args) // it exits
	rows, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	if *dir == "" {
		if *dir, err = os.MkdirTemp("", "vmcp-conformance-"); err != nil {
			return fmt.Errorf("making a folder for the logs: %w", err)
		}
	}
	if *cache == "" {
		if *cache, err = defaultCache(); err != nil {
			return err
		}
	}
	expected, err := readExpected()
	if err != nil {
		return err
	}
	n, err := install(ctx, *cache, *dir)
	if err != nil {
		return err
	}
	endpoints, stop, err := startAll(ctx, *vmcp, *server, *dir)
	defer stop()
	if err != nil {
		return err
	}
	t := &table{expected: expected}
	for _, e := range endpoints {
		e.runSuites(ctx, n, *dir, rows, t)
	}
	for _, e := range endpoints {
		e.runClients(ctx, n, *dir, rows, t)
	}
	fmt.Println()
	t.print(os.Stdout)
	fmt.Printf("\nlogs, and what each scenario checked: %s\n", *dir)
	return errors.Join(ctx.Err(), t.verdict())
}

func defaultCache() (string, error) {
	root := os.Getenv("VMCP_CACHE")
	if root == "" {
		home, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("looking for a folder to keep the suites in: %w; set VMCP_CACHE", err)
		}
		root = filepath.Join(home, "vmcp-operator")
	}
	return filepath.Join(root, "conformance"), nil
}

// endpoint is a server as clients see it, directly or through the gateway.
type endpoint struct {
	// name is that of the rows: how it is reached, and the era of the server at the end.
	name    string
	gateway bool
	// modern is whether the server at the end speaks the newest revision.
	modern bool
	target target
}

// startAll starts the servers of both eras and a gateway before each. stop ends them.
func startAll(ctx context.Context, vmcp, server, dir string) (endpoints []endpoint, stop func(), err error) {
	var running []*process.Process
	stop = func() {
		for _, p := range running {
			p.Stop()
		}
	}
	for _, era := range []struct {
		name   string
		modern bool
		args   []string
	}{
		{"legacy", false, []string{"-stateless=false"}},
		{"modern", true, nil},
	} {
		address, err := process.FreeAddress()
		if err != nil {
			return nil, stop, err
		}
		p, err := process.Start(process.Options{
			Name: "server-" + era.name, Dir: dir, Program: server, Args: append([]string{"-http", address}, era.args...),
		})
		if err != nil {
			return nil, stop, err
		}
		running = append(running, p)
		if err := p.WaitListening(ctx, address); err != nil {
			return nil, stop, err
		}
		url := "http://" + address + "/mcp"
		g, err := standalone.Start(ctx, standalone.Options{
			Program: vmcp, Name: "gateway-" + era.name, Dir: dir, Backends: []standalone.Backend{{Name: "suite", URL: url}},
		})
		if err != nil {
			return nil, stop, err
		}
		running = append(running, g.Process)
		endpoints = append(endpoints,
			endpoint{name: "direct, " + era.name + " server", modern: era.modern, target: target{url: url, modern: era.modern}},
			endpoint{name: "gateway, " + era.name + " server", gateway: true, modern: era.modern, target: target{url: g.Endpoint, modern: true}})
	}
	return endpoints, stop, nil
}

// suites are those that can say something about the endpoint.
func (e endpoint) suites() []suite {
	var fit []suite
	for _, s := range []suite{suiteOld, suiteLegacy, suiteModern} {
		crossed := (s.name == suiteModern.name) != e.modern
		if !crossed || e.gateway {
			fit = append(fit, s)
		}
	}
	return fit
}

// clients are those that can: not one that is pinned to a revision that is not served, nor, without a gateway, one of the legacy
// era at a server whose modern clients see something else.
func (e endpoint) clients() []client {
	var fit []client
	for _, c := range clients {
		if e.gateway || c.mode == "auto" || (c.mode == "modern") == e.modern {
			fit = append(fit, c)
		}
	}
	return fit
}

// Names of rows.
func (e endpoint) scored(s suite) string    { return s.name + " | " + e.name }
func (e endpoint) notScored(s suite) string { return s.name + ", not scored | " + e.name }
func (e endpoint) driven(c client) string   { return c.name + " | " + e.name }

// runSuites runs the suites, those whose row's name matches.
func (e endpoint) runSuites(ctx context.Context, n node, dir string, rows *regexp.Regexp, t *table) {
	for _, s := range e.suites() {
		name := e.scored(s)
		if !rows.MatchString(name) || ctx.Err() != nil {
			continue
		}
		scored, extra, err := s.run(ctx, n, fileName(name), e.target.url, dir)
		t.add(name, scored, err)
		if s.extras() {
			t.add(e.notScored(s), extra, err)
		}
	}
}

// runClients runs the clients, those whose row's name matches.
func (e endpoint) runClients(ctx context.Context, n node, dir string, rows *regexp.Regexp, t *table) {
	for _, c := range e.clients() {
		name := e.driven(c)
		if !rows.MatchString(name) || ctx.Err() != nil {
			continue
		}
		func() {
			ctx, cancel := context.WithTimeout(ctx, clientTimeout)
			defer cancel()
			t.add(name, c.run(ctx, n, c, e.target, process.Options{Name: fileName(name), Dir: dir}), nil)
		}()
	}
}

// fileName is a row's name as that of a file.
func fileName(row string) string {
	return strings.Trim(regexp.MustCompile(`[^a-z0-9.]+`).ReplaceAllString(strings.ToLower(row), "-"), "-")
}
