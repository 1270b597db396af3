// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
)

// maxPooled is the largest buffer that goes back to the pool: one huge answer must not stay in memory for ever.
const maxPooled = 1 << 20

// onePacket is the largest body that is sent from memory of its own. Such a body net/http writes together with the headers, with one system
// call and, mostly, in one packet; any other, as it may block, after them.
const onePacket = 3 << 10

// buffer holds the bytes of one message.
type buffer struct {
	b []byte
	// free gives the buffer back; it is made once, because answers carry it.
	free func()
}

var buffers sync.Pool

func newBuffer() *buffer {
	if b, ok := buffers.Get().(*buffer); ok {
		b.b = b.b[:0]
		return b
	}
	b := &buffer{b: make([]byte, 0, 1<<10)}
	b.free = b.release
	return b
}

func (b *buffer) release() {
	if cap(b.b) <= maxPooled {
		buffers.Put(b)
	}
}

// readFrom reads a body to its end. size is its length, -1 if that is not known; more bytes than limit are errTooLarge.
func (b *buffer) readFrom(body io.Reader, size, limit int64) error {
	if size > limit {
		return errTooLarge
	}
	if want := int(min(size, maxPooled)); want > cap(b.b) { // a length is but a claim
		b.b = make([]byte, 0, want)
	}
	for {
		if len(b.b) == cap(b.b) {
			b.b = append(b.b, 0)[:len(b.b)]
		}
		n, err := body.Read(b.b[len(b.b):cap(b.b)])
		b.b = b.b[:len(b.b)+n]
		switch {
		case int64(len(b.b)) > limit:
			return errTooLarge
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// payload is the body of a request. The transport may go on reading it after it has answered, so the buffer goes back to the pool when
// the last reader has closed it and the maker has released it.
type payload struct {
	*buffer
	users atomic.Int32
}

func newPayload(b *buffer) *payload {
	p := &payload{buffer: b}
	p.users.Store(1)
	return p
}

func (p *payload) release() {
	if p.users.Add(-1) == 0 {
		p.buffer.release()
	}
}

// attach makes p the body of r.
func (p *payload) attach(r *http.Request) {
	r.ContentLength = int64(len(p.b))
	if len(p.b) > onePacket {
		r.Body = p.open()
		r.GetBody = func() (io.ReadCloser, error) { return p.open(), nil }
		return
	}
	small := bytes.Clone(p.b)
	r.Body = io.NopCloser(bytes.NewReader(small))
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(small)), nil }
}

func (p *payload) open() io.ReadCloser {
	p.users.Add(1)
	return &payloadReader{payload: p}
}

type payloadReader struct {
	mu      sync.Mutex // the transport may close while it reads
	payload *payload   // nil once closed
	at      int
}

// Read implements io.Reader.
func (r *payloadReader) Read(to []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.payload == nil {
		return 0, http.ErrBodyReadAfterClose
	}
	if r.at == len(r.payload.b) {
		return 0, io.EOF
	}
	n := copy(to, r.payload.b[r.at:])
	r.at += n
	return n, nil
}

// sendTo writes what is left, as far as the limit allows. The lock is not held meanwhile: closing does not wait for a slow backend, and the
// bytes stay where they are until they are written.
func (r *payloadReader) sendTo(w io.Writer, limit *io.LimitedReader) (int64, error) {
	r.mu.Lock()
	p, from := r.payload, r.at
	if p == nil {
		r.mu.Unlock()
		return 0, http.ErrBodyReadAfterClose
	}
	p.users.Add(1)
	defer p.release()
	to := from + int(min(int64(len(p.b)-from), limit.N))
	r.at = to
	r.mu.Unlock()
	n, err := w.Write(p.b[from:to])
	limit.N -= int64(n)
	return int64(n), err
}

// Close implements io.Closer. It may be called again.
func (r *payloadReader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.payload != nil {
		r.payload.release()
		r.payload = nil
	}
	return nil
}
