// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package preflight finds out, before anything is changed, whether a machine
// can run a cluster, and says what is missing and what to do about it.
package preflight

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/config"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/hostnet"
)

// Facts are what a decision needs to know about the machine. Errors are those
// of trying; nil means that it works.
type Facts struct {
	Root bool
	// Cgroup is the error of making a control group, MissingControllers what the kubelet would lack.
	Cgroup             error
	MissingControllers []string
	// Overlay is the error of mounting an overlay below the state directory.
	Overlay error
	// BusyPorts are ports that something else listens on, by the name of who needs them.
	BusyPorts map[string]int
	// Bridge is the owner of the interface with our bridge's name.
	Bridge hostnet.Owner
	Ranges []hostnet.Range
	// ForeignTables are nftables tables that a kube-proxy made.
	ForeignTables []string
	// MissingTools are programs that are neither there nor can be installed.
	MissingTools []string
}

// elsewhere is the way out when a machine cannot run a node.
const elsewhere = "to use a cluster you already have: DEMO_CONTEXT=<kube context> make demo"

// Check returns every reason, one per line, why a cluster of the stage cannot
// start with these facts; nil when it can.
func Check(f Facts, c config.Config, stage config.Stage) error {
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf("  - "+format, args...)) }
	for _, owner := range slices.Sorted(maps.Keys(f.BusyPorts)) {
		problem("port %d, which %s needs, is in use: stop what listens there (ss -ltnp), or set VMCP_PORT_OFFSET=100", f.BusyPorts[owner], owner)
	}
	if stage.Includes(config.Node) {
		node(f, c, problem)
	}
	if len(problems) == 0 {
		return nil
	}
	return fmt.Errorf("this machine cannot run the cluster:\n%w", errors.Join(problems...))
}

func node(f Facts, c config.Config, problem func(string, ...any)) {
	if !f.Root {
		// The rest cannot be tried without it.
		problem("root is missing: a node makes mounts, cgroups and network interfaces; run this with sudo -E, or %s", elsewhere)
		return
	}
	if len(f.MissingTools) > 0 {
		problem("programs are missing and there is no apt-get to install them: %s; install them with your package manager", strings.Join(f.MissingTools, ", "))
	}
	switch {
	case f.Cgroup != nil:
		problem("cgroups are missing or not writable (%v): in a container, start it privileged; or %s", f.Cgroup, elsewhere)
	case len(f.MissingControllers) > 0:
		problem("cgroup controllers are missing: %s; enable them in the kernel (CONFIG_CGROUP_…, cgroup_enable=memory), or %s", strings.Join(f.MissingControllers, ", "), elsewhere)
	}
	if f.Overlay != nil {
		problem("overlay mounts do not work in %s (%v): set VMCP_CLUSTER_STATE to a directory on ext4 or xfs, load the module overlay; in a container, start it privileged; or %s", c.State, f.Overlay, elsewhere)
	}
	switch {
	case !f.Bridge.Exists:
	case f.Bridge.State == "":
		problem("there is an interface %s that is not of this project: rename or remove it", config.Bridge)
	case f.Bridge.State != c.State:
		problem("another cluster of this project is up in %s; a machine holds one: take it down with VMCP_CLUSTER_STATE=%s make cluster-down", f.Bridge.State, f.Bridge.State)
	}
	ranges(f.Ranges, "VMCP_POD_CIDR", c.Pods, problem)
	ranges(f.Ranges, "VMCP_SERVICE_CIDR", c.Services, problem)
	if len(f.ForeignTables) > 0 {
		problem("nftables has %s: another Kubernetes runs on this machine, or ran and left it (nft delete table …); %s", strings.Join(f.ForeignTables, ", "), elsewhere)
	}
}

// ranges reports the first interface whose addresses the cluster's would hide.
func ranges(existing []hostnet.Range, variable string, wanted netip.Prefix, problem func(string, ...any)) {
	for _, r := range existing {
		if r.Prefix.Overlaps(wanted) {
			problem("addresses %s of interface %s overlap with the cluster's %s: set %s to a free private range", r.Prefix, r.Interface, wanted, variable)
			return
		}
	}
}
