// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cluster starts and stops a Kubernetes cluster on this machine.
// Everything that it makes is below one state directory, or has a name of its
// own, so that what an earlier run left, however it ended, can be told apart
// and removed.
package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/build"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/config"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/hostnet"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/kube"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/lock"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/process"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/progress"
)

const (
	// markFile makes a directory a cluster's state; nothing else is ever removed.
	markFile = ".vmcp-cluster-state"
	// nodeFile is there from before the first change to the machine's network, mounts and cgroups.
	nodeFile = "node"
	// recordFile is written when the cluster is up.
	recordFile = "cluster.json"
	// teardownTimeout bounds a down, also one that an interrupt started.
	teardownTimeout = time.Minute
)

// Cluster is one cluster on this machine, up or not.
type Cluster struct {
	Config   config.Config
	Builder  *build.Builder
	Progress *progress.Reporter

	daemons process.Supervisor
}

// New returns the cluster of the configuration.
func New(c config.Config, b *build.Builder, p *progress.Reporter) *Cluster {
	return &Cluster{
		Config: c, Builder: b, Progress: p,
		daemons: process.Supervisor{Proc: process.System, PIDs: c.Path("pids"), Logs: c.Path("logs")},
	}
}

// record is what is known about a cluster that came up.
type record struct {
	Stage config.Stage
	// Ports and addresses as they were at the start: the environment may differ by now.
	Config config.Config
}

// errDown means that there is no cluster; any other error that there is a broken one.
var errDown = errors.New("no cluster is up")

// inspect returns the record of a cluster that is up and well.
func (c *Cluster) inspect(ctx context.Context) (record, error) {
	if _, err := os.Stat(c.Config.State); errors.Is(err, fs.ErrNotExist) {
		return record{}, errDown
	}
	r, err := c.readRecord()
	if errors.Is(err, fs.ErrNotExist) {
		return r, errors.New("its start did not finish")
	}
	if err != nil {
		return r, err
	}
	if dead := c.daemons.Dead(); len(dead) > 0 {
		return r, fmt.Errorf("not running any more: %s", strings.Join(dead, ", "))
	}
	if r.Stage.Includes(config.Node) {
		if owner, err := hostnet.BridgeOwner(); err != nil || owner.State != c.Config.State {
			return r, fmt.Errorf("its bridge %s is gone", config.Bridge)
		}
		if !hostnet.Guarded() {
			return r, fmt.Errorf("its nftables table %s is gone", config.GuardTable)
		}
	}
	api, err := kube.New(r.Config.APIServer(), c.Config.Path("pki"))
	if err != nil {
		return r, err
	}
	if err := api.Ready(ctx); err != nil {
		return r, fmt.Errorf("its API server is not ready: %w", err)
	}
	return r, nil
}

func (c *Cluster) readRecord() (record, error) {
	var r record
	content, err := os.ReadFile(c.Config.Path(recordFile))
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(content, &r); err != nil {
		return r, fmt.Errorf("read %s: %w", recordFile, err)
	}
	return r, nil
}

func (c *Cluster) writeRecord(r record) error {
	content, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(c.Config.Path(recordFile), content, 0o644)
}

// ours refuses to touch a directory that is not a cluster's state.
func (c *Cluster) ours() error {
	entries, err := os.ReadDir(c.Config.State)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := os.Stat(c.Config.Path(markFile)); err != nil && len(entries) > 0 {
		return fmt.Errorf("%s exists and is not the state of a cluster: set VMCP_CLUSTER_STATE to another directory", c.Config.State)
	}
	return nil
}

// locked runs f as the only one that changes the cluster.
func (c *Cluster) locked(ctx context.Context, f func() error) (err error) {
	l, err := lock.Acquire(ctx, c.lockFile(), func() {
		c.Progress.Say("another run is changing the cluster in %s, waiting for it", c.Config.State)
	})
	if err != nil {
		return err
	}
	defer func() {
		// Beside the state, which is removed as a whole; it goes when the state is gone.
		if _, e := os.Stat(c.Config.State); errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, l.Remove())
			return
		}
		err = errors.Join(err, l.Release())
	}()
	return f()
}

func (c *Cluster) lockFile() string { return c.Config.State + ".lock" }

// Status prints what runs, and where things are.
func (c *Cluster) Status(ctx context.Context, out io.Writer) error {
	r, err := c.inspect(ctx)
	if errors.Is(err, errDown) {
		return fmt.Errorf("%w in %s", err, c.Config.State)
	}
	for _, name := range c.daemons.Names() {
		state := "running"
		p, alive := c.daemons.Lookup(name)
		if !alive {
			state = "dead"
		}
		fmt.Fprintf(out, "%-24s pid %-8d %s\n", name, p.PID, state)
	}
	if err != nil {
		return fmt.Errorf("the cluster in %s is broken: %w; up repairs it by starting anew", c.Config.State, err)
	}
	fmt.Fprintf(out, "%-24s %s\n", "stage", r.Stage)
	fmt.Fprintf(out, "%-24s %s\n", "API server", r.Config.APIServer())
	fmt.Fprintf(out, "%-24s %s, context %s\n", "kubeconfig", c.Config.Kubeconfig(), config.ContextName)
	if r.Stage.Includes(config.OLM) {
		fmt.Fprintf(out, "%-24s https://%s, authority %s\n", "image registry", r.Config.Registry(), r.Config.Authority())
	}
	fmt.Fprintf(out, "%-24s %s\n", "logs", c.Config.Path("logs"))
	fmt.Fprintf(out, "%-24s %s\n", "audit log", c.Config.AuditLog())
	return nil
}

// Env prints shell commands that make kubectl and ctr use the cluster. The
// paths need no quotes: package config refuses characters that would.
func (c *Cluster) Env(out io.Writer) error {
	r, err := c.readRecord()
	if err != nil {
		return fmt.Errorf("%w in %s", errDown, c.Config.State)
	}
	fmt.Fprintf(out, "export KUBECONFIG=%s\n", c.Config.Kubeconfig())
	// kubectl caches discovery per address for hours; the next cluster has the same address.
	fmt.Fprintf(out, "export KUBECACHEDIR=%s\n", c.Config.Path("kubecache"))
	fmt.Fprintf(out, "export VMCP_AUDIT_LOG=%s\n", c.Config.AuditLog())
	fmt.Fprintf(out, "export CONTAINERD_ADDRESS=%s\n", c.Config.ContainerdSocket())
	if r.Stage.Includes(config.OLM) {
		fmt.Fprintf(out, "export VMCP_REGISTRY=%s\n", r.Config.Registry())
		fmt.Fprintf(out, "export VMCP_REGISTRY_CA=%s\n", r.Config.Authority())
	}
	fmt.Fprintf(out, "export PATH=%s:$PATH\n", c.Config.Path("bin"))
	return nil
}

// LoadImages imports OCI archives into the node, where the kubelet finds them.
func (c *Cluster) LoadImages(ctx context.Context, archives []string) error {
	for _, file := range archives {
		if _, err := os.Stat(file); err != nil {
			return fmt.Errorf("image archive: %w", err)
		}
	}
	r, err := c.inspect(ctx)
	if err != nil {
		return fmt.Errorf("the cluster in %s cannot take images: %w; start it with up", c.Config.State, err)
	}
	if !r.Stage.Includes(config.Node) {
		return errors.New("only a control plane is up, which runs no images: take it down, then up node")
	}
	for _, file := range archives {
		err := c.Progress.Step("loading "+filepath.Base(file), func() error { return c.importImage(ctx, file) })
		if err != nil {
			return err
		}
	}
	return nil
}
