// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// session is one client's conversation with one process of the server.
//
// Its goroutines are: the readers of the process's output, one writer to its input, and supervise, which outlives them and
// ends when the process is reaped and all that it said has been routed.
type session struct {
	id      string
	log     *slog.Logger
	options *Options
	proc    *process

	// input carries messages to the process's input, corrections answers of our own to requests of the server.
	input       chan []byte
	corrections chan []byte
	// stream holds what goes to the client's GET stream.
	stream *queue

	// ending is closed when the session takes no more messages, ended when its process is gone.
	ending, ended chan struct{}
	endOnce       sync.Once
	cause         error // why the session ends; valid once ending is closed

	mu        sync.Mutex
	calls     map[string]*call // by id
	tokens    map[string]*call // by progress token
	refusing  bool             // no more calls begin
	streaming bool             // a GET stream is open
	busy      int              // HTTP requests in progress
	idleSince time.Time
	lost      int // messages that no queue could hold
}

// call is a request of the client that the server has not answered yet.
type call struct {
	id, rawID, token string
	// messages are what the server sends in the course of the call, before the response.
	messages *queue
	response chan []byte // holds one
	// streams says that somebody takes messages: the client accepts an event stream and has not gone. Guarded by session.mu.
	streams bool
}

// Why a session ends.
var (
	errDeleted      = errors.New("the client ended the session")
	errIdle         = errors.New("the session was idle for too long")
	errShutdown     = errors.New("the bridge is shutting down")
	errNotDelivered = errors.New("the client went away before it learned the session's id")
	errNotStarted   = errors.New("the server refused to initialize")
)

// Why the server does not take a request.
var (
	errTooManyCalls = errors.New("too many requests are in progress in this session")
	errDuplicateID  = errors.New("a request with this id is in progress")
	errSessionEnded = errors.New("the session has ended")
)

func startSession(id string, log *slog.Logger, o *Options) (*session, error) {
	proc, err := startProcess(o.path, o.Command)
	if err != nil {
		return nil, err
	}
	return &session{
		id: id, log: log.With("pid", proc.cmd.Process.Pid), options: o, proc: proc,
		input: make(chan []byte), corrections: make(chan []byte, maxQueued),
		stream: newQueue(maxQueued, 2*o.MaxMessageBytes),
		ending: make(chan struct{}), ended: make(chan struct{}),
		calls: map[string]*call{}, tokens: map[string]*call{}, idleSince: time.Now(),
	}, nil
}

// end begins the end of the session. Only the first cause counts.
func (s *session) end(cause error) {
	s.endOnce.Do(func() {
		s.cause = cause
		close(s.ending)
	})
}

// supervise runs the session until its process is gone.
func (s *session) supervise() {
	var output, input sync.WaitGroup
	output.Go(s.readOutput)
	output.Go(s.readLog)
	input.Go(s.writeInput)
	s.log.Info("Session started")

	s.awaitEnd()
	s.proc.stop()
	routed := make(chan struct{})
	go func() {
		defer close(routed)
		output.Wait()
	}()
	timer := time.NewTimer(graceForOutput)
	select {
	case <-routed:
	case <-timer.C: // a descendant that left the group holds the pipes
	}
	timer.Stop()
	s.proc.stdout.Close()
	s.proc.stderr.Close()
	<-routed
	input.Wait()

	s.failCalls()
	s.log.Info("Session ended", "cause", s.cause.Error(), "exit", s.proc.state.String(), "lostMessages", s.lost)
	close(s.ended)
}

// claimStream takes the session's one GET stream, if it is free.
func (s *session) claimStream() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streaming {
		return false
	}
	s.streaming = true
	return true
}

func (s *session) releaseStream() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streaming = false
}

// awaitEnd returns when something ended the session: the client, the bridge, idleness or the process itself.
func (s *session) awaitEnd() {
	timer := time.NewTimer(s.options.IdleTimeout)
	defer timer.Stop()
	for {
		select {
		case <-s.ending:
			return
		case <-s.proc.exited:
			s.end(fmt.Errorf("the server ended by itself (%s)", s.proc.state))
			return
		case <-timer.C:
			left := s.idleLeft()
			if left <= 0 {
				s.end(errIdle)
				return
			}
			timer.Reset(left)
		}
	}
}

// enter and leave bracket an HTTP request of the session; between them it is not idle.
func (s *session) enter() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy++
}

func (s *session) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy--
	s.idleSince = time.Now()
}

func (s *session) idleLeft() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy > 0 {
		return s.options.IdleTimeout
	}
	return s.options.IdleTimeout - time.Since(s.idleSince)
}

// writeInput is the only writer to the process's input.
func (s *session) writeInput() {
	for {
		var raw []byte
		select {
		case <-s.ending:
			return
		case raw = <-s.input:
		case raw = <-s.corrections:
		}
		if _, err := s.proc.stdin.Write(append(raw, '\n')); err != nil {
			s.end(errors.New("the server no longer reads its input"))
			return
		}
	}
}

func (s *session) readOutput() {
	err := readLines(s.proc.stdout, s.options.MaxMessageBytes, s.routeLine)
	switch {
	case errors.Is(err, errLineTooLong):
		// The id of the lost message is unknown, so whoever waits for it would wait for ever.
		s.end(fmt.Errorf("the server sent a message of more than %d bytes", s.options.MaxMessageBytes))
	case err != nil:
		s.end(fmt.Errorf("reading the server's output: %w", err))
	default:
		select {
		case <-s.proc.exited: // the usual way; awaitEnd says how it ended
		case <-s.ending:
		case <-time.After(graceForOutput):
			s.end(errors.New("the server closed its output"))
		}
	}
}

// readLog relays what the server writes to its standard error.
func (s *session) readLog() {
	relay := func(line []byte) { s.log.Info("Server log", "line", string(line)) }
	for {
		err := readLines(s.proc.stderr, maxLogLine, relay)
		if !errors.Is(err, errLineTooLong) {
			return // the end; a broken pipe to the log ends nothing else
		}
		s.log.Warn("Server log: a line was cut off", "maxBytes", maxLogLine)
	}
}

// begin registers a request and hands it to the server.
func (s *session) begin(done <-chan struct{}, m message, streams bool) (*call, error) {
	c := &call{
		id: m.id, rawID: m.rawID, token: m.progressToken(), streams: streams,
		messages: newQueue(maxQueued, s.options.MaxMessageBytes), response: make(chan []byte, 1),
	}
	if err := s.register(c); err != nil {
		return nil, err
	}
	if err := s.send(done, m.raw); err != nil {
		s.take(c.id)
		return nil, err
	}
	return c, nil
}

// refuse has no more calls begin. Those in progress go on, with all that belongs to them.
func (s *session) refuse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusing = true
}

func (s *session) register(c *call) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refusing {
		return errClosed
	}
	if _, clash := s.calls[c.id]; clash {
		return errDuplicateID
	}
	if len(s.calls) >= s.options.MaxCalls {
		return errTooManyCalls
	}
	s.calls[c.id] = c
	if c.token != "" {
		s.tokens[c.token] = c
	}
	return nil
}

// send hands a message to the server, unless done is closed first.
func (s *session) send(done <-chan struct{}, raw []byte) error {
	select {
	case <-s.ending:
		return errSessionEnded
	default:
	}
	select {
	case s.input <- raw:
		return nil
	case <-s.ending:
		return errSessionEnded
	case <-done:
		return errors.New("the server does not take messages fast enough")
	}
}

// take removes a call from those in progress.
func (s *session) take(id string) *call {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.calls[id]
	if c == nil {
		return nil
	}
	delete(s.calls, id)
	if s.tokens[c.token] == c {
		delete(s.tokens, c.token)
	}
	return c
}

// abandon notes that the client no longer waits for a call. That is no cancellation (2025-11-25, basic/transports): the call
// goes on, and counts, until the server answers it.
func (s *session) abandon(c *call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.streams = false
}

// answer completes a call with a response of our own.
func (s *session) answer(id, text string) {
	if c := s.take(id); c != nil {
		c.response <- errorResponse(c.rawID, codeInternalError, text)
	}
}

// inProgress is the number of requests that the server has not answered yet.
func (s *session) inProgress() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.calls)
}

// failCalls answers whatever the server left unanswered.
func (s *session) failCalls() {
	s.mu.Lock()
	ids := make([]string, 0, len(s.calls))
	for id := range s.calls {
		ids = append(ids, id)
	}
	s.mu.Unlock()
	for _, id := range ids {
		s.answer(id, "the MCP server did not answer: "+s.cause.Error())
	}
}
