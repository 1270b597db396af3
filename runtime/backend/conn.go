// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"context"
	"fmt"
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// dialer connects to backends.
type dialer struct{ net.Dialer }

// DialContext is that of net.Dialer.
func (d *dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := d.Dialer.DialContext(ctx, network, address)
	if tcp, ok := c.(*net.TCPConn); ok && err == nil {
		return newConn(tcp)
	}
	return c, err
}

// conn is a connection that sends a payload from where it is, at once, and nothing to a server that has closed its side. A *net.TCPConn would
// make a buffer of 32 KiB for each body and send it piece by piece, which is most of the garbage that a large call leaves.
type conn struct {
	*net.TCPConn
	raw syscall.RawConn
	// look sets left. It is made once, because each request needs it. Both are used by one goroutine at a time, as Write is.
	look func(fd uintptr)
	left bool
}

func newConn(tcp *net.TCPConn) (*conn, error) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		_ = tcp.Close() // nothing was sent
		return nil, fmt.Errorf("taking a connection: %w", err)
	}
	c := &conn{TCPConn: tcp, raw: raw}
	c.look = func(fd uintptr) { c.left = hasLeft(int(fd)) }
	return c, nil
}

// Write implements io.Writer. Servers close a connection that nothing was sent on for some seconds; a request that is written at that moment
// is lost, since nobody knows whether it was read. One that was not written at all net/http sends over another connection.
func (c *conn) Write(b []byte) (int, error) {
	if c.raw.Control(c.look) == nil && c.left {
		return 0, io.ErrUnexpectedEOF
	}
	return c.TCPConn.Write(b)
}

// hasLeft says whether the other side has closed the connection and all that it sent has been read. What broke otherwise is left for Write to
// find.
func hasLeft(fd int) bool {
	fds := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}} //nolint:gosec // descriptors are small
	if n, err := unix.Poll(fds[:], 0); n != 1 || err != nil || fds[0].Revents != unix.POLLIN {
		return false
	}
	var next [1]byte
	n, _, err := unix.Recvfrom(fd, next[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return n == 0 && err == nil
}

// ReadFrom implements io.ReaderFrom. net/http calls it with the body of a request, limited to its Content-Length.
func (c *conn) ReadFrom(from io.Reader) (int64, error) {
	if limited, ok := from.(*io.LimitedReader); ok {
		if body, ok := limited.R.(*payloadReader); ok {
			return body.sendTo(c.TCPConn, limited)
		}
	}
	return c.TCPConn.ReadFrom(from)
}
