// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/http/pprof"
	"net/url"
	"time"

	"github.com/vmcp-dev/vmcp-operator/test/echo"
)

// roles are what this program is besides the bench: the servers, each in a process of its own, and another way to use them.
var roles = map[string]func(ctx context.Context, args []string) error{
	"echo":   serveEcho,
	"proxy":  serveProxy,
	"stream": serveStreams,
	"soak":   soak,
}

// serveEcho is the MCP servers of one era.
func serveEcho(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bench echo", flag.ExitOnError)
	listen := flags.String("listen", "", "`address`")
	modern := flags.Bool("modern", false, "speak revision 2026-07-28 rather than 2025-11-25")
	tools := flags.Int("tools", 1, "`number` of tools of each server")
	_ = flags.Parse(args) // it exits
	return serve(ctx, *listen, &echo.Server{Modern: *modern, Tools: *tools})
}

// serveProxy is the proxy that the gateway is measured against: httputil.ReverseProxy as it comes, but for a pool of connections
// that is large enough (the default of two would open one for most calls), without asking for compression, as the gateway, and with
// net/http told that answers may begin before requests are read. Otherwise the server closes the body of a request when its
// answer begins; the transport may still be looking whether that body has ended, and then cuts the answer off.
func serveProxy(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bench proxy", flag.ExitOnError)
	listen := flags.String("listen", "", "`address`")
	to := flags.String("to", "", "`URL` of the server, without a path")
	_ = flags.Parse(args) // it exits
	target, err := url.Parse(*to)
	if err != nil {
		return fmt.Errorf("-to: %w", err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: &http.Transport{MaxIdleConns: 1024, MaxIdleConnsPerHost: 512, DisableCompression: true},
	}
	return serve(ctx, *listen, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex() // HTTP/1.1 of net/http can
		proxy.ServeHTTP(w, r)
	}))
}

// serveStreams holds event streams open and says nothing on them: what a stream costs at least in a net/http server.
func serveStreams(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bench stream", flag.ExitOnError)
	listen := flags.String("listen", "", "`address`")
	_ = flags.Parse(args) // it exits
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/mcp", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush() // the context ends if it fails
		<-r.Context().Done()
	})
	return serve(ctx, *listen, mux)
}

func serve(ctx context.Context, address string, handler http.Handler) error {
	server := &http.Server{Addr: address, Handler: handler, ReadHeaderTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}
