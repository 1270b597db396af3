// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package load is an MCP client that costs next to nothing: requests are templates whose ids are written in place, sent over one
// keep-alive connection each, and answers are looked at as bytes. It is for measuring servers on a machine that it shares with them.
package load

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// answerTimeout bounds the time to send a request and read its whole answer.
const answerTimeout = 60 * time.Second

// bufferSize fits what most answers take.
const bufferSize = 16 << 10

// conn is a connection that carries one request after the other (HTTP/1.1). It never repeats one.
type conn struct {
	net    net.Conn
	reader *bufio.Reader
	body   []byte // of the last answer
}

// answer is an answer to a request; its body is that of the connection, until the next request.
type answer struct {
	status  int
	session string // Mcp-Session-Id
	body    []byte
}

func dial(address string) (*conn, error) {
	c, err := net.DialTimeout("tcp", address, answerTimeout) //nolint:noctx // the timeout is all there is to end it
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	return &conn{net: c, reader: bufio.NewReaderSize(c, bufferSize)}, nil
}

// do sends a request as it is and reads the answer to the end.
func (c *conn) do(request []byte) (answer, error) {
	a, length, err := c.begin(request)
	if err != nil {
		return a, err
	}
	if length >= 0 {
		err = c.fixed(length)
	} else {
		err = c.chunked()
	}
	a.body = c.body
	if err != nil {
		return a, fmt.Errorf("reading the body of the answer: %w", err)
	}
	return a, nil
}

// begin sends a request and reads the head of the answer. The length is that of the body, or -1 if the body comes in chunks.
func (c *conn) begin(request []byte) (a answer, length int, err error) {
	if err := c.net.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return a, 0, fmt.Errorf("setting the deadline: %w", err)
	}
	if _, err := c.net.Write(request); err != nil {
		return a, 0, fmt.Errorf("sending the request: %w", err)
	}
	a, length, err = c.head()
	if err != nil {
		return a, 0, fmt.Errorf("reading the head of the answer: %w", err)
	}
	return a, length, nil
}

var errMalformed = errors.New("malformed HTTP answer")

// head reads the status line and the header.
func (c *conn) head() (a answer, length int, err error) {
	line, err := c.line()
	if err != nil {
		return a, 0, err
	}
	_, rest, ok := bytes.Cut(line, []byte(" "))
	if !ok || len(rest) < 3 {
		return a, 0, fmt.Errorf("%w: %q", errMalformed, line)
	}
	if a.status, err = strconv.Atoi(string(rest[:3])); err != nil {
		return a, 0, fmt.Errorf("%w: %q", errMalformed, line)
	}
	for {
		if line, err = c.line(); err != nil {
			return a, 0, err
		}
		if len(line) == 0 {
			return a, length, nil
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return a, 0, fmt.Errorf("%w: %q", errMalformed, line)
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			length = -1
		case bytes.EqualFold(name, []byte("Mcp-Session-Id")):
			a.session = string(value)
		}
	}
}

// line is the next line without its end.
func (c *conn) line() ([]byte, error) {
	line, err := c.reader.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	return bytes.TrimRight(line, "\r\n"), nil
}

func (c *conn) fixed(length int) error {
	c.body = grow(c.body[:0], length)
	_, err := io.ReadFull(c.reader, c.body)
	return err
}

func (c *conn) chunked() error {
	c.body = c.body[:0]
	for {
		line, err := c.line()
		if err != nil {
			return err
		}
		size, err := strconv.ParseUint(string(line), 16, 31)
		if err != nil {
			return fmt.Errorf("%w: a chunk of size %q", errMalformed, line)
		}
		before := len(c.body)
		c.body = grow(c.body, int(size))
		if _, err := io.ReadFull(c.reader, c.body[before:]); err != nil {
			return err
		}
		if _, err := c.line(); err != nil { // what ends the chunk; the last one has no trailers
			return err
		}
		if size == 0 {
			return nil
		}
	}
}

// grow is b with n more bytes, of any value.
func grow(b []byte, n int) []byte {
	if len(b)+n > cap(b) {
		next := make([]byte, len(b), 2*len(b)+n)
		copy(next, b)
		b = next
	}
	return b[:len(b)+n]
}

func (c *conn) close() { c.net.Close() }
