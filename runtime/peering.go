// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vmcp-dev/vmcp-operator/runtime/peer"
	"github.com/vmcp-dev/vmcp-operator/runtime/session"
)

// Peering is how this replica and the others of the gateway reach each other. They know each other by the session keys. The zero value
// means that there are no others.
type Peering struct {
	// Listen is the TCP address for requests of other replicas. Empty means that there are none.
	Listen string
	// Address is the IP address at which they reach this one. Zero means that of Listen.
	Address netip.Addr
	// Replicas are HOST:PORT, where HOST is an address or the DNS name of any number of them; this replica may be among them.
	Replicas []string
}

// listeners are what a runtime listens at. peers is nil if there are none.
type listeners struct{ gateway, admin, peers net.Listener }

// listenAll opens all that o names, or none.
func listenAll(ctx context.Context, o *Options) (l listeners, err error) {
	for _, one := range []struct {
		address, what string
		to            *net.Listener
	}{
		{o.Listen, "the MCP endpoint", &l.gateway},
		{o.AdminListen, "probes and metrics", &l.admin},
		{o.Peering.Listen, "other replicas", &l.peers},
	} {
		if one.address == "" && one.to == &l.peers {
			continue
		}
		if *one.to, err = listen(ctx, one.address, one.what); err != nil {
			return listeners{}, errors.Join(err, l.close())
		}
	}
	return l, nil
}

func (l *listeners) close() error {
	var errs []error
	for _, one := range []net.Listener{l.gateway, l.admin, l.peers} {
		if one != nil {
			errs = append(errs, one.Close())
		}
	}
	return errors.Join(errs...)
}

// newGroup is nil if there are no other replicas.
func newGroup(o *Options, uid string, l net.Listener) (*peer.Group, error) {
	if l == nil {
		return nil, nil //nolint:nilnil // as it says
	}
	at, err := netip.ParseAddrPort(l.Addr().String())
	if err != nil {
		return nil, fmt.Errorf("reading the address for other replicas: %w", err)
	}
	if o.Peering.Address.IsValid() {
		at = netip.AddrPortFrom(o.Peering.Address.Unmap(), at.Port())
	}
	if at.Addr().IsUnspecified() {
		return nil, errors.New("no other replica can know the address of this one: listen for them at one, or set POD_IP")
	}
	return peer.New(peer.Options{UID: uid, Address: at, Replicas: o.Peering.Replicas, Observe: o.Metrics.PeerRequest, Logger: o.Logger}), nil
}

// peerListener is l as other replicas are served on it.
func peerListener(l net.Listener, group *peer.Group) net.Listener {
	return tls.NewListener(l, group.ServerTLS())
}

// useKeys gives session keys to the gateway, and to the group if there is one.
func useKeys(gateway func(session.Keys) error, group *peer.Group) func(session.Keys) error {
	return func(k session.Keys) error {
		if err := gateway(k); err != nil || group == nil {
			return err
		}
		return group.SetKeys(k)
	}
}
