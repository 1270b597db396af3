// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// partitionTable is the nftables table of a Partition.
const partitionTable = "vmcp_e2e_partition"

// Partition drops every TCP packet between the pod of a process and some addresses, in both directions and without a word to either
// side, until Heal. The rules are in the pod's own network namespace, so that nothing of them outlives the pod. It works where the
// node is this machine, as root.
func Partition(ctx context.Context, process *os.Process, from []netip.AddrPort) error {
	var in, out strings.Builder
	for _, a := range from {
		family := "ip"
		if a.Addr().Is6() {
			family = "ip6"
		}
		fmt.Fprintf(&in, "\t\t%s saddr %s tcp sport %d drop\n", family, a.Addr(), a.Port())
		fmt.Fprintf(&out, "\t\t%s daddr %s tcp dport %d drop\n", family, a.Addr(), a.Port())
	}
	const chain = "\tchain %[1]s {\n\t\ttype filter hook %[1]s priority filter; policy accept;\n%[2]s\t}\n"
	table := fmt.Sprintf("table inet %s {\n", partitionTable) + fmt.Sprintf(chain, "input", in.String()) + fmt.Sprintf(chain, "output", out.String()) + "}\n"
	if err := nft(ctx, process, table); err != nil {
		return fmt.Errorf("cutting off the pod of process %d: %w", process.Pid, err)
	}
	return nil
}

// Heal ends a Partition.
func Heal(ctx context.Context, process *os.Process) error {
	if err := nft(ctx, process, "delete table inet "+partitionTable+"\n"); err != nil {
		return fmt.Errorf("healing the partition of process %d: %w", process.Pid, err)
	}
	return nil
}

// nft runs a script of nftables in the network namespace of a process.
func nft(ctx context.Context, process *os.Process, script string) error {
	cmd := exec.CommandContext(ctx, "nsenter", "--target", strconv.Itoa(process.Pid), "--net", "nft", "--file", "-")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
