// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"context"
	"io"
	"net"
)

// dialer connects to backends.
type dialer struct{ net.Dialer }

// DialContext is that of net.Dialer.
func (d *dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := d.Dialer.DialContext(ctx, network, address)
	if tcp, ok := c.(*net.TCPConn); ok {
		return conn{tcp}, err
	}
	return c, err
}

// conn is a connection that sends a payload from where it is, at once. A *net.TCPConn would make a buffer of 32 KiB for each body and
// send it piece by piece, which is most of the garbage that a large call leaves.
type conn struct{ *net.TCPConn }

// ReadFrom implements io.ReaderFrom. net/http calls it with the body of a request, limited to its Content-Length.
func (c conn) ReadFrom(from io.Reader) (int64, error) {
	if limited, ok := from.(*io.LimitedReader); ok {
		if body, ok := limited.R.(*payloadReader); ok {
			return body.sendTo(c.TCPConn, limited)
		}
	}
	return c.TCPConn.ReadFrom(from)
}
