// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"
)

const (
	// lookupTimeout bounds a look into DNS, and lookupAge is how long its answer is good. A cluster's DNS takes some seconds as well.
	lookupTimeout = 500 * time.Millisecond
	lookupAge     = 2 * time.Second
	// maxReplicas bounds the addresses that are used.
	maxReplicas = 64
)

// directory knows the addresses of the other replicas.
type directory struct {
	names  []string
	self   netip.AddrPort
	lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	log    *slog.Logger

	mu      sync.Mutex // held while somebody looks: whoever comes meanwhile wants to know the same
	looked  time.Time
	known   []netip.AddrPort
	problem string // that was logged last
}

// others are the addresses of the other replicas, in order. While DNS does not answer they are those that it gave last.
func (d *directory) others() []netip.AddrPort {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.looked.IsZero() && time.Since(d.looked) < lookupAge {
		return d.known
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
	defer cancel()
	found, err := d.look(ctx)
	d.looked = time.Now()
	problem := ""
	if err != nil {
		problem = err.Error()
	} else {
		d.known = found
	}
	if problem != "" && problem != d.problem {
		d.log.Warn("The other replicas cannot be found; those that were known are used", "error", err)
	}
	d.problem = problem
	return d.known
}

func (d *directory) look(ctx context.Context) ([]netip.AddrPort, error) {
	var found []netip.AddrPort
	for _, name := range d.names {
		host, port, err := splitHostPort(name)
		if err != nil {
			return nil, err
		}
		addresses := []netip.Addr{}
		if address, err := netip.ParseAddr(host); err == nil {
			addresses = append(addresses, address)
		} else if addresses, err = d.lookup(ctx, host); err != nil {
			return nil, fmt.Errorf("looking up %s: %w", host, err)
		}
		for _, a := range addresses {
			if at := netip.AddrPortFrom(a.Unmap(), port); at != d.self {
				found = append(found, at)
			}
		}
	}
	slices.SortFunc(found, netip.AddrPort.Compare)
	found = slices.Compact(found)
	return found[:min(len(found), maxReplicas)], nil
}

func splitHostPort(name string) (host string, port uint16, err error) {
	host, text, err := net.SplitHostPort(name)
	if err != nil {
		return "", 0, fmt.Errorf("%q is not HOST:PORT: %w", name, err)
	}
	number, err := strconv.ParseUint(text, 10, 16)
	if err != nil || host == "" {
		return "", 0, fmt.Errorf("%q is not HOST:PORT", name)
	}
	return host, uint16(number), nil
}

// CheckReplica says what is wrong with one of Options.Replicas.
func CheckReplica(name string) error {
	_, _, err := splitHostPort(name)
	return err
}
