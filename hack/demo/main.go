// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Command demo shows the whole system on a real cluster: it installs the operator, puts a gateway in front of three MCP servers
// that others wrote, calls them, lets one die and come back, and leaves everything running. "make demo" builds what it needs
// and runs it from the top of the repository.
//
//	demo             the story
//	demo forward     keeps the gateway reachable on loopback until the cluster is gone (the story starts it)
//	demo stop        ends "demo forward"
//
// DEMO_CONTEXT names a kube context to use instead of a cluster of our own; the images then come from IMAGE_REGISTRY.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	command := "story"
	if len(args) > 0 {
		command = args[0]
	}
	switch command {
	case "story":
		return tellStory(ctx, os.Stdout)
	case "forward":
		return keepForwarding(ctx, os.Stdout)
	case "stop":
		return stopForwarding()
	default:
		return errors.New("usage: demo [story|forward|stop]")
	}
}
