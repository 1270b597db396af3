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
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, served := &graceful.Server{Server: http.Server{Handler: handler, ReadHeaderTimeout: patience}}, make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Close()
		if err := <-served; err != nil {
			t.Errorf("serving: %v", err)
		}
	})
	return server, l.Addr().String()
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
