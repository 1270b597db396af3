// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package graceful_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/runtime/graceful"
)

const (
	patience = 20 * time.Second
	request  = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
)

// serve serves a handler until the test ends.
func serve(t *testing.T, handler http.HandlerFunc) (*graceful.Server, string) {
	t.Helper()
	server := &graceful.Server{Server: http.Server{Handler: handler, ReadHeaderTimeout: patience}}
	return server, serveWith(t, server)
}

// serveWith serves with a server until the test ends.
func serveWith(t *testing.T, server *graceful.Server) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Close()
		if err := <-served; err != nil {
			t.Errorf("serving: %v", err)
		}
	})
	return l.Addr().String()
}

type client struct {
	net.Conn
	received *bufio.Reader
}

func dial(t *testing.T, address string) *client {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &client{c, bufio.NewReader(c)}
}

func (c *client) send(t *testing.T) {
	t.Helper()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
}

// receive reads an answer.
func (c *client) receive() error {
	response, err := http.ReadResponse(c.received, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return err
}

func TestShutdown(t *testing.T) {
	var slow atomic.Bool
	begun, finish := make(chan struct{}), make(chan struct{})
	server, address := serve(t, func(http.ResponseWriter, *http.Request) {
		if slow.Load() {
			close(begun)
			<-finish
		}
	})
	unused, idle, busy := dial(t, address), dial(t, address), dial(t, address)
	for _, c := range []*client{idle, busy} {
		c.send(t)
		if err := c.receive(); err != nil {
			t.Fatal(err)
		}
	}
	slow.Store(true)
	busy.send(t)
	<-begun
	over := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		over <- server.Shutdown(ctx)
	}()
	for name, c := range map[string]*client{"that nobody used": unused, "that is idle": idle} {
		if _, err := c.received.ReadByte(); !errors.Is(err, io.EOF) {
			t.Errorf("a connection %s ended with %v", name, err)
		}
	}
	select {
	case err := <-over:
		t.Errorf("a request that was being served was not waited for: %v", err)
	default:
	}
	if c, err := net.Dial("tcp", address); err == nil {
		c.Close()
		t.Error("another connection was accepted")
	}
	close(finish)
	if err := busy.receive(); err != nil {
		t.Errorf("the request that was being served: %v", err)
	}
	if err := <-over; err != nil {
		t.Error(err)
	}
}

func TestShutdownGivesUp(t *testing.T) {
	begun, finish := make(chan struct{}), make(chan struct{})
	server, address := serve(t, func(http.ResponseWriter, *http.Request) {
		close(begun)
		<-finish
	})
	defer close(finish)
	c := dial(t, address)
	c.send(t)
	<-begun
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := server.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestShutdownLosesNoRequest: what was sent before the end is answered, though nobody has begun to read it.
func TestShutdownLosesNoRequest(t *testing.T) {
	const clients = 64
	server, address := serve(t, func(http.ResponseWriter, *http.Request) {})
	var all []*client
	for range clients {
		c := dial(t, address)
		c.send(t)
		if err := c.receive(); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	for _, c := range all {
		c.send(t)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	for i, c := range all {
		if err := c.receive(); err != nil {
			t.Errorf("request %d: %v", i, err)
		}
	}
}

func TestAwaitClients(t *testing.T) {
	server, address := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") })
	first, second := dial(t, address), dial(t, address)
	first.send(t)
	if err := first.receive(); err != nil {
		t.Fatal(err)
	}
	brief, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	server.AwaitClients(brief)
	if brief.Err() == nil {
		t.Error("the second client was not waited for")
	}
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	second.send(t) // it was not cut off
	if err := second.receive(); err != nil {
		t.Error(err)
	}
	server.AwaitClients(ctx)
	if ctx.Err() != nil {
		t.Error("clients that had left were waited for")
	}
}

// TestShutdownWaitsForPipelinedRequests: the second request is read along with the first, so that nothing of it is left to arrive.
func TestShutdownWaitsForPipelinedRequests(t *testing.T) {
	var served atomic.Int32
	begun, finish := make(chan struct{}), make(chan struct{})
	server, address := serve(t, func(http.ResponseWriter, *http.Request) {
		if served.Add(1) == 2 {
			close(begun)
			<-finish
		}
	})
	c := dial(t, address)
	if _, err := io.WriteString(c, request+request); err != nil {
		t.Fatal(err)
	}
	<-begun
	brief, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond) // a connection counts as new for a while
	defer cancel()
	if err := server.Shutdown(brief); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a request that was being served was not waited for: %v", err)
	}
	close(finish)
	for _, which := range []string{"first", "second"} {
		if err := c.receive(); err != nil {
			t.Errorf("the %s request: %v", which, err)
		}
	}
}

// TestShutdownAnswersWhatItServes has requests arrive just when their connections may be closed. Some come too late, which nobody can help; but
// one that was read is answered.
func TestShutdownAnswersWhatItServes(t *testing.T) {
	const rounds, clients = 40, 32
	type round struct {
		server  *graceful.Server
		clients []*client
		served  atomic.Int32
	}
	var all []*round
	for range rounds {
		r := &round{}
		server, address := serve(t, func(http.ResponseWriter, *http.Request) { r.served.Add(1) })
		r.server = server
		for range clients {
			c := dial(t, address)
			c.send(t)
			if err := c.receive(); err != nil {
				t.Fatal(err)
			}
			r.clients = append(r.clients, c)
		}
		r.served.Store(0)
		all = append(all, r)
	}
	<-time.After(150 * time.Millisecond) // no connection counts as new any more
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, r := range all {
		var answered atomic.Int32
		var asking sync.WaitGroup
		for _, c := range r.clients {
			asking.Go(func() {
				if _, err := io.WriteString(c, request); err == nil && c.receive() == nil {
					answered.Add(1)
				}
			})
		}
		if err := r.server.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		asking.Wait()
		if s, a := r.served.Load(), answered.Load(); s != a {
			t.Fatalf("%d requests were served, %d answered", s, a)
		}
	}
}

// TestConnections: what net/http relies on of a connection.
func TestConnections(t *testing.T) {
	t.Run("a request comes in pieces", func(t *testing.T) {
		const size = 1 << 20
		received := make(chan int64, 1)
		_, address := serve(t, func(_ http.ResponseWriter, r *http.Request) {
			n, _ := io.Copy(io.Discard, r.Body)
			received <- n
		})
		c := dial(t, address)
		for _, piece := range []string{"PO", "ST / HTTP/1.1\r\nHost: local", "host\r\nContent-Length: 1048576\r\n", "\r\n", strings.Repeat("x", size-1), "x"} {
			if _, err := io.WriteString(c, piece); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.receive(); err != nil {
			t.Error(err)
		}
		if n := <-received; n != size {
			t.Errorf("%d bytes arrived, want %d", n, size)
		}
	})
	t.Run("a client leaves during its request", func(t *testing.T) {
		begun, ended := make(chan struct{}), make(chan struct{})
		_, address := serve(t, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			close(begun)
			<-r.Context().Done()
			close(ended)
		})
		c := dial(t, address)
		c.send(t)
		<-begun
		c.Close()
		select {
		case <-ended:
		case <-time.After(patience):
			t.Error("the request was not told")
		}
	})
	t.Run("a client is too slow", func(t *testing.T) {
		c := dial(t, serveWith(t, &graceful.Server{Server: http.Server{ReadHeaderTimeout: 50 * time.Millisecond}}))
		if _, err := io.WriteString(c, "POST / HTTP/1.1\r\n"); err != nil {
			t.Fatal(err)
		}
		if answer, err := io.ReadAll(c); err != nil || len(answer) > 0 {
			t.Errorf("it got %q, %v; want an end without an answer", answer, err)
		}
	})
}

// A connection that a client has opened to spare stays until it is used.
func TestServeKeepsSpareConnections(t *testing.T) {
	t.Parallel()
	address := serveWith(t, &graceful.Server{Server: http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }),
		ReadHeaderTimeout: 10 * time.Millisecond, IdleTimeout: time.Minute,
	}})
	c := dial(t, address)
	if err := c.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("a connection without a request ended with %v", err)
	}
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	c.send(t)
	if err := c.receive(); err != nil {
		t.Errorf("its first request was lost: %v", err)
	}
}
