// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/build"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/cgroups"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/config"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/hostnet"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/mounts"
)

// leave says what a teardown leaves.
type leave bool

const (
	removeAll leave = false
	keepLogs  leave = true // and the mark, so that the next run removes them
)

// Down stops the cluster and removes everything of it, in whatever state it
// is. Without a cluster it does nothing.
func (c *Cluster) Down(ctx context.Context) error {
	return c.locked(ctx, func() error {
		if err := c.ours(); err != nil {
			return err
		}
		_, err := os.Stat(c.Config.State)
		if errors.Is(err, fs.ErrNotExist) && !c.leftOnMachine() {
			c.Progress.Say("no cluster is up in %s", c.Config.State)
			return nil
		}
		return c.Progress.Step("taking the cluster in "+c.Config.State+" down", func() error {
			ctx, cancel := context.WithTimeout(ctx, teardownTimeout)
			defer cancel()
			return c.teardown(ctx, removeAll)
		})
	})
}

// leftOnMachine tells whether anything of a cluster remains outside its state
// directory, which may be gone.
func (c *Cluster) leftOnMachine() bool {
	return c.hasNode() || len(c.daemons.Proc.Find(c.isOurs)) > 0
}

// hasNode tells whether the machine's network, mounts and cgroups were changed
// for this cluster.
func (c *Cluster) hasNode() bool {
	if os.Geteuid() != 0 {
		return false
	}
	if _, err := os.Stat(c.Config.Path(nodeFile)); err == nil {
		return true
	}
	owner, err := hostnet.BridgeOwner()
	return err == nil && owner.State == c.Config.State
}

// sharedDirs are made by the programs of a node, at places that cannot be
// chosen; they are removed where nothing is left in them.
var sharedDirs = []string{
	"/run/containerd/s", "/run/containerd", "/var/lib/cni/results", "/var/lib/cni", "/var/log/containers",
	"/var/lib/kubelet/device-plugins", "/var/lib/kubelet",
}

// teardown removes the cluster. It goes on after an error, because every
// remaining part removed is one less to remove by hand.
func (c *Cluster) teardown(ctx context.Context, leave leave) error {
	node := c.hasNode()
	sockets := c.shimSockets()
	var failures []error
	failed := func(err error) { failures = append(failures, err) }

	// Kubelet and controllers first: they would replace what goes.
	failed(c.daemons.Stop(ctx, build.Kubelet, build.KubeProxy, build.Scheduler, build.ControllerManager))
	if node {
		failed(cgroups.KillAndRemove(ctx, config.CgroupName)) // every pod
	}
	failed(c.daemons.Stop(ctx, slices.DeleteFunc(c.daemons.Names(), func(n string) bool { return n == build.Etcd })...))
	failed(c.daemons.Stop(ctx, build.Etcd))
	// Shims, and daemons whose pid file was lost.
	failed(c.daemons.Proc.Kill(ctx, c.daemons.Proc.Find(c.isOurs)))
	if node {
		failed(c.removeFromMachine(sockets))
	}
	failed(c.removeState(leave))
	if err := errors.Join(failures...); err != nil {
		return fmt.Errorf("take down the cluster in %s: %w", c.Config.State, err)
	}
	return nil
}

// isOurs recognises a daemon of the cluster: one of its programs, told of the
// state directory. That survives the loss of every file.
func (c *Cluster) isOurs(exe string, args []string) bool {
	return slices.Contains(build.Daemons, filepath.Base(exe)) &&
		slices.ContainsFunc(args, func(arg string) bool { return strings.Contains(arg, c.Config.State+"/") })
}

// removeFromMachine removes what is outside the state directory, or mounted in it.
func (c *Cluster) removeFromMachine(sockets []string) error {
	failures := []error{mounts.UnmountBelow(c.Config.State), hostnet.Down()}
	for _, socket := range sockets {
		failures = append(failures, ignoreNotExist(os.Remove(socket)))
	}
	failures = append(failures, c.removeLogLinks(), c.removeCNIResults(), removeDevicePluginSocket())
	for _, dir := range sharedDirs {
		_ = syscall.Rmdir(dir) // fails while somebody else uses it
	}
	return errors.Join(failures...)
}

// shimSocket is the address of a containerd shim, in a directory that cannot be chosen.
var shimSocket = regexp.MustCompile(`/run/containerd/s/[0-9a-f]{64}`)

// shimSockets finds the sockets of this cluster's shims in the files that
// containerd keeps about them.
func (c *Cluster) shimSockets() []string {
	var sockets []string
	for _, name := range []string{"bootstrap.json", "address"} {
		files, err := filepath.Glob(c.Config.Path("containerd", "state", "io.containerd.runtime.v2.task", "*", "*", name))
		if err != nil {
			continue // only a malformed pattern
		}
		for _, file := range files {
			if content, err := os.ReadFile(file); err == nil {
				sockets = append(sockets, shimSocket.FindAllString(string(content), -1)...)
			}
		}
	}
	slices.Sort(sockets)
	return slices.Compact(sockets)
}

// removeLogLinks removes the links to our pods' logs that the kubelet makes in
// a directory that cannot be chosen.
func (c *Cluster) removeLogLinks() error {
	links, err := filepath.Glob("/var/log/containers/*")
	if err != nil {
		return err
	}
	var failures []error
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, c.Config.State+"/") {
			failures = append(failures, ignoreNotExist(os.Remove(link)))
		}
	}
	return errors.Join(failures...)
}

// removeCNIResults removes libcni's cache of our pods: their network
// namespaces are below the state directory.
func (c *Cluster) removeCNIResults() error {
	files, err := filepath.Glob("/var/lib/cni/results/*")
	if err != nil {
		return err
	}
	var failures []error
	for _, file := range files {
		if content, err := os.ReadFile(file); err == nil && strings.Contains(string(content), c.Config.State+"/") {
			failures = append(failures, ignoreNotExist(os.Remove(file)))
		}
	}
	return errors.Join(failures...)
}

// devicePluginSocket is where every kubelet listens, whatever its root directory.
const devicePluginSocket = "/var/lib/kubelet/device-plugins/kubelet.sock"

// removeDevicePluginSocket removes the socket if no kubelet listens any more.
func removeDevicePluginSocket() error {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(context.Background(), "unix", devicePluginSocket)
	if err == nil {
		return conn.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return ignoreNotExist(err)
	}
	return ignoreNotExist(os.Remove(devicePluginSocket))
}

func ignoreNotExist(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// removeState removes the state directory, or all of it but the logs. Nothing
// may be mounted below it: what a mount leads to is not ours to delete.
func (c *Cluster) removeState(leave leave) error {
	content, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return fmt.Errorf("list mounts: %w", err)
	}
	if left := mounts.Below(string(content), c.Config.State); len(left) > 0 {
		return fmt.Errorf("still mounted, so nothing is deleted: %s", strings.Join(left, ", "))
	}
	if leave == removeAll {
		return os.RemoveAll(c.Config.State)
	}
	entries, err := os.ReadDir(c.Config.State)
	if err != nil {
		return ignoreNotExist(err)
	}
	var failures []error
	for _, e := range entries {
		if e.Name() != "logs" && e.Name() != markFile {
			failures = append(failures, os.RemoveAll(c.Config.Path(e.Name())))
		}
	}
	return errors.Join(failures...)
}
