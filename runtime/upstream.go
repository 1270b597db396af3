// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"errors"
	"time"

	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
	"github.com/vmcp-dev/vmcp-operator/runtime/telemetry"
)

// routes are the members that are called, by key. They are never changed once they are published.
type routes struct {
	control *control
	members map[backend.Key]*member
}

// Upstream implements gateway.Upstreams: the backends are those of which the verdict is that they are served.
func (r *routes) Upstream(key backend.Key) (relay.Upstream, bool) {
	m, served := r.members[key]
	if !served {
		return nil, false
	}
	return m.upstream, true
}

// Missed implements gateway.Upstreams.
func (r *routes) Missed(key backend.Key) {
	r.control.options.Metrics.Call(key.Kind, key.Name, telemetry.OutcomeNotServed, 0)
}

// upstream is a member as the gateway sees it: calls are counted, and their outcome speaks for or against the backend.
type upstream struct {
	*member
	control *control
}

// exchangeFunc is Exchange of an Upstream or of a Session.
type exchangeFunc func(ctx context.Context, r *relay.Request, sink relay.Sink) (*relay.Answer, error)

// Exchange implements relay.Upstream.
func (u *upstream) Exchange(ctx context.Context, r *relay.Request, sink relay.Sink) (*relay.Answer, error) {
	return u.call(ctx, r, sink, u.client.Exchange)
}

// NewSession implements relay.Upstream.
func (u *upstream) NewSession(o relay.SessionOptions) relay.Session {
	return &upstreamSession{u.client.NewSession(o), u}
}

// WatchResource implements relay.Upstream.
func (u *upstream) WatchResource(ctx context.Context, uri string, updated func(m rpc.Message)) error {
	return u.client.WatchResource(ctx, uri, updated)
}

// upstreamSession is what a client has at a member.
type upstreamSession struct {
	relay.Session
	upstream *upstream
}

// Exchange implements relay.Session.
func (s *upstreamSession) Exchange(ctx context.Context, r *relay.Request, sink relay.Sink) (*relay.Answer, error) {
	return s.upstream.call(ctx, r, sink, s.Session.Exchange)
}

// call makes an exchange with a member that takes calls.
func (u *upstream) call(ctx context.Context, r *relay.Request, sink relay.Sink, exchange exchangeFunc) (*relay.Answer, error) {
	began := time.Now()
	if !u.calls.TryAcquire(1) { // it was replaced or removed
		u.record(telemetry.OutcomeNotServed, began)
		return nil, backend.ErrNotServed
	}
	defer u.calls.Release(1)
	answer, err := exchange(ctx, r, sink)
	u.record(u.judge(ctx, began, answer, err), began)
	return answer, err
}

func (u *upstream) record(outcome string, began time.Time) {
	u.control.options.Metrics.Call(u.key.Kind, u.key.Name, outcome, time.Since(began))
}

// judge lets a call speak for or against the backend, and says what became of it.
func (u *upstream) judge(ctx context.Context, began time.Time, answer *relay.Answer, err error) (outcome string) {
	var answered *backend.RPCError
	switch {
	case err == nil && answer.Message.Kind == rpc.Result:
		u.monitor.CallSucceeded()
		return telemetry.OutcomeSuccess
	case err == nil, errors.As(err, &answered):
		u.monitor.CallSucceeded()
		return telemetry.OutcomeError
	case ctx.Err() != nil: // the caller gave up, which says nothing about the backend
		return telemetry.OutcomeCancelled
	case u.control.options.Pauses.Resumed().After(began): // it failed for our sake, perhaps
		u.monitor.Check()
	case u.client.Classify(err).Unreachable:
		u.monitor.CallFailed(u.Classify(err))
	default:
		// Something is there. Whether it is well, a probe says better than this call.
		u.monitor.Check()
	}
	return telemetry.OutcomeFault
}
