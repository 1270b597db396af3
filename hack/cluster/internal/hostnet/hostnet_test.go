// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"net/netip"
	"slices"
	"testing"
)

func TestOwnerOf(t *testing.T) {
	for alias, want := range map[string]Owner{
		"":                         {Exists: true},
		"somebody else's":          {Exists: true},
		aliasPrefix:                {Exists: true},
		aliasPrefix + "/tmp/state": {Exists: true, State: "/tmp/state"},
	} {
		if got := ownerOf(alias); got != want {
			t.Errorf("ownerOf(%q) = %+v, want %+v", alias, got, want)
		}
	}
}

func TestTables(t *testing.T) {
	tables := parseTables("table inet vmcp_guard\ntable ip kube-proxy\n\ntable ip6 kube-proxy\ntable inet filter\n")
	if want := []string{"inet vmcp_guard", "ip kube-proxy", "ip6 kube-proxy", "inet filter"}; !slices.Equal(tables, want) {
		t.Errorf("got %q, want %q", tables, want)
	}
	if got, want := ForeignTables(tables), []string{"ip kube-proxy", "ip6 kube-proxy"}; !slices.Equal(got, want) {
		t.Errorf("foreign: got %q, want %q", got, want)
	}
	if got := parseTables(""); len(got) != 0 {
		t.Errorf("of nothing: got %q", got)
	}
}

func TestHardwareAddr(t *testing.T) {
	if got := hardwareAddr(netip.MustParseAddr("10.244.0.1")).String(); got != "0a:58:0a:f4:00:01" {
		t.Errorf("got %s", got)
	}
}
