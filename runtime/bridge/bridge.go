// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package bridge serves a stdio MCP server over streamable HTTP: one process of the server per session.
//
// Messages pass as they are. The bridge looks at ids, methods and progress tokens to find the stream that a message
// belongs to, and at nothing else. It speaks the revisions of MCP that have sessions (up to 2025-11-25): the state of a
// stdio server is its process, so a request without a session has nowhere to go.
package bridge

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vmcp-dev/vmcp-operator/runtime/graceful"
)

const (
	// maxQueued bounds the messages that wait for one stream.
	maxQueued = 256
	// maxLogLine bounds a line of the server's standard error, in bytes.
	maxLogLine = 64 << 10
)

// idleTimeout is how long a connection is kept for a request. Gateways give up theirs before.
const idleTimeout = 2 * time.Minute

// The times of an end, which come one after another. In a pod of the operator's, with a ShutdownDelay of 5 seconds, they add up to 26 of the 30
// seconds after which Kubernetes kills it: calls have nearly as long as the gateway, which waits 25 seconds in all, lets them have.
const (
	// drainTimeout is the default of DrainTimeout.
	drainTimeout = 15 * time.Second
	// endTimeout is how long it takes at most to end processes, all at the same time.
	endTimeout = graceAfterClose + graceAfterTerm + graceForOutput
	// lastAnswers is for clients to get the answers of calls that ended with their processes.
	lastAnswers = time.Second
)

// Options say what a Bridge runs and what it may cost. A zero value means the default.
type Options struct {
	// Command is the server's program, searched in $PATH, and its arguments.
	Command []string
	// Path is the HTTP path of the endpoint; /mcp by default.
	Path string
	// MaxSessions bounds the processes of the server; 32 by default.
	MaxSessions int
	// MaxCalls bounds the requests of one session that the server has not answered; 128 by default.
	MaxCalls int
	// MaxMessageBytes bounds one message in either direction; 16 MiB by default.
	MaxMessageBytes int
	// IdleTimeout ends a session without any HTTP request, an open stream being one; 10 minutes by default.
	IdleTimeout time.Duration
	// InitializeTimeout bounds the server's answer to initialize; 2 minutes by default.
	InitializeTimeout time.Duration
	// KeepAlive is the time between comments on a quiet stream; 25 seconds by default.
	KeepAlive time.Duration
	// ShutdownDelay is how long Serve serves as before after it was told to end, for clients whom nobody has told yet; none by default. Each
	// answer meanwhile closes its connection (RFC 9112, section 9.6), so that clients come back by another one.
	ShutdownDelay time.Duration
	// DrainTimeout is how long Shutdown lets requests in progress finish; 15 seconds by default. Ending the processes
	// takes at most 5 seconds more.
	DrainTimeout time.Duration
	// ReapOrphans waits for processes that the server left behind. Set it in the first process of a container, and only in
	// a program that starts no processes elsewhere.
	ReapOrphans bool
	// Logger receives the bridge's own log and the server's standard error; nothing by default.
	Logger *slog.Logger

	path string // of the program, found
}

func (o Options) withDefaults() Options {
	o.Path = cmp.Or(o.Path, "/mcp")
	o.MaxSessions = cmp.Or(o.MaxSessions, 32)
	o.MaxCalls = cmp.Or(o.MaxCalls, 128)
	o.MaxMessageBytes = cmp.Or(o.MaxMessageBytes, 16<<20)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, 10*time.Minute)
	o.InitializeTimeout = cmp.Or(o.InitializeTimeout, 2*time.Minute)
	o.KeepAlive = cmp.Or(o.KeepAlive, 25*time.Second)
	o.DrainTimeout = cmp.Or(o.DrainTimeout, drainTimeout)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Bridge is an http.Handler. Shutdown must be called in the end.
type Bridge struct {
	options Options
	retired atomic.Bool // answers close their connections

	mu       sync.Mutex
	sessions map[string]*session // until their processes are gone
	count    int                 // sessions started so far, to tell them apart in the log
	closed   bool
	running  sync.WaitGroup // supervise of each session
}

// New checks that the command can be run; nothing is started yet.
func New(o Options) (*Bridge, error) {
	if len(o.Command) == 0 {
		return nil, errors.New("no command of a stdio MCP server given")
	}
	path, err := exec.LookPath(o.Command[0])
	if err != nil {
		return nil, fmt.Errorf("the MCP server cannot be started: %w (PATH is %q)", err, os.Getenv("PATH"))
	}
	o = o.withDefaults()
	o.path = path
	return &Bridge{options: o, sessions: map[string]*session{}}, nil
}

var (
	errTooManySessions = errors.New("too many sessions")
	errClosed          = errors.New("the bridge is shutting down")
)

// open starts a session.
func (b *Bridge) open() (*session, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return nil, errClosed
	case len(b.sessions) >= b.options.MaxSessions:
		return nil, fmt.Errorf("%w: %d are open", errTooManySessions, len(b.sessions))
	}
	// The id admits to the session, so it is random (2025-11-25, basic/transports, session management) and not logged.
	id := rand.Text()
	s, err := startSession(id, b.options.Logger.With("session", b.count+1), &b.options)
	if err != nil {
		return nil, err
	}
	b.count++
	b.sessions[id] = s
	b.running.Go(func() {
		s.supervise()
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.sessions, id)
	})
	return s, nil
}

// session finds a session that has not begun to end.
func (b *Bridge) session(id string) (*session, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.sessions[id]
	if s == nil {
		return nil, false
	}
	select {
	case <-s.ending:
		return nil, false
	default:
		return s, true
	}
}

// Shutdown refuses new sessions and new requests of open ones, lets those in progress finish for DrainTimeout, ends all sessions and waits for
// their processes. To a new request the answer is that its session is unknown: so a gateway may send it once more, to the pod that took over.
func (b *Bridge) Shutdown(ctx context.Context) error {
	b.mu.Lock()
	b.closed = true
	open := make([]*session, 0, len(b.sessions))
	for _, s := range b.sessions {
		open = append(open, s)
	}
	b.mu.Unlock()

	for _, s := range open {
		s.refuse()
	}
	b.drain(ctx, open)
	for _, s := range open {
		s.end(errShutdown)
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		b.running.Wait()
	}()
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the processes of the MCP server to end: %w", ctx.Err())
	}
}

// drain returns when no request is in progress, or after DrainTimeout.
func (b *Bridge) drain(ctx context.Context, open []*session) {
	ctx, cancel := context.WithTimeout(ctx, b.options.DrainTimeout)
	defer cancel()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		calls := 0
		for _, s := range open {
			calls += s.inProgress()
		}
		if calls == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-poll.C:
		}
	}
}

// Run serves a bridge at the TCP address listen until ctx ends, for ShutdownDelay longer, and then shuts down, which takes at most 6 seconds more
// than DrainTimeout.
func Run(ctx context.Context, listen string, o Options) error {
	b, err := New(o)
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	return b.Serve(ctx, listener)
}

// Serve is Run on a listener.
func (b *Bridge) Serve(ctx context.Context, listener net.Listener) error {
	log := b.options.Logger
	var background sync.WaitGroup
	defer background.Wait()
	reaping, stopReaping := context.WithCancel(context.WithoutCancel(ctx))
	defer stopReaping()
	if b.options.ReapOrphans {
		background.Go(func() { reapOrphans(reaping) })
	}

	server := &graceful.Server{Server: http.Server{
		Handler:           b,
		ReadHeaderTimeout: idleTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}}
	failed := make(chan error, 1)
	background.Go(func() { failed <- server.Serve(listener) })
	log.Info("Bridge listening", "address", listener.Addr().String(), "path", b.options.Path, "program", b.options.path)

	var err error
	select {
	case <-ctx.Done():
		b.retired.Store(true)
		select {
		case <-time.After(b.options.ShutdownDelay):
		case err = <-failed:
		}
	case err = <-failed:
	}
	if err != nil {
		err = fmt.Errorf("serving: %w", err)
	}
	stopCtx, stop := context.WithTimeout(context.WithoutCancel(ctx), b.options.DrainTimeout+endTimeout+lastAnswers)
	defer stop()
	err = errors.Join(err, b.Shutdown(stopCtx))
	// The sessions are over, and with them every stream.
	if server.Shutdown(stopCtx) != nil {
		server.Close()
	}
	return err
}
