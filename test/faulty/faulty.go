// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package faulty is an MCP server of another implementation than ours, with faults: it is told how to behave while it runs, and counts
// what it is asked. "make truth" runs it as a process, the end-to-end tests in a pod.
package faulty

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/tidwall/gjson"
	"golang.org/x/sync/errgroup"
)

// Behaviour is how a server behaves.
type Behaviour struct {
	// Delay is how long each answer takes.
	Delay time.Duration `json:"delay"`
	// Down says that nobody listens at its address. Connections that there are end.
	Down bool `json:"down"`
	// Flap is how long it is up, and then down, in turns; 0 means that it does not change by itself.
	Flap time.Duration `json:"flap"`
	// Garbage says that it answers with a web page.
	Garbage bool `json:"garbage"`
	// Token is the value of the header Authorization that it wants; "" means none.
	Token string `json:"token"`
	// Tools are what it offers.
	Tools []string `json:"tools"`
	// Told says that the change of the tools is announced.
	Told bool `json:"told"`
}

// Counts is what a server was asked since it was started.
type Counts struct {
	// Requests are the JSON-RPC requests and notifications by method.
	Requests map[string]int `json:"requests"`
	// Most is how many of them it was answering at a time at most, but for calls of tools and streams that stay open.
	Most int `json:"most"`
}

// Paths at a server's control address.
const (
	// BehaviourPath takes a Behaviour by PUT.
	BehaviourPath = "/behaviour"
	// CountsPath shows Counts.
	CountsPath = "/counts"
)

// The tools that a server can offer.
const (
	BaseTool = "here"
	MoreTool = "more"
)

const (
	// announcer is a tool that is never listed: the SDK tells clients of it when it comes or goes.
	announcer = "announcer"
	// drainTime is how long a server that is asked to end waits for requests.
	drainTime = 100 * time.Millisecond
	// maxBody bounds what is read of a request or of a Behaviour, in bytes.
	maxBody = 1 << 20
)

// server is an MCP server and its faults.
type server struct {
	modern bool
	mcp    *mcp.Server

	mu        sync.Mutex
	behaviour Behaviour
	changed   chan struct{} // closed and replaced with the behaviour
	announced bool
	counts    Counts
	answering int
}

func newServer(modern bool) *server {
	return &server{modern: modern, changed: make(chan struct{}), counts: Counts{Requests: map[string]int{}}}
}

// Run is the program of a server with its arguments. It returns when it is told to end by a signal.
func Run(args []string) error {
	flags := flag.NewFlagSet("faulty", flag.ExitOnError)
	listen := flags.String("listen", ":8080", "Address of the MCP server.")
	control := flags.String("control", ":8081", "Address at which it is told how to behave.")
	modern := flags.Bool("modern", false, "Whether it speaks revision 2026-07-28 and nothing else, or what came before.")
	initial := flags.String("behaviour", `{"tools":["`+BaseTool+`"]}`, "How it behaves at first.")
	_ = flags.Parse(args) // it exits instead
	s := newServer(*modern)
	if err := json.Unmarshal([]byte(*initial), &s.behaviour); err != nil {
		return fmt.Errorf("reading -behaviour: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	handler := s.counted(s.faulty(s.handler()))
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.attend(ctx, *listen, handler) })
	controller, err := listenAt(ctx, *control, s.controls())
	if err != nil {
		return err
	}
	group.Go(controller.serve)
	group.Go(func() error {
		<-ctx.Done()
		return controller.end(ctx)
	})
	return group.Wait()
}

// attend serves whenever the behaviour is such that somebody listens, until ctx ends.
func (s *server) attend(ctx context.Context, address string, handler http.Handler) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		var open *listening
		for up := true; ; {
			now, changed := s.now()
			wanted := !now.Down && (now.Flap == 0 || up)
			switch {
			case wanted && open == nil:
				var err error
				if open, err = listenAt(ctx, address, handler); err != nil {
					return err
				}
				group.Go(open.serve)
			case !wanted && open != nil:
				_ = open.server.Close() // of connections that are cut off
				open = nil
			}
			var turn <-chan time.Time
			if now.Flap > 0 {
				turn = time.After(now.Flap)
			}
			select {
			case <-turn:
				up = !up
			case <-changed:
			case <-ctx.Done():
				if open == nil {
					return nil
				}
				return open.end(ctx)
			}
		}
	})
	return group.Wait()
}

// listening is an HTTP server at an address.
type listening struct {
	listener net.Listener
	server   *http.Server
}

func listenAt(ctx context.Context, address string, handler http.Handler) (*listening, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", address, err)
	}
	return &listening{listener, &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}}, nil
}

func (l *listening) serve() error {
	if err := l.server.Serve(l.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// end lets requests finish for a moment. ctx is one that has ended.
func (l *listening) end(ctx context.Context) error {
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	_ = l.server.Shutdown(last) // streams do not end by themselves
	return l.server.Close()
}

// handler is the MCP server, without faults.
func (s *server) handler() http.Handler {
	versions, options := []string{"2025-11-25", "2025-06-18", "2025-03-26"}, &mcp.StreamableHTTPOptions{}
	if s.modern {
		versions, options = []string{"2026-07-28"}, &mcp.StreamableHTTPOptions{Stateless: true, PropagateRequestCancellation: true}
	}
	s.mcp = mcp.NewServer(&mcp.Implementation{Name: "faulty", Version: "1"}, &mcp.ServerOptions{SupportedProtocolVersions: versions})
	for _, name := range []string{BaseTool, MoreTool} {
		mcp.AddTool(s.mcp, &mcp.Tool{Name: name, Description: "Answers."}, answer)
	}
	s.mcp.AddReceivingMiddleware(s.hide)
	return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s.mcp }, options)
}

func answer(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "here"}}}, nil, nil
}

// hide takes the tools out of lists that are not offered at present.
func (s *server) hide(next mcp.MethodHandler) mcp.MethodHandler {
	return func(ctx context.Context, method string, r mcp.Request) (mcp.Result, error) {
		result, err := next(ctx, method, r)
		if list, ok := result.(*mcp.ListToolsResult); ok && err == nil {
			now, _ := s.now()
			list.Tools = slices.DeleteFunc(slices.Clone(list.Tools), func(t *mcp.Tool) bool { return !slices.Contains(now.Tools, t.Name) })
		}
		return result, err
	}
}

// counted counts what a handler is asked by POST.
func (s *server) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			next.ServeHTTP(w, r)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		answered := sync.OnceFunc(s.count(gjson.GetBytes(body, "method").Str))
		defer answered()
		next.ServeHTTP(&announcing{w, answered}, r)
	})
}

// announcing tells when an answer is about to begin: whoever gets it may ask the next thing before the handler has returned.
type announcing struct {
	http.ResponseWriter
	begins func()
}

func (a *announcing) WriteHeader(status int) {
	a.begins()
	a.ResponseWriter.WriteHeader(status)
}

func (a *announcing) Write(p []byte) (int, error) {
	a.begins()
	return a.ResponseWriter.Write(p)
}

// Unwrap lets the SDK flush its streams.
func (a *announcing) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// count counts a request, and returns what to call when it is answered.
func (s *server) count(method string) func() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Requests[method]++
	if method == "tools/call" || method == "subscriptions/listen" {
		return func() {}
	}
	s.answering++
	s.counts.Most = max(s.counts.Most, s.answering)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.answering--
	}
}

// faulty puts the faults before a handler.
func (s *server) faulty(next http.Handler) http.Handler {
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

func (s *server) now() (Behaviour, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.behaviour, s.changed
}

// controls is what is served at the control address.
func (s *server) controls() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("PUT "+BehaviourPath, s.behave)
	mux.HandleFunc("GET "+CountsPath, func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		_ = json.NewEncoder(w).Encode(s.counts) // whoever asked has gone
	})
	return mux
}

func (s *server) behave(w http.ResponseWriter, r *http.Request) {
	var next Behaviour
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&next); err != nil {
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
