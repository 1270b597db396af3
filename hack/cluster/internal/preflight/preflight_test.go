// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/config"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/hostnet"
)

func TestCheck(t *testing.T) {
	c, err := config.FromEnvironment(func(name string) string { return map[string]string{"HOME": "/h"}[name] })
	if err != nil {
		t.Fatal(err)
	}
	link := func(prefix string) []hostnet.Range {
		return []hostnet.Range{{Interface: "eth0", Prefix: netip.MustParsePrefix(prefix)}}
	}
	const demo = "DEMO_CONTEXT=<kube context> make demo"
	for name, tc := range map[string]struct {
		facts Facts
		stage config.Stage
		want  []string // all in the message; none when it may start
	}{
		"all is well":            {facts: Facts{Root: true, Ranges: link("192.168.1.0/24")}, stage: config.Node},
		"our own bridge":         {facts: Facts{Root: true, Bridge: hostnet.Owner{Exists: true, State: c.State}}, stage: config.Node},
		"cp needs no root":       {facts: Facts{}, stage: config.ControlPlane},
		"node needs root":        {facts: Facts{}, stage: config.Node, want: []string{"root is missing", "sudo", demo}},
		"busy port":              {facts: Facts{BusyPorts: map[string]int{"etcd": 2379}}, stage: config.ControlPlane, want: []string{"port 2379", "etcd", "VMCP_PORT_OFFSET"}},
		"cgroups read-only":      {facts: Facts{Root: true, Cgroup: errors.New("read-only file system")}, stage: config.Node, want: []string{"cgroups are missing or not writable (read-only file system)", "privileged", demo}},
		"no memory controller":   {facts: Facts{Root: true, MissingControllers: []string{"memory"}}, stage: config.Node, want: []string{"cgroup controllers are missing: memory", demo}},
		"no overlay":             {facts: Facts{Root: true, Overlay: errors.New("invalid argument")}, stage: config.Node, want: []string{"overlay mounts do not work in " + c.State, "VMCP_CLUSTER_STATE", demo}},
		"no tools":               {facts: Facts{Root: true, MissingTools: []string{"runc", "nft"}}, stage: config.Node, want: []string{"runc, nft", "package manager"}},
		"foreign bridge":         {facts: Facts{Root: true, Bridge: hostnet.Owner{Exists: true}}, stage: config.Node, want: []string{"interface vmcp0"}},
		"another cluster":        {facts: Facts{Root: true, Bridge: hostnet.Owner{Exists: true, State: "/other"}}, stage: config.Node, want: []string{"VMCP_CLUSTER_STATE=/other make cluster-down"}},
		"pod addresses in use":   {facts: Facts{Root: true, Ranges: link("10.244.0.0/16")}, stage: config.Node, want: []string{"10.244.0.0/16 of interface eth0", "VMCP_POD_CIDR"}},
		"service addresses":      {facts: Facts{Root: true, Ranges: link("10.96.7.0/24")}, stage: config.Node, want: []string{"VMCP_SERVICE_CIDR"}},
		"another Kubernetes":     {facts: Facts{Root: true, ForeignTables: []string{"ip kube-proxy"}}, stage: config.Node, want: []string{"ip kube-proxy", demo}},
		"two reasons, both told": {facts: Facts{Root: true, Overlay: errors.New("x"), BusyPorts: map[string]int{"kubelet": 10250}}, stage: config.Node, want: []string{"port 10250", "overlay"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := Check(tc.facts, c, tc.stage)
			if len(tc.want) == 0 {
				if err != nil {
					t.Errorf("got %v, want none", err)
				}
				return
			}
			for _, want := range tc.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q in it", err, want)
				}
			}
		})
	}
}
