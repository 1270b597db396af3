// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package graceful

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// state is what a connection is about.
type state int

const (
	// answered: no request is known of, but what was read along with the last one may hold another.
	answered state = iota
	// waiting: for the first byte of a request; all that arrived has been read and answered.
	waiting
	// busy: from the first byte of a request to the end of the answer.
	busy
	// dismissed: nothing is read any more.
	dismissed
)

// conn is a connection that knows whether it has a request. It is dismissed under the lock under which it reads, when a Read has found nothing
// and nothing has arrived since. The Read of net.TCPConn could have bytes already that nobody knows of yet.
type conn struct {
	*net.TCPConn
	raw      syscall.RawConn
	accepted time.Time

	reading sync.Mutex // held by Read, guards the fields up to mu
	receive func(fd uintptr) bool
	p       []byte
	n       int
	err     error

	mu    sync.Mutex // guards state; held for moments only
	state state
}

func newConn(tcp *net.TCPConn) (*conn, error) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &conn{TCPConn: tcp, raw: raw, accepted: time.Now()}
	c.receive = c.tryRead // made once, not for each Read
	return c, nil
}

// Read is that of net.TCPConn.
func (c *conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c.reading.Lock()
	defer c.reading.Unlock()
	c.p = p
	err := c.raw.Read(c.receive)
	c.p = nil
	if err != nil { // the deadline has passed, or the connection is closed
		if op, ok := errors.AsType[*net.OpError](err); ok {
			op.Op = "read" // not "raw-read": net/http looks at it
		}
		return 0, err
	}
	switch {
	case c.err != nil:
		return 0, &net.OpError{Op: "read", Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: c.err}
	case c.n == 0:
		return 0, io.EOF
	}
	return c.n, nil
}

// tryRead says whether there was anything to read, be it an error. If not, it is called again when there is.
func (c *conn) tryRead(fd uintptr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == dismissed {
		c.n, c.err = 0, net.ErrClosed
		return true
	}
	n, err := syscall.Read(int(fd), c.p)
	for err == syscall.EINTR {
		n, err = syscall.Read(int(fd), c.p)
	}
	switch {
	case err == syscall.EAGAIN:
		if c.state == answered {
			c.state = waiting
		}
		return false
	case err != nil:
		c.n, c.err = 0, os.NewSyscallError("read", err)
	default:
		c.n, c.err = n, nil
		if n > 0 {
			c.state = busy
		}
	}
	return true
}

func (c *conn) enter(s state) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = s
}

// dismiss has nothing read any more if there is no request, and says whether that is so.
func (c *conn) dismiss() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == waiting && !c.hasUnread() {
		c.state = dismissed
	}
	return c.state == dismissed // Close waits for Read, which needs the lock
}

// hasUnread says whether bytes have arrived that nobody has read.
func (c *conn) hasUnread() bool {
	unread := 0
	err := c.raw.Control(func(fd uintptr) {
		unread, _, _ = syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT) // fails if there are none
	})
	return err == nil && unread > 0
}
