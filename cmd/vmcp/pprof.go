// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"
)

// servePprof serves the profiles of net/http/pprof at an address, on loopback unless it names a host, until stop is called. An
// empty address serves none. Profiles tell much about a process and cost time to make, so they have a listener of their own.
func servePprof(ctx context.Context, address string, logger *slog.Logger) (stop func(), err error) {
	if address == "" {
		return func() {}, nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, misuse{fmt.Errorf("--pprof-listen: %w", err)}
	}
	if host == "" {
		host = loopback
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, fmt.Errorf("listening for profiles: %w", err)
	}
	// No timeout for writing: a CPU profile or a trace takes as long as the query asks for.
	server := &http.Server{Handler: pprofHandler(), ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			logger.Warn("Profiles are no longer served", "error", err)
		}
	}()
	logger.Info("Serving profiles", "address", listener.Addr().String())
	return func() {
		server.Close()
		<-ended
	}, nil
}

func pprofHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index) // and each profile below it by its name
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("POST /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}
