// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"io"
	"testing"
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
