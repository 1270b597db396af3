// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"net"
	"net/url"
	"slices"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/gateway"
)

// refuseLoop refuses a backend that is this gateway itself: it would offer everything once more under another prefix, and what
// it offers would change with every change that it makes. hosts are the gateway's own names, listen is the address it serves at.
func refuseLoop(t backend.Target, hosts []string, listen string) backend.Target {
	if t.Refused == (backend.Refusal{}) && isSelf(t.URL, hosts, listen) {
		t.Refused = backend.Refusal{
			Reason:  v1alpha1.ReasonInvalidSpec,
			Message: "the address is this gateway's own; name the backends behind it instead",
		}
	}
	return t
}

func isSelf(address string, hosts []string, listen string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Path != gateway.Path {
		return false
	}
	if slices.Contains(hosts, u.Hostname()) {
		return true
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil || u.Port() != port {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == host || u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}
