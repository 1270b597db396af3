// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/gateway"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
)

// exchangeFunc is what a fake backend does with a request.
type exchangeFunc func(ctx context.Context, r *relay.Request, sink relay.Sink) (*relay.Answer, error)

// fake is a backend, as the front sees one.
type fake struct {
	exchange exchangeFunc
	watch    func(ctx context.Context, uri string, updated func(rpc.Message)) error
	settle   func(ctx context.Context) // has settings take their time; may be nil

	mu       sync.Mutex
	sessions []*fakeSession
}

func (f *fake) Exchange(ctx context.Context, r *relay.Request, sink relay.Sink) (*relay.Answer, error) {
	return f.exchange(ctx, r, sink)
}

func (f *fake) NewSession(o relay.SessionOptions) relay.Session {
	s := &fakeSession{fake: f, options: o}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sessions = append(f.sessions, s)
	return s
}

func (f *fake) WatchResource(ctx context.Context, uri string, updated func(rpc.Message)) error {
	if f.watch == nil {
		return errors.New("this backend watches nothing")
	}
	return f.watch(ctx, uri, updated)
}

// opened are the sessions of clients so far.
func (f *fake) opened() []*fakeSession {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.sessions)
}

// fakeSession is a client's session at a fake.
type fakeSession struct {
	fake    *fake
	options relay.SessionOptions

	mu       sync.Mutex
	heard    []string // what it was told, in order
	listened bool
	closed   bool
}

func (s *fakeSession) Exchange(ctx context.Context, r *relay.Request, sink relay.Sink) (*relay.Answer, error) {
	return s.fake.exchange(ctx, r, sink)
}

func (s *fakeSession) note(format string, args ...any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = append(s.heard, fmt.Sprintf(format, args...))
	return nil
}

// set notes a setting, as soon as the backend has taken it in.
func (s *fakeSession) set(ctx context.Context, format string, args ...any) error {
	if s.fake.settle != nil {
		s.fake.settle(ctx)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.note(format, args...)
}

func (s *fakeSession) SetLogLevel(ctx context.Context, level string) error {
	return s.set(ctx, "level %s", level)
}
func (s *fakeSession) RootsChanged(context.Context) { _ = s.note("roots") }

func (s *fakeSession) Subscribe(ctx context.Context, uri string) error {
	if uri == "file:///refused" {
		return &backend.RPCError{Code: -32602, Message: "no", Data: json.RawMessage(`{"a":1}`)}
	}
	return s.set(ctx, "subscribe %s", uri)
}

func (s *fakeSession) Unsubscribe(ctx context.Context, uri string) error {
	return s.set(ctx, "unsubscribe %s", uri)
}

func (s *fakeSession) Listen() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listened = true
}

// isListened says whether what the backend says outside of requests is wanted.
func (s *fakeSession) isListened() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.listened || !s.options.Quiet
}

func (s *fakeSession) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

func (s *fakeSession) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

func (s *fakeSession) told() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.heard)
}

// only is one backend under every key.
type only struct{ one relay.Upstream }

func (o only) Upstream(backend.Key) (relay.Upstream, bool) { return o.one, o.one != nil }
func (only) Missed(backend.Key)                            {}

// backends are several, by key.
type backends map[backend.Key]relay.Upstream

func (b backends) Upstream(key backend.Key) (relay.Upstream, bool) {
	u, ok := b[key]
	return u, ok
}

func (backends) Missed(backend.Key) {}

// message parses what is a message.
func parsed(text string) rpc.Message {
	m, err := rpc.Parse([]byte(text))
	if err != nil {
		panic(fmt.Sprintf("%s: %v", text, err))
	}
	return m
}

// answered is a backend's answer, with an id of the edge's.
func answeredIn(era relay.Era, body string) (*relay.Answer, error) {
	return &relay.Answer{Message: parsed(`{"jsonrpc":"2.0","id":4711,` + body + `}`), Era: era}, nil
}

// respond is a backend that speaks the era of its clients and answers all requests alike.
func respond(body string) exchangeFunc {
	return func(_ context.Context, r *relay.Request, _ relay.Sink) (*relay.Answer, error) {
		return answeredIn(r.Era, body)
	}
}

// exchanges is one backend that does f.
func exchanges(f exchangeFunc) gateway.Upstreams { return only{&fake{exchange: f}} }

// answer is a backend with one result.
func answer(result string) gateway.Upstreams { return exchanges(respond(`"result":` + result)) }

// failure is a backend that cannot be reached.
func failure(err error) gateway.Upstreams {
	return exchanges(func(context.Context, *relay.Request, relay.Sink) (*relay.Answer, error) { return nil, err })
}

// outgoing is a request with the front's edits made.
func outgoing(r *relay.Request) string { return string(rpc.Splice(nil, r.Message.Raw, r.Edits...)) }
