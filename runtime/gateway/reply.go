// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vmcp-dev/vmcp-operator/runtime/era"
)

// reply is the answer to one POST: one JSON message, or a stream of events as soon as there is something to say before it. The requests
// of a batch share one.
type reply struct {
	g       *Gateway
	w       http.ResponseWriter
	r       *http.Request
	version string
	began   time.Time // when the client was last given time to take what is written

	mu        sync.Mutex // guards the fields below
	client    *client    // whose session keeps the events, for a client that lost its connection; nil in the modern era
	request   *call      // which is answered, nil if there are several
	batch     bool
	missing   int      // answers that are not there yet
	answers   [][]byte // those of a batch that are
	streaming bool
	events    eventWriter
	log       *stream // where the session keeps the events
	direct    *reader // this connection, as one that reads log
	gone      error   // why nothing can be written any more
	scratch   []byte
	heart     *time.Timer // runs while backends are waited for
}

var (
	jsonType   = []string{"application/json"}
	streamType = []string{"text/event-stream"}
)

// canStream says whether the client takes a stream of events. One that says nothing of it takes everything.
func (o *reply) canStream() bool {
	values := o.r.Header["Accept"]
	if len(values) == 0 {
		return true
	}
	for _, value := range values {
		if strings.Contains(value, "text/event-stream") || strings.Contains(value, "*/*") || strings.Contains(value, "text/*") {
			return true
		}
	}
	return false
}

// keepIn makes a session keep the events of the stream, should there be one.
func (o *reply) keepIn(c *client, request *call) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.client = c
	if !o.batch {
		o.request = request
	}
}

// await is called before a backend is waited for. What takes long is answered on a stream, with a comment now and then: what is on the way
// between client and gateway gives up connections on which nothing moves.
func (o *reply) await() {
	liftDeadline(o.w, o.r)
	if !o.canStream() {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.heart == nil {
		o.heart = time.AfterFunc(o.g.limits.Heartbeat, o.beat)
	}
}

func (o *reply) beat() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.missing <= 0 {
		return // the answer was faster
	}
	if !o.streaming {
		o.startStream()
	}
	o.writeFrame(comment)
	o.heart.Reset(o.g.limits.Heartbeat)
}

// answered counts an answer, or a request that will have none. It is called with mu.
func (o *reply) answered() {
	if o.missing--; o.missing <= 0 && o.heart != nil {
		o.heart.Stop()
	}
}

// respond answers a request with a message in pieces.
func (o *reply) respond(status int, pieces ...[]byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.answered()
	switch {
	case o.streaming:
		_ = o.send(true, pieces...) // who is gone hears nothing
		if o.missing <= 0 {
			o.endStream()
		}
	case o.batch:
		o.answers = append(o.answers, bytes.Join(pieces, nil))
		if o.missing == 0 {
			o.writeBatch()
		}
	default:
		o.write(status, pieces...)
	}
}

// abandon is for a request that its client has cancelled: it has no response.
func (o *reply) abandon() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.answered()
	switch {
	case o.missing > 0:
	case o.streaming:
		o.endStream()
	case len(o.answers) > 0:
		o.writeBatch()
	default:
		o.accept()
	}
}

// accept answers what has no response (MCP 2025-11-25 and 2026-07-28, transports, sending messages).
func (o *reply) accept() {
	o.g.parting(o.w.Header())
	o.w.WriteHeader(http.StatusAccepted)
}

// write answers with JSON. Pieces of a message are not copied into one: what a backend has written goes out as it came.
func (o *reply) write(status int, pieces ...[]byte) {
	length := 0
	for _, p := range pieces {
		length += len(p)
	}
	h := o.w.Header()
	h["Content-Type"] = jsonType
	if length > smallAnswer {
		h["Content-Length"] = []string{strconv.Itoa(length)}
	}
	o.g.parting(h)
	if o.r.ProtoMajor > 1 || length > writeChunk || time.Since(o.began) > o.g.limits.WriteTimeout/2 {
		o.g.extendDeadline(o.w)
	}
	o.w.WriteHeader(status)
	for _, p := range pieces {
		for len(p) > writeChunk {
			if _, err := o.w.Write(p[:writeChunk]); err != nil {
				return
			}
			o.g.extendDeadline(o.w)
			p = p[writeChunk:]
		}
		if _, err := o.w.Write(p); err != nil {
			return
		}
	}
}

// smallAnswer is what net/http buffers, and so finds the length of by itself.
const smallAnswer = 1 << 10

// writeChunk is what a client has to take within Limits.WriteTimeout.
const writeChunk = 64 << 10

// event says something before the answer, on the stream that begins with it. The error says that it can never be heard.
func (o *reply) event(pieces ...[]byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.streaming {
		o.startStream()
	}
	return o.send(false, pieces...)
}

// comment says nothing, on a stream that was silent for long.
func (o *reply) comment() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writeFrame(comment)
	return o.gone
}

// begin makes the answer a stream, where the client takes one.
func (o *reply) begin() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.missing > 0 && !o.streaming && o.canStream() {
		o.startStream()
	}
}

func (o *reply) startStream() {
	o.streaming = true
	o.events = newEventWriter(o.g, o.w, o.r)
	o.gone = o.events.start()
	if o.client != nil {
		o.direct = newReader()
		var request []byte
		if o.request != nil {
			request = o.request.id()
		}
		if o.log = o.client.newStream(o.direct, request); o.log != nil && o.version >= era.V20251125 {
			o.writeFrame(o.log.primingAt(0))
		}
	}
	for _, early := range o.answers { // those of a batch that were waiting for the others
		_ = o.send(true, early) // who is gone hears nothing
	}
	o.answers = nil
}

func (o *reply) writeBatch() {
	o.write(http.StatusOK, []byte{'['}, bytes.Join(o.answers, []byte{','}), []byte{']'})
}

// send writes one message as an event. In the legacy era its loss is no reason to end the call.
func (o *reply) send(final bool, pieces ...[]byte) error {
	if o.log == nil {
		o.scratch = appendEvent(o.scratch[:0], "", 0, pieces...)
		o.writeFrame(o.scratch)
		if o.client != nil {
			return nil
		}
		return o.gone
	}
	if frame := o.log.push(o.direct, final, pieces...); frame != nil {
		o.writeFrame(frame)
	}
	return nil
}

func (o *reply) writeFrame(frame []byte) {
	if o.gone != nil {
		return
	}
	if o.gone = o.events.write(frame); o.gone != nil && o.log != nil {
		o.log.leave(o.direct)
	}
}

func (o *reply) endStream() {
	if o.log != nil {
		o.log.end()
		o.log.leave(o.direct)
	}
}
