// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package graceful ends an HTTP server without a request getting lost that is on its way. The Shutdown of net/http closes every connection that
// is idle by its books, also one whose next request has arrived and is about to be read. On a busy machine that is one of some thousands;
// its client sees a reset connection, after which it must not send the call of a tool once more.
package graceful

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// firstRequest is how long a connection is kept for its first request.
	firstRequest = 100 * time.Millisecond
	// pollInterval is how often connections are looked at that are waited for.
	pollInterval = 5 * time.Millisecond
)

// Server is an http.Server whose Shutdown loses no request. It knows its TCP connections; others end as those of an http.Server do.
type Server struct {
	http.Server

	mu        sync.Mutex // guards the fields below
	listeners []net.Listener
	open      map[*conn]struct{}
}

// Serve is that of http.Server, but returns nil after Shutdown and Close. It sets ConnState, and has a connection wait as long for its first
// request as for a later one: clients open some that they need only afterwards, and http.Server closes those after ReadHeaderTimeout. The
// request that comes at that moment is lost, and clients do not repeat one that must not be carried out twice.
func (s *Server) Serve(l net.Listener) error {
	s.ConnState = s.changed
	s.ReadHeaderTimeout = max(s.ReadHeaderTimeout, s.IdleTimeout)
	s.mu.Lock()
	s.listeners = append(s.listeners, l)
	s.mu.Unlock()
	err := s.Server.Serve(listener{l, s})
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

type listener struct {
	net.Listener
	server *Server
}

func (l listener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	tcp, ok := accepted.(*net.TCPConn)
	if !ok {
		return accepted, err
	}
	c, err := newConn(tcp)
	if err != nil {
		return accepted, nil // the server will see what is wrong with it
	}
	l.server.mu.Lock()
	defer l.server.mu.Unlock()
	if l.server.open == nil {
		l.server.open = map[*conn]struct{}{}
	}
	l.server.open[c] = struct{}{}
	return c, nil
}

func (s *Server) changed(nc net.Conn, state http.ConnState) {
	c, ok := nc.(*conn)
	if !ok {
		return
	}
	switch state {
	case http.StateActive: // its request may have been read along with the one before
		c.enter(busy)
	case http.StateIdle:
		c.enter(answered)
	case http.StateClosed, http.StateHijacked:
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open, c)
	case http.StateNew:
	}
}

// AwaitClients serves on until no connection is open, or ctx ends. An answer that closes its connection (RFC 9112, section 9.6) sends a client
// away; a connection that Shutdown closes may be the one that a client on a busy machine is about to use.
func (s *Server) AwaitClients(ctx context.Context) {
	_ = untilNone(ctx, s.connections)
}

func (s *Server) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// Shutdown accepts no further connections, closes those that have no request, and waits until the others have answered theirs and are closed as
// well, or until ctx ends: then it returns the error of ctx, and Close ends the rest.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	for _, l := range s.listeners {
		_ = l.Close() // it may be closed already
	}
	s.mu.Unlock()
	if err := untilNone(ctx, s.closeIdle); err != nil {
		return fmt.Errorf("waiting for requests to end: %w", err)
	}
	return s.Server.Shutdown(ctx)
}

// untilNone waits until there are no connections, or returns the error of ctx.
func untilNone(ctx context.Context, count func() int) error {
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for count() > 0 {
		select {
		case <-poll.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// closeIdle returns how many connections were open before.
func (s *Server) closeIdle() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		if time.Since(c.accepted) >= firstRequest && c.dismiss() {
			_ = c.Close() // the server notices, whatever the outcome
		}
	}
	return len(s.open)
}
