// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"net/http"
	"strconv"
	"time"
)

// appendEvent appends a message in pieces as one event (HTML, server-sent events). An empty stream means that it has no id. A line break
// in the text, which JSON has between tokens only, becomes a space: it would end the data.
func appendEvent(dst []byte, stream string, seq uint64, pieces ...[]byte) []byte {
	dst = append(dst, "event: message\n"...)
	if stream != "" {
		dst = append(appendEventID(append(dst, "id: "...), stream, seq), '\n')
	}
	dst = append(dst, "data: "...)
	start := len(dst)
	for _, p := range pieces {
		dst = append(dst, p...)
	}
	if data := dst[start:]; bytes.IndexByte(data, '\n') >= 0 || bytes.IndexByte(data, '\r') >= 0 {
		for i, b := range data {
			if b == '\n' || b == '\r' {
				data[i] = ' '
			}
		}
	}
	return append(dst, "\n\n"...)
}

// appendEventID appends the id of an event, which names its stream.
func appendEventID(dst []byte, stream string, seq uint64) []byte {
	return strconv.AppendUint(append(append(dst, stream...), '-'), seq, 10)
}

// eventWriter writes a stream of events. Each event has its own deadline.
type eventWriter struct {
	g  *Gateway
	w  http.ResponseWriter
	r  *http.Request
	rc *http.ResponseController
}

func newEventWriter(g *Gateway, w http.ResponseWriter, r *http.Request) eventWriter {
	return eventWriter{g: g, w: w, r: r, rc: http.NewResponseController(w)}
}

// start sends the header.
func (e *eventWriter) start() error {
	h := e.w.Header()
	h["Content-Type"] = streamType
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Accel-Buffering", "no") // proxies shall pass on each event at once
	e.g.parting(h)
	e.w.WriteHeader(http.StatusOK)
	return e.flush()
}

func (e *eventWriter) write(frame []byte) error {
	e.g.extendDeadline(e.w)
	if _, err := e.w.Write(frame); err != nil {
		return err
	}
	return e.flushed()
}

func (e *eventWriter) flush() error {
	e.g.extendDeadline(e.w)
	return e.flushed()
}

func (e *eventWriter) flushed() error {
	if err := e.rc.Flush(); err != nil {
		return err
	}
	liftDeadline(e.w, e.r)
	return nil
}

// comment is what quiet streams carry now and then, so that nobody on the way takes them for dead.
var comment = []byte(": \n\n")

// extendDeadline gives the client time to take what is written next. The server never takes a deadline back, so that every request
// begins with one.
func (g *Gateway) extendDeadline(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(g.limits.WriteTimeout)) // where there is no connection nobody is slow
}

// liftDeadline is for the time in which nothing is written. Over HTTP/1.1 a deadline that passes then does no harm; over HTTP/2 it ends
// the stream.
func liftDeadline(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor > 1 {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // as above
	}
}

// parting tells clients to come back on another connection, and so perhaps to another replica, once the gateway is retired.
func (g *Gateway) parting(h http.Header) {
	if g.retired.Load() {
		h["Connection"] = closeConnection
	}
}

var closeConnection = []string{"close"}
