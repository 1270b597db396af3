// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"strings"
	"testing"
)

func from(env map[string]string) (Config, error) {
	return FromEnvironment(func(name string) string { return env[name] })
}

func TestDefaults(t *testing.T) {
	c, err := from(map[string]string{"HOME": "/home/me"})
	if err != nil {
		t.Fatal(err)
	}
	for what, pair := range map[string][2]string{
		"cache":      {c.Cache, "/home/me/.cache/vmcp-operator"},
		"state":      {c.State, "/tmp/vmcp-operator-cluster"},
		"node":       {c.NodeIP().String(), "10.244.0.1"},
		"kubernetes": {c.KubernetesServiceIP().String(), "10.96.0.1"},
		"dns":        {c.DNSServiceIP().String(), "10.96.0.10"},
		"API server": {c.APIServer(), "https://127.0.0.1:6443"},
		"audit log":  {c.AuditLog(), "/tmp/vmcp-operator-cluster/logs/audit.log"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: got %s, want %s", what, pair[0], pair[1])
		}
	}
}

func TestOverrides(t *testing.T) {
	c, err := from(map[string]string{
		"HOME": "/home/me", "XDG_CACHE_HOME": "/xdg", "VMCP_CLUSTER_STATE": "/s",
		"VMCP_POD_CIDR": "172.20.1.9/24", "VMCP_SERVICE_CIDR": "172.21.0.0/16", "VMCP_PORT_OFFSET": "100",
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.Cache != "/xdg/vmcp-operator" || c.State != "/s" || c.NodeIP().String() != "172.20.1.1" || c.DNSServiceIP().String() != "172.21.0.10" || c.Ports.API != 6543 {
		t.Errorf("got %+v", c)
	}
	if c, err = from(map[string]string{"VMCP_CACHE": "/cache"}); err != nil || c.Cache != "/cache" {
		t.Errorf("VMCP_CACHE: got %s, %v", c.Cache, err)
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		variable, value string
		want            string
	}{
		"no cache":          {"HOME", "", "no cache directory"},
		"long state":        {"VMCP_CLUSTER_STATE", "/" + strings.Repeat("x", 60), "Unix sockets"},
		"blank in state":    {"VMCP_CLUSTER_STATE", "/a b", "' '"},
		"public pods":       {"VMCP_POD_CIDR", "8.8.8.0/24", "VMCP_POD_CIDR"},
		"IPv6 pods":         {"VMCP_POD_CIDR", "fd00::/24", "VMCP_POD_CIDR"},
		"small pods":        {"VMCP_POD_CIDR", "10.1.1.0/28", "/12 to /24"},
		"no range":          {"VMCP_SERVICE_CIDR", "10.1.1.1", "VMCP_SERVICE_CIDR"},
		"overlap":           {"VMCP_SERVICE_CIDR", "10.244.0.0/16", "overlap"},
		"word as offset":    {"VMCP_PORT_OFFSET", "many", "VMCP_PORT_OFFSET"},
		"offset of no port": {"VMCP_PORT_OFFSET", "60000", "VMCP_PORT_OFFSET"},
	} {
		t.Run(name, func(t *testing.T) {
			env := map[string]string{"HOME": "/home/me"}
			env[c.variable] = c.value
			if _, err := from(env); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

func TestStagesIncludeOneAnother(t *testing.T) {
	for _, tc := range []struct {
		running, wanted Stage
		want            bool
	}{
		{Node, Node, true},
		{Node, ControlPlane, true},
		{ControlPlane, ControlPlane, true},
		{ControlPlane, Node, false},
		{OLM, Node, true},
		{OLM, OLM, true},
		{Node, OLM, false},
	} {
		if got := tc.running.Includes(tc.wanted); got != tc.want {
			t.Errorf("%s includes %s: got %t", tc.running, tc.wanted, got)
		}
	}
}
