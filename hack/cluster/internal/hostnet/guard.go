// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/assets"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/config"
)

// podTables are made by kube-proxy and by the CNI plugin portmap under names
// of their own; they go with the cluster.
var podTables = []string{"ip kube-proxy", "ip6 kube-proxy", "inet cni_hostport"}

func guardTable() string { return "inet " + config.GuardTable }

// addGuard loads the table that keeps the cluster's traffic on the machine.
func addGuard(c config.Config) error {
	rules, err := assets.Render("guard.nft", c)
	if err != nil {
		return err
	}
	if _, err := nft(rules, "-f", "-"); err != nil {
		return fmt.Errorf("load nftables table %s: %w", guardTable(), err)
	}
	return nil
}

// nftTimeout bounds one call of nft, which waits for others that change the tables.
const nftTimeout = 30 * time.Second

// nft runs the program with a text on its stdin and returns what it printed. The error quotes what it complained about.
func nft(stdin string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), nftTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nft", args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("nft %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// Tables returns the names of the machine's nftables tables, "inet x" for
// example; none where nft is not installed.
func Tables() ([]string, error) {
	out, err := nft("", "list", "tables")
	if errors.Is(err, exec.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list nftables tables: %w", err)
	}
	return parseTables(out), nil
}

func parseTables(out string) []string {
	var list []string
	for line := range strings.Lines(out) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "table "); ok {
			list = append(list, name)
		}
	}
	return list
}

// Guarded tells whether the guard is in place.
func Guarded() bool {
	tables, err := Tables()
	return err == nil && slices.Contains(tables, guardTable())
}

// ForeignTables returns tables of the machine that another kube-proxy may have made.
func ForeignTables(tables []string) []string {
	return slices.DeleteFunc(slices.Clone(tables), func(t string) bool { return !slices.Contains(podTables[:2], t) })
}

// Down removes everything that Up, kube-proxy and the CNI plugins made, the guard last.
func Down() error {
	if err := removeBridge(); err != nil {
		return err
	}
	existing, err := Tables()
	if err != nil {
		return err
	}
	for _, table := range append(slices.Clone(podTables), guardTable()) {
		if !slices.Contains(existing, table) {
			continue
		}
		args := append([]string{"delete", "table"}, strings.Fields(table)...)
		if _, err := nft("", args...); err != nil {
			return fmt.Errorf("remove nftables table %s: %w", table, err)
		}
	}
	return nil
}
