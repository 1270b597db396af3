// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"golang.org/x/sync/errgroup"
)

// behaviour is how a backend behaves. It is told by a PUT to its control address.
type behaviour struct {
	// Delay is how long each answer takes.
	Delay time.Duration `json:"delay"`
	// Garbage says that it answers with a web page.
	Garbage bool `json:"garbage"`
	// Token is the value of the header Authorization that it wants; "" means none.
	Token string `json:"token"`
	// Tools are what it offers.
	Tools []string `json:"tools"`
	// Told says that the change of the tools is announced.
	Told bool `json:"told"`
}

const (
	controlPath = "/behaviour"
	// announcer is a tool that is never listed: the SDK tells clients of it when it comes or goes.
	announcer = "announcer"
	// drainTime is how long a backend that is asked to end waits for requests.
	drainTime = 100 * time.Millisecond
)

// backendServer is an MCP server of another implementation than ours, with faults.
type backendServer struct {
	modern bool
	mcp    *mcp.Server

	mu        sync.Mutex
	behaviour behaviour
	changed   chan struct{} // closed and replaced with the behaviour
	announced bool
}

// runBackend is the program of a backend.
func runBackend(args []string) error {
	flags := flag.NewFlagSet("truth backend", flag.ExitOnError)
	listen := flags.String("listen", "", "Address of the MCP server.")
	control := flags.String("control", "", "Address at which it is told how to behave.")
	modern := flags.Bool("modern", false, "Whether it speaks revision 2026-07-28 and nothing else, or what came before.")
	initial := flags.String("behaviour", "{}", "How it behaves at first.")
	_ = flags.Parse(args) // it exits instead
	s := &backendServer{modern: *modern, changed: make(chan struct{})}
	if err := json.Unmarshal([]byte(*initial), &s.behaviour); err != nil {
		return fmt.Errorf("reading -behaviour: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	for _, server := range []*http.Server{
		{Addr: *control, Handler: http.HandlerFunc(s.control), ReadHeaderTimeout: time.Second},
		{Addr: *listen, Handler: s.faulty(s.handler()), ReadHeaderTimeout: 10 * time.Second},
	} {
		group.Go(func() error {
			if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
		group.Go(func() error {
			<-ctx.Done()
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
			defer cancel()
			_ = server.Shutdown(last) // streams do not end by themselves
			return server.Close()
		})
	}
	return group.Wait()
}

// handler is the MCP server, without faults.
func (s *backendServer) handler() http.Handler {
	versions, options := []string{"2025-11-25", "2025-06-18", "2025-03-26"}, &mcp.StreamableHTTPOptions{}
	if s.modern {
		versions, options = []string{"2026-07-28"}, &mcp.StreamableHTTPOptions{Stateless: true, PropagateRequestCancellation: true}
	}
	s.mcp = mcp.NewServer(&mcp.Implementation{Name: "truth", Version: "1"}, &mcp.ServerOptions{SupportedProtocolVersions: versions})
	for _, name := range []string{baseTool, moreTool} {
		mcp.AddTool(s.mcp, &mcp.Tool{Name: name, Description: "Answers."}, answer)
	}
	s.mcp.AddReceivingMiddleware(s.hide)
	return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s.mcp }, options)
}

func answer(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "here"}}}, nil, nil
}

// hide takes the tools out of lists that are not offered at present.
func (s *backendServer) hide(next mcp.MethodHandler) mcp.MethodHandler {
	return func(ctx context.Context, method string, r mcp.Request) (mcp.Result, error) {
		result, err := next(ctx, method, r)
		if list, ok := result.(*mcp.ListToolsResult); ok && err == nil {
			now, _ := s.now()
			list.Tools = slices.DeleteFunc(slices.Clone(list.Tools), func(t *mcp.Tool) bool { return !slices.Contains(now.Tools, t.Name) })
		}
		return result, err
	}
}

// faulty puts the faults before a handler.
func (s *backendServer) faulty(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now, changed := s.now()
		if now.Delay > 0 && r.Method == http.MethodPost {
			timer := time.NewTimer(now.Delay)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-changed:
			case <-r.Context().Done():
				return
			}
			now, _ = s.now()
		}
		switch {
		case now.Garbage:
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, "<!DOCTYPE html><title>It works</title>")
		case now.Token != "" && r.Header.Get("Authorization") != now.Token:
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "who are you?", http.StatusUnauthorized)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func (s *backendServer) now() (behaviour, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.behaviour, s.changed
}

func (s *backendServer) control(w http.ResponseWriter, r *http.Request) {
	var next behaviour
	if r.Method != http.MethodPut || r.URL.Path != controlPath {
		http.NotFound(w, r)
		return
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&next); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	tell := next.Told && !slices.Equal(next.Tools, s.behaviour.Tools)
	s.behaviour = next
	close(s.changed)
	s.changed = make(chan struct{})
	if !tell {
		return
	}
	if s.announced = !s.announced; s.announced {
		mcp.AddTool(s.mcp, &mcp.Tool{Name: announcer, Description: strings.Repeat("-", 3)}, answer)
	} else {
		s.mcp.RemoveTools(announcer)
	}
}
