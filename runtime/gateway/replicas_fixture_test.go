// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/runtime/gateway"
	"github.com/vmcp-dev/vmcp-operator/runtime/peer"
	"github.com/vmcp-dev/vmcp-operator/runtime/session"
)

// goneWithin is how soon a client hears that a replica is gone.
const goneWithin = 1500 * time.Millisecond

// replica is one of several gateways that have their keys in common.
type replica struct {
	*fixture
	peers *peer.Group
	kill  func() // no replica reaches it any more
}

// replicaKeys are the keys of all replicas.
func replicaKeys() session.Keys {
	return session.Keys{Current: bytes.Repeat([]byte{7}, session.KeySize)}
}

// startReplicas starts n replicas. What distinguishes them is said by options.
func startReplicas(t *testing.T, n int, options func(i int) gateway.Options) []*replica {
	t.Helper()
	return startPatient(t, n, 10*time.Second, options)
}

// startPatient is startReplicas with replicas that wait so long for each other.
func startPatient(t *testing.T, n int, patience time.Duration, options func(i int) gateway.Options) []*replica {
	t.Helper()
	keys := replicaKeys()
	listeners, names := make([]net.Listener, n), make([]string, n)
	for i := range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners[i], names[i] = l, l.Addr().String()
	}
	all := make([]*replica, n)
	for i := range n {
		group := peer.New(peer.Options{UID: "uid", Address: netip.MustParseAddrPort(names[i]), Replicas: names, Patience: patience})
		o := options(i)
		o.UID, o.Peers = "uid", group
		if o.Principal == nil {
			o.Principal = func(*http.Request) string { return "alice" }
		}
		if err := group.SetKeys(keys); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(group.Close)
		var server http.Server
		done := make(chan struct{})
		kill := sync.OnceFunc(func() {
			_ = server.Close() // connections that it cuts are what it is for
			<-done
		})
		t.Cleanup(kill)
		r := &replica{peers: group, kill: kill}
		r.fixture = start(t, o)
		if err := r.SetKeys(keys); err != nil {
			t.Fatal(err)
		}
		server.Handler, server.ErrorLog = group.Handler(r.PeerHandler()), log.New(io.Discard, "", 0)
		go func() {
			defer close(done)
			_ = server.Serve(tls.NewListener(listeners[i], group.ServerTLS())) // until kill
		}()
		all[i] = r
	}
	return all
}

// shared is for replicas that have the same backends and nothing else to tell them apart.
func shared(upstreams gateway.Upstreams) func(int) gateway.Options {
	return func(int) gateway.Options { return gateway.Options{Upstreams: upstreams} }
}

// at is the same client, whose requests reach another replica.
func (c *caller) at(r *replica) *caller { return &caller{f: r.fixture, era: c.era, session: c.session} }

// absent does something while a replica is not to be reached.
func absent(t *testing.T, r *replica, f func()) {
	t.Helper()
	for i, key := range []byte{8, 7} {
		if err := r.peers.SetKeys(session.Keys{Current: bytes.Repeat([]byte{key}, session.KeySize)}); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			f()
		}
	}
}
