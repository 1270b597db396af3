// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// hostSet is the set of host names and addresses that are the gateway's own, without ports.
type hostSet map[string]struct{}

func newHostSet(hosts []string) *hostSet {
	set := hostSet{}
	for _, h := range hosts {
		if name := hostName(h); name != "" {
			set[name] = struct{}{}
		}
	}
	return &set
}

// allows says whether a host, with or without a port, is the gateway's own. localhost and loopback addresses always are.
func (s *hostSet) allows(host string) bool {
	name := hostName(host)
	if name == "localhost" {
		return true
	}
	if ip, err := netip.ParseAddr(name); err == nil && ip.Unmap().IsLoopback() {
		return true
	}
	_, ok := (*s)[name]
	return ok
}

// isAddress says whether host, with or without a port, is an IP address.
func isAddress(host string) bool {
	_, err := netip.ParseAddr(hostName(host))
	return err == nil
}

// hostName is the name or address in host[:port], in the form that is compared: lower-case, without brackets and final dot.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		host = strings.TrimSuffix(inner, "]")
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// originSet is a set of origins (RFC 6454), as originOf writes them. Nil stands for those of the gateway's hosts.
type originSet map[string]struct{}

func newOriginSet(origins []string) *originSet {
	if len(origins) == 0 {
		return new(originSet)
	}
	set := originSet{}
	for _, o := range origins {
		if u, ok := parseOrigin(o); ok {
			set[originOf(u)] = struct{}{}
		}
	}
	return &set
}

// parseOrigin reads the origin of a web page. Every other origin is nobody's.
func parseOrigin(origin string) (*url.URL, bool) {
	u, err := url.Parse(origin)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, false
	}
	return u, true
}

// originOf is an origin in the form that is compared: without the port that the scheme means anyway.
func originOf(u *url.URL) string {
	port := u.Port()
	if port == "" || u.Scheme == "http" && port == "80" || u.Scheme == "https" && port == "443" {
		return u.Scheme + "://" + hostName(u.Host)
	}
	return u.Scheme + "://" + hostName(u.Host) + ":" + port
}

// refuseForeign keeps web pages from driving the gateway through a browser (MCP 2026-07-28, transports, security warning):
// the request must be addressed to one of the gateway's names, or a page could rebind its own name to the gateway's address; an
// address is nobody's name and cannot be rebound, so that the Service's and the pod's own addresses work without being listed;
// and if it says which page it comes from, that page must be of an origin that is allowed, or else be served from one of those names.
// It returns why the request is refused, or "".
func (g *Gateway) refuseForeign(r *http.Request) string {
	hosts := g.hosts.Load()
	if !hosts.allows(r.Host) && !isAddress(r.Host) {
		return "the Host header names a host that is not the gateway's"
	}
	for _, origin := range r.Header["Origin"] {
		u, ok := parseOrigin(origin)
		if !ok || !g.allowsOrigin(u, hosts) {
			return "requests from this origin are not allowed"
		}
	}
	return ""
}

func (g *Gateway) allowsOrigin(u *url.URL, hosts *hostSet) bool {
	listed := *g.origins.Load()
	if listed == nil {
		return hosts.allows(u.Host)
	}
	_, ok := listed[originOf(u)]
	return ok
}
