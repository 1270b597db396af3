// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/tidwall/gjson"
)

// eventBody passes server-sent events on one by one, bounds the size of each, and ends a call's stream after its response: the
// reader above has room for one response only, and does not look whose it is.
type eventBody struct {
	io.Closer
	source *bufio.Reader
	limit  int64
	call   *exchange // nil for a stream that belongs to no call
	event  []byte    // what has been read and not passed on
	err    error     // what comes after event
}

func newEventBody(body io.ReadCloser, limit int64, call *exchange) *eventBody {
	return &eventBody{Closer: body, source: bufio.NewReader(body), limit: limit, call: call}
}

// Read implements io.Reader. It never returns parts of two events.
func (b *eventBody) Read(p []byte) (int, error) {
	for len(b.event) == 0 {
		if b.err != nil {
			return 0, b.err
		}
		b.event, b.err = b.next()
	}
	n := copy(p, b.event)
	b.event = b.event[n:]
	return n, nil
}

// next reads one event, up to and with the blank line. Responses to other requests are left out.
func (b *eventBody) next() ([]byte, error) {
	event, err := readEvent(b.source, b.limit)
	if err != nil && b.call != nil {
		b.call.breakOff(err)
	}
	if errors.Is(err, errTooLarge) || b.call == nil {
		return event, err
	}
	data := eventData(event)
	if !isResponse(data) {
		return event, err
	}
	if gjson.GetBytes(data, "id").Int() != b.call.id {
		return nil, err
	}
	return event, io.EOF
}

func readEvent(r *bufio.Reader, limit int64) ([]byte, error) {
	var event []byte
	lineStart := 0
	for {
		part, err := r.ReadSlice('\n')
		if int64(len(event)+len(part)) > limit {
			return nil, errTooLarge
		}
		event = append(event, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil:
			return event, err
		}
		if len(bytes.TrimRight(event[lineStart:], "\r\n")) == 0 {
			return event, nil
		}
		lineStart = len(event)
	}
}

// eventData joins the data lines of an event (HTML, server-sent events, section 9.2.6).
func eventData(event []byte) []byte {
	var data []byte
	for line := range bytes.Lines(event) {
		value, ok := bytes.CutPrefix(bytes.TrimRight(line, "\r\n"), []byte("data:"))
		if !ok {
			continue
		}
		if data != nil {
			data = append(data, '\n')
		}
		data = append(data, bytes.TrimPrefix(value, []byte(" "))...)
	}
	return data
}
