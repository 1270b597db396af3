// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/url"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/gateway"
)

// A gateway must not be a backend of itself: it would offer everything once more under another prefix, and what it offers would
// change with every change that it makes. What names it by one of its own addresses is refused before the first call. What leads
// back to it in another way, through an address that it does not know or through other gateways, is refused when a request
// comes back: each request carries the ids of the gateways that it passed through (backend.HeaderTrail).

// newGatewayID is what a gateway calls itself in trails: the same for all its replicas, and nothing that tells backends about it.
func newGatewayID(uid types.UID) string {
	name := []byte(uid)
	if len(name) == 0 {
		name = []byte(rand.Text()) // out of a cluster; there are no replicas
	}
	sum := sha256.Sum256(name)
	return hex.EncodeToString(sum[:8])
}

// refuseLoop refuses a backend whose address is one of the gateway's own, ownURLs or that which it listens at.
func refuseLoop(t backend.Target, ownURLs []string, listen string) backend.Target {
	if t.Refused == (backend.Refusal{}) && isSelf(t.URL, ownURLs, listen) {
		t.Refused = backend.Refusal{
			Reason:  v1alpha1.ReasonInvalidSpec,
			Message: "the address is this gateway's own; name the backends behind it instead",
		}
	}
	return t
}

func isSelf(address string, ownURLs []string, listen string) bool {
	at, ok := locate(address)
	if !ok {
		return false
	}
	if slices.ContainsFunc(ownURLs, func(own string) bool {
		there, ok := locate(own)
		return ok && there == at
	}) {
		return true
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil || at.port != port || at.path != gateway.Path {
		return false
	}
	ip := net.ParseIP(at.host)
	return at.host == host || at.host == "localhost" || ip != nil && ip.IsLoopback()
}

// location is what of a URL decides who answers.
type location struct{ host, port, path string }

func locate(address string) (location, bool) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return location{}, false
	}
	l := location{host: strings.TrimSuffix(strings.ToLower(u.Hostname()), "."), port: u.Port(), path: u.Path}
	if l.port == "" {
		l.port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	if l.path == "" {
		l.path = "/"
	}
	return l, true
}
