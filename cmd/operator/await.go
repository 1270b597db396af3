// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
)

const (
	// awaitInterval is the time between two tries to reach the API server, awaitTimeout that for an answer.
	awaitInterval = 2 * time.Second
	awaitTimeout  = 5 * time.Second
)

// awaitAPIServer waits until the API server answers what the manager asks it first, for as long as it takes. Meanwhile the program is live and
// not ready: one that ended instead would be started by the kubelet ever more seldom, and be away for minutes after the API server is back.
// The error is not nil if the probes cannot be served, or if ctx ended.
func awaitAPIServer(ctx context.Context, config *rest.Config, probeAddress string) error {
	config = rest.CopyConfig(config)
	config.Timeout = awaitTimeout
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return fmt.Errorf("preparing to reach the API server: %w", err)
	}
	said := ""
	reached := func(ctx context.Context) (bool, error) {
		_, err := client.ServerGroupsWithContext(ctx)
		if err == nil {
			return true, nil
		}
		if problem := err.Error(); problem != said {
			said = problem
			ctrl.Log.Info("Waiting for the API server", "problem", problem)
		}
		return false, nil
	}
	if there, _ := reached(ctx); there {
		return nil
	}
	ended, err := serveWaiting(ctx, probeAddress)
	if err != nil {
		return err
	}
	defer ended()
	if err := wait.PollUntilContextCancel(ctx, awaitInterval, false, reached); err != nil {
		return fmt.Errorf("waiting for the API server: %w", err)
	}
	ctrl.Log.Info("The API server answers")
	return nil
}

// serveWaiting answers probes with "live, not ready" at an address, 0 being none, until the function is called that it returns.
func serveWaiting(ctx context.Context, address string) (end func(), err error) {
	if address == "0" || address == "" {
		return func() {}, nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listening for probes: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "waiting for the API server", http.StatusServiceUnavailable)
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: awaitTimeout}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			ctrl.Log.Error(err, "The probes are not served any more")
		}
	}()
	return func() {
		_ = server.Close()
		<-done
	}, nil
}
