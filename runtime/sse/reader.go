// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package sse reads and writes server-sent events (HTML Living Standard, section 9.2), in which MCP puts its messages on streams.
package sse

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"time"
)

// ErrTooLarge is the error of an event, or a line, that is longer than the reader's bound.
var ErrTooLarge = errors.New("an event exceeds the size limit")

const (
	initialBuffer = 1 << 10 // most streams are silent most of the time
	// keptBuffer is the largest buffer that a reader keeps for the next stream.
	keptBuffer = 256 << 10
	// maxID bounds what is remembered of an event's id.
	maxID = 1 << 10
)

// Message is the type of an event that names none.
const Message = "message"

var byteOrderMark = []byte("\xef\xbb\xbf")

// Reader reads the events of one stream. What belongs to the stream rather than to an event, the last id and the time to wait before
// a reconnect, is kept up to date as the stream is read, also by events without data, which Next leaves out.
type Reader struct {
	source io.Reader
	limit  int

	buf      []byte // buf[pos:end] was read and not yet looked at
	pos, end int
	skipLF   bool // the last line ended with CR; a LF that follows belongs to it
	begun    bool
	err      error

	event   Event
	hasData bool
	pending []byte // the id of the event being read
	lastID  []byte
	retry   time.Duration
}

// Event is one event that has data.
type Event struct {
	// Type is the event's type; empty stands for Message.
	Type string
	// Data is the event's data. It is valid until the reader is used again.
	Data []byte
}

// NewReader makes a reader of a stream whose events may have limit bytes each.
func NewReader(source io.Reader, limit int) *Reader {
	r := &Reader{}
	r.Reset(source, limit)
	return r
}

// Reset makes r the reader of another stream. It keeps its buffers, unless they have become large.
func (r *Reader) Reset(source io.Reader, limit int) {
	buf, data, pending, lastID := r.buf, r.event.Data[:0], r.pending[:0], r.lastID[:0]
	if cap(buf) > keptBuffer {
		buf = nil
	}
	if cap(data) > keptBuffer {
		data = nil
	}
	*r = Reader{source: source, limit: limit, buf: buf, event: Event{Data: data}, pending: pending, lastID: lastID}
}

// LastID is the id to send as Last-Event-ID when the stream is resumed; empty if there is none.
func (r *Reader) LastID() string { return string(r.lastID) }

// Retry is the time that the server wants clients to wait before they reconnect; 0 if it said nothing.
func (r *Reader) Retry() time.Duration { return r.retry }

// Next reads up to the end of the next event that has data. Its error is io.EOF at the end of the stream, where an event that was not
// finished is dropped, ErrTooLarge, or that of the source.
func (r *Reader) Next() (Event, error) {
	r.event = Event{Data: r.event.Data[:0]}
	r.hasData = false
	for {
		line, err := r.line()
		if err != nil {
			return Event{}, err
		}
		if len(line) > 0 {
			if err := r.field(line); err != nil {
				return Event{}, err
			}
			continue
		}
		r.lastID = append(r.lastID[:0], r.pending...)
		if r.hasData && len(r.event.Data) > 0 {
			return r.event, nil
		}
		r.event.Type, r.hasData = "", false
	}
}

// field takes one line of an event (section 9.2.6).
func (r *Reader) field(line []byte) error {
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(name) {
	case "data":
		if len(r.event.Data)+len(value)+1 > r.limit {
			r.err = ErrTooLarge
			return r.err
		}
		if r.hasData {
			r.event.Data = append(r.event.Data, '\n')
		}
		r.event.Data = append(r.event.Data, value...)
		r.hasData = true
	case "event":
		if r.event.Type = Message; string(value) != Message { // which is what nearly all are, and costs nothing then
			r.event.Type = string(value)
		}
	case "id":
		if bytes.IndexByte(value, 0) < 0 && len(value) <= maxID {
			r.pending = append(r.pending[:0], value...)
		}
	case "retry":
		if ms, err := strconv.ParseUint(string(value), 10, 31); err == nil {
			r.retry = time.Duration(ms) * time.Millisecond
		}
	}
	return nil
}

// line returns the next line without its end, which may be LF, CR LF or CR. It is valid until the next call.
func (r *Reader) line() ([]byte, error) {
	looked := 0
	for {
		if r.skipLF && r.pos < r.end {
			if r.buf[r.pos] == '\n' {
				r.pos++
			}
			r.skipLF = false
		}
		if i := lineEnd(r.buf[r.pos+looked : r.end]); i >= 0 {
			at := r.pos + looked + i
			line := r.buf[r.pos:at]
			if len(line) > r.limit {
				r.err = ErrTooLarge
				return nil, r.err
			}
			r.skipLF = r.buf[at] == '\r'
			r.pos = at + 1
			return r.first(line), nil
		}
		looked = r.end - r.pos
		if looked > r.limit {
			r.err = ErrTooLarge
		}
		if r.err != nil {
			return nil, r.err
		}
		r.fill()
	}
}

// first takes the byte order mark off the first line.
func (r *Reader) first(line []byte) []byte {
	if r.begun {
		return line
	}
	r.begun = true
	return bytes.TrimPrefix(line, byteOrderMark)
}

func lineEnd(b []byte) int {
	lf := bytes.IndexByte(b, '\n')
	if lf >= 0 {
		b = b[:lf]
	}
	if cr := bytes.IndexByte(b, '\r'); cr >= 0 {
		return cr
	}
	return lf
}

// fill reads once more from the source, behind what is there.
func (r *Reader) fill() {
	if r.pos > 0 {
		copy(r.buf, r.buf[r.pos:r.end])
		r.pos, r.end = 0, r.end-r.pos
	}
	if r.end == len(r.buf) {
		r.buf = append(r.buf, make([]byte, max(initialBuffer, len(r.buf)))...)
	}
	for range 100 {
		n, err := r.source.Read(r.buf[r.end:])
		r.end += n
		if err != nil {
			r.err = err
			return
		}
		if n > 0 {
			return
		}
	}
	r.err = io.ErrNoProgress
}
