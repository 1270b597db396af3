// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// silencer carries connections to an address until it is told that those there are lead nowhere any more: nothing is closed, nothing passes.
type silencer struct {
	net.Listener
	to string

	mu     sync.Mutex
	silent chan struct{} // closed for the connections that are to say nothing
	ended  sync.WaitGroup
}

func newSilencer(t *testing.T, to string) *silencer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &silencer{Listener: l, to: to, silent: make(chan struct{})}
	s.ended.Go(s.serve)
	t.Cleanup(s.ended.Wait)
	t.Cleanup(func() { _ = l.Close() })
	return s
}

func (s *silencer) serve() {
	for {
		near, err := s.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		silent := s.silent
		s.mu.Unlock()
		far, err := net.Dial("tcp", s.to)
		if err != nil {
			_ = near.Close()
			continue
		}
		// Each way ends when the client closes its connection: it is read to the end, silent or not.
		s.ended.Go(func() { defer far.Close(); pass(far, near, silent) })
		s.ended.Go(func() { defer near.Close(); pass(near, far, silent) })
	}
}

func pass(to io.Writer, from io.Reader, silent <-chan struct{}) {
	b := make([]byte, 16<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		select {
		case <-silent:
		default:
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
	}
}

func (s *silencer) silence() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.silent)
	s.silent = make(chan struct{})
}

// TestTransport_GivesUpASilentConnection has the one connection of HTTP/2 lead nowhere, as behind a node or a load balancer that went without
// a word. A request that is given up leaves it open.
func TestTransport_GivesUpASilentConnection(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	between := newSilencer(t, server.Listener.Addr().String())
	transport := newTransport(time.Minute)
	t.Cleanup(transport.CloseIdleConnections)
	transport.TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	transport.TLSClientConfig.NextProtos = nil
	if transport.HTTP2 == nil || transport.HTTP2.SendPingTimeout <= 0 || transport.HTTP2.PingTimeout <= 0 {
		t.Fatal("connections are not pinged")
	}
	transport.HTTP2.SendPingTimeout, transport.HTTP2.PingTimeout = 50*time.Millisecond, 100*time.Millisecond // less than anybody would wait
	ask := func(patience time.Duration) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+between.Addr().String(), http.NoBody)
		if err != nil {
			return "", err
		}
		response, err := transport.RoundTrip(r)
		if err != nil {
			return "", err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		return string(body), err
	}
	if got, err := ask(10 * time.Second); !strings.HasPrefix(got, "HTTP/2") || err != nil {
		t.Fatalf("%q, %v: the connection is not one of HTTP/2", got, err)
	}
	between.silence()
	if got, err := ask(20 * time.Millisecond); err == nil {
		t.Fatalf("%q over a connection that is silent", got)
	}
	var err error
	for range 100 { // of 100 ms each at most
		if _, err = ask(100 * time.Millisecond); err == nil {
			return
		}
	}
	t.Errorf("the connection that is silent is in use still: %v", err)
}
