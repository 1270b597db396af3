// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"net/http"
	"time"
)

// eventStream writes messages as server-sent events. They carry no event ids: a broken stream cannot be resumed.
type eventStream struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

// newEventStream begins the answer.
func newEventStream(w http.ResponseWriter) *eventStream {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache, no-transform")
	h.Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	e := &eventStream{w: w, control: http.NewResponseController(w)}
	_ = e.control.Flush() // an error shows at the first write
	return e
}

// orNew is e, or a new stream if e is nil.
func (e *eventStream) orNew(w http.ResponseWriter) *eventStream {
	if e != nil {
		return e
	}
	return newEventStream(w)
}

// drain writes all that is queued. A message that could not be written stays in the queue.
func (e *eventStream) drain(q *queue) error {
	for {
		raw, ok := q.peek()
		if !ok {
			return nil
		}
		if err := e.message(raw); err != nil {
			return err
		}
		q.drop()
	}
}

func (e *eventStream) message(raw []byte) error {
	return e.write([]byte("event: message\ndata: "), raw, []byte("\n\n"))
}

// comment keeps intermediaries from closing a quiet stream, and finds out whether the client is still there.
func (e *eventStream) comment() error { return e.write([]byte(":\n\n")) }

func (e *eventStream) write(parts ...[]byte) error {
	_ = e.control.SetWriteDeadline(time.Now().Add(writeTimeout)) // not supported: no bound
	for _, part := range parts {
		if _, err := e.w.Write(part); err != nil {
			return err
		}
	}
	return e.control.Flush()
}
