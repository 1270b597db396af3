// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/cgroups"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/config"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/hostnet"
)

// Gather finds the facts. Nothing of our own cluster may be up.
func Gather(ctx context.Context, c config.Config, stage config.Stage) (Facts, error) {
	f := Facts{Root: os.Geteuid() == 0, BusyPorts: busyPorts(c.Ports.List(stage))}
	if !stage.Includes(config.Node) || !f.Root {
		return f, nil
	}
	if !hasApt() {
		f.MissingTools = programs(missingPackages(stage))
	}
	f.Cgroup = tryCgroup(ctx)
	list, v2, err := cgroups.Mounted()
	if err != nil {
		return f, err
	}
	f.MissingControllers = cgroups.Missing(list, v2)
	f.Overlay = tryOverlay(c.State)
	if f.Bridge, err = hostnet.BridgeOwner(); err != nil {
		return f, err
	}
	if f.Ranges, err = hostnet.Ranges(); err != nil {
		return f, err
	}
	tables, err := hostnet.Tables()
	f.ForeignTables = hostnet.ForeignTables(tables)
	return f, err
}

// busyPorts tries to listen: on loopback and on all addresses, since a
// listener on either keeps us off.
func busyPorts(ports map[string]int) map[string]int {
	busy := map[string]int{}
	for owner, port := range ports {
		for _, host := range []string{"127.0.0.1", ""} {
			l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
			if errors.Is(err, syscall.EADDRINUSE) {
				busy[owner] = port
			}
			if err == nil {
				_ = l.Close() // nothing was accepted
			}
		}
	}
	return busy
}

func tryCgroup(ctx context.Context) error {
	list, _, err := cgroups.Mounted()
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return errors.New("nothing is mounted below /sys/fs/cgroup")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return errors.Join(cgroups.Create(config.CgroupName), cgroups.KillAndRemove(ctx, config.CgroupName))
}

// tryOverlay mounts an overlay where containerd will.
func tryOverlay(state string) (err error) {
	if err := os.MkdirAll(filepath.Dir(state), 0o755); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Dir(state), ".vmcp-overlay-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			return err
		}
	}
	options := fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", dir)
	merged := filepath.Join(dir, "merged")
	if err := syscall.Mount("overlay", merged, "overlay", 0, options); err != nil {
		return err
	}
	return syscall.Unmount(merged, 0)
}
