// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// pool are the connections to a backend. Those that there are can be left to the requests that have them: what is sent from then on goes over
// others.
type pool struct {
	idle              time.Duration // how long a connection is kept that no request uses
	current, previous atomic.Pointer[http.Transport]
}

func newPool(idle time.Duration) *pool {
	p := &pool{idle: idle}
	p.current.Store(newTransport(idle))
	return p
}

// idleFor is how long connections to an address are kept that no request uses.
func idleFor(address string) time.Duration {
	if scheme, _, _ := strings.Cut(address, ":"); strings.EqualFold(scheme, "https") {
		return idleTimeoutTLS
	}
	return idleTimeout
}

func (p *pool) RoundTrip(r *http.Request) (*http.Response, error) {
	return p.current.Load().RoundTrip(r)
}

// present is the transport over which requests go now. Like renew it is for a nil pool as well: a transport of somebody else's stays.
func (p *pool) present() *http.Transport {
	if p == nil {
		return nil
	}
	return p.current.Load()
}

// renew has what is sent from now on go over new connections, unless that is so since old was the present transport. Connections in use are
// closed after that: a transport that was told to close its idle ones keeps none until it is asked for one again.
func (p *pool) renew(old *http.Transport) {
	if p == nil || p.current.Load() != old {
		return
	}
	next := newTransport(p.idle)
	if !p.current.CompareAndSwap(old, next) {
		return
	}
	old.CloseIdleConnections()
	if older := p.previous.Swap(old); older != nil {
		older.CloseIdleConnections() // one that a request took just when it was replaced
	}
}

// close closes the connections that are idle.
func (p *pool) close() {
	if p == nil {
		return
	}
	p.current.Load().CloseIdleConnections()
	if previous := p.previous.Load(); previous != nil {
		previous.CloseIdleConnections()
	}
}
