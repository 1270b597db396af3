// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestSentPayloadIsKept: a body that is closed while it is sent is given back afterwards, and no byte beyond the limit is sent.
func TestSentPayloadIsKept(t *testing.T) {
	p := newPayload(newBuffer())
	p.b = append(p.b, "12345678"...)
	body := p.open().(*payloadReader)
	p.release()
	limited := &io.LimitedReader{R: body, N: 6}
	n, err := body.sendTo(writerFunc(func(b []byte) (int, error) {
		if string(b) != "123456" {
			t.Errorf("sent %q", b)
		}
		if err := body.Close(); err != nil || p.users.Load() != 1 {
			t.Errorf("closed with %v; %d users while it is sent", err, p.users.Load())
		}
		return len(b), nil
	}), limited)
	if n != 6 || err != nil || limited.N != 0 || p.users.Load() != 0 {
		t.Errorf("%d bytes, %v, %d left, %d users in the end", n, err, limited.N, p.users.Load())
	}
	if _, err := body.sendTo(io.Discard, limited); err == nil {
		t.Error("a closed body is sent")
	}
}

// TestConn_WritesNothingToAServerThatHasLeft has the other side do something, and tells that before the client's side is read.
func TestConn_WritesNothingToAServerThatHasLeft(t *testing.T) {
	say := func(c *net.TCPConn) error { _, err := c.Write([]byte("x")); return err }
	for name, tc := range map[string]struct {
		other  func(*net.TCPConn) error
		writes bool
	}{
		"it waits":             {nil, true},
		"it has said more":     {say, true},
		"it said more, closed": {func(c *net.TCPConn) error { return errors.Join(say(c), c.CloseWrite()) }, true},
		"it closed its side":   {(*net.TCPConn).CloseWrite, false},
		"it closed":            {(*net.TCPConn).Close, false},
		"it reset":             {func(c *net.TCPConn) error { return errors.Join(c.SetLinger(0), c.Close()) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			dialed, err := (&dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer dialed.Close()
			accepted, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer accepted.Close()
			if tc.other != nil {
				if err := tc.other(accepted.(*net.TCPConn)); err != nil {
					t.Fatal(err)
				}
				arrived(t, dialed.(*conn))
			}
			if n, err := dialed.Write([]byte("request")); (n > 0) != tc.writes || (err == nil) != tc.writes {
				t.Errorf("%d bytes were written, %v", n, err)
			}
		})
	}
}

// arrived waits until there is something to read.
func arrived(t *testing.T, c *conn) {
	t.Helper()
	if err := c.raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 10_000)
		for errors.Is(err, unix.EINTR) {
			n, err = unix.Poll(fds, 10_000)
		}
		if n != 1 || err != nil {
			t.Errorf("nothing arrived: %v", err)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// watched is a connection that says when it was closed.
type watched struct {
	net.Conn
	closed chan struct{}
	once   sync.Once
}

func (w *watched) Close() error {
	err := w.Conn.Close()
	w.once.Do(func() { close(w.closed) })
	return err
}

// TestDo_SendsAgainWhatMetAClosedConnection has the server close a connection when the request has got it, and before it is written. No
// header says that it may be sent twice.
func TestDo_SendsAgainWhatMetAClosedConnection(t *testing.T) {
	var served atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		served.Add(1)
		_, _ = io.Copy(w, r.Body)
	}))
	defer server.Close()
	c := NewClient(Target{URL: server.URL}, Options{})
	defer c.Close()
	latest := make(chan *watched, 1)
	transport := c.pool.present()
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		inner, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		w := &watched{Conn: inner, closed: make(chan struct{})}
		latest <- w
		return w, nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	post := func(ctx context.Context) string {
		t.Helper()
		b := newBuffer()
		b.b = append(b.b, "whole"...)
		p := newPayload(b)
		defer p.release()
		response, err := c.do(ctx, http.MethodPost, c.url, http.Header{}, p)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	post(ctx)
	first := <-latest
	var met atomic.Int32
	got := post(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if info.Reused && met.Add(1) == 1 {
			server.CloseClientConnections()
			<-first.closed
		}
	}}))
	if got != "whole" || met.Load() != 1 || served.Load() != 2 {
		t.Errorf("%q came back; %d connections were closed, %d requests served", got, met.Load(), served.Load())
	}
}

// TestPool_ClosesConnectionsBeforeServersDo: in the default of Node.js and uvicorn a server waits 5 s, and this one, so that it is seen who
// closes, for ever.
func TestPool_ClosesConnectionsBeforeServersDo(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			close(closed)
		}
	}
	server.Start()
	defer server.Close()
	c := NewClient(Target{URL: server.URL}, Options{})
	defer c.Close()
	response, err := c.do(t.Context(), http.MethodGet, c.url, http.Header{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	drain(response)
	select {
	case <-closed:
	case <-time.After(20 * time.Second):
		t.Error("a connection that nobody uses stays open")
	}
	if idleTimeout >= 5*time.Second {
		t.Errorf("it stays open for %v", idleTimeout)
	}
}

// TestIdleFor tells addresses with TLS from those without.
func TestIdleFor(t *testing.T) {
	for address, want := range map[string]time.Duration{
		"http://docs.example/mcp": idleTimeout, "https://docs.example/mcp": idleTimeoutTLS, "HTTPS://docs.example": idleTimeoutTLS, "": idleTimeout,
	} {
		p := newPool(idleFor(address))
		p.renew(p.present())
		if got := p.present().IdleConnTimeout; got != want {
			t.Errorf("%q: %v", address, got)
		}
	}
}
