// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package peer is how the replicas of one gateway speak to each other, so that a client does not notice which of them it reached: a
// listener of its own, never the public one, on which they know each other by keys that come from the session keys; a request to the one
// replica that owns something; and the same request to all of them.
//
// They find each other by DNS, the names of a headless Service, and nothing of this concerns the API server. What is asked is package
// gateway's business.
package peer

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/vmcp-dev/vmcp-operator/runtime/session"
)

const (
	// suspicion is how long nobody waits for a replica that did not answer in time.
	suspicion = 5 * time.Second
	// fanOut bounds the requests of one message that are under way at a time, and unawaited those to replicas that nobody waits for.
	fanOut    = 16
	unawaited = 256
	// maxReply bounds what a replica answers.
	maxReply = 4 << 20
)

// headerInstance names the process that a request is meant for; empty means whichever is at the address.
const headerInstance = "Vmcp-Instance"

// ErrGone says that a replica does not answer, or is another process by now.
var ErrGone = errors.New("the replica is gone")

// ErrEnded says that a request was ended before the replica had begun to answer, of which nothing else is known.
var ErrEnded = errors.New("the request was ended before the replica answered")

// Replica is one process of a gateway.
type Replica struct {
	// Address is where other replicas reach it.
	Address netip.AddrPort
	// Instance tells it from another process that has its address before or after it: random bits.
	Instance [8]byte
}

// AppendBinary encodes r in 14 bytes with an IPv4 address, else 26 and its zone.
func (r Replica) AppendBinary(b []byte) ([]byte, error) {
	return r.Address.AppendBinary(append(b, r.Instance[:]...))
}

// UnmarshalBinary reads what AppendBinary wrote.
func (r *Replica) UnmarshalBinary(b []byte) error {
	if len(b) < len(r.Instance) {
		return errors.New("too short for a replica")
	}
	if err := r.Address.UnmarshalBinary(b[len(r.Instance):]); err != nil {
		return fmt.Errorf("reading the address of a replica: %w", err)
	}
	r.Instance = [8]byte(b)
	return nil
}

// Message is a request to other replicas.
type Message struct {
	// Method and Path are those of HTTP.
	Method, Path string
	// Header may be shared between messages.
	Header http.Header
	Body   []byte
}

// Outcomes of a request to another replica.
const (
	// OutcomeSuccess is an answer with a status below 400.
	OutcomeSuccess = "success"
	// OutcomeRefused is an answer with another status.
	OutcomeRefused = "refused"
	// OutcomeGone is no answer, or one of another process.
	OutcomeGone = "gone"
)

// Operations are the kinds of requests to other replicas.
const (
	OperationForward = "forward"
	OperationSend    = "send"
	OperationTell    = "tell"
	OperationAsk     = "ask"
)

// Options configures a Group.
type Options struct {
	// UID tells gateways apart that have keys in common. Required.
	UID string
	// Address is where other replicas reach this one. Required.
	Address netip.AddrPort
	// Replicas are HOST:PORT, where HOST is an address or the name of any number of them; this replica may be among them.
	Replicas []string
	// Lookup finds the addresses of a host. Nil means DNS.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	// Patience is how long a replica may take to answer, connecting included. Default one second.
	Patience time.Duration
	// Observe, if not nil, is told of each request to another replica, by one of the operations and outcomes above.
	Observe func(operation, outcome string)
	// Logger gets what an operator of the gateway may want to know. Nil discards it.
	Logger *slog.Logger
}

// Group is the replicas of one gateway, as one of them sees the others. Until SetKeys is called it trusts none. It is safe for
// concurrent use.
type Group struct {
	self      Replica
	directory directory
	trust     trust
	transport *http.Transport
	patience  time.Duration
	observe   func(operation, outcome string)
	log       *slog.Logger

	late chan struct{}  // taken by each request that nobody waits for
	busy sync.WaitGroup // those

	mu       sync.Mutex
	suspects map[netip.AddrPort]time.Time // until when nobody waits for them
}

// New makes the group of the replica at Options.Address.
func New(o Options) *Group {
	g := &Group{
		self:      Replica{Address: o.Address},
		directory: directory{names: o.Replicas, self: o.Address, lookup: o.Lookup, log: o.Logger},
		trust:     trust{uid: o.UID},
		patience:  cmp.Or(o.Patience, time.Second),
		observe:   o.Observe,
		log:       o.Logger,
		late:      make(chan struct{}, unawaited),
		suspects:  map[netip.AddrPort]time.Time{},
	}
	_, _ = rand.Read(g.self.Instance[:]) // never fails
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
		g.directory.log = g.log
	}
	if g.observe == nil {
		g.observe = func(string, string) {}
	}
	if g.directory.lookup == nil {
		g.directory.lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true) // a stream that is forwarded has a connection of its own: one that is slow holds up no other
	g.transport = &http.Transport{
		DialContext:         (&net.Dialer{Timeout: g.patience}).DialContext,
		TLSClientConfig:     g.trust.client(),
		TLSHandshakeTimeout: g.patience,
		MaxIdleConnsPerHost: fanOut,
		IdleConnTimeout:     time.Minute,
		DisableCompression:  true,
		Protocols:           &protocols,
	}
	return g
}

// Self is this replica.
func (g *Group) Self() Replica { return g.self }

// SetKeys replaces the keys by which replicas know each other: they are derived from the session keys. A replica shows its current one and
// knows all three, so that keys can be changed while some replicas have not seen it yet. On an error the keys stay as they were.
func (g *Group) SetKeys(k session.Keys) error {
	if err := g.trust.set(k); err != nil {
		return fmt.Errorf("using the session keys between replicas: %w", err)
	}
	g.transport.CloseIdleConnections() // those that remain were trusted by keys that may be gone
	return nil
}

// Close waits for the requests that nobody else waits for, no longer than Options.Patience, and closes idle connections. Nothing may be sent any more.
func (g *Group) Close() {
	g.busy.Wait()
	g.transport.CloseIdleConnections()
}

// Handler hands on the requests of peers that are meant for this process. It is served with ServerTLS, which lets nobody else in.
func (g *Group) Handler(next http.Handler) http.Handler {
	own := hex.EncodeToString(g.self.Instance[:])
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 { // it is not served as it has to be
			http.Error(w, "only replicas of the gateway may ask this", http.StatusForbidden)
			return
		}
		if instance := r.Header.Get(headerInstance); instance != "" && instance != own {
			http.Error(w, "another process has this address by now", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}
