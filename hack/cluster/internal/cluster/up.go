// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/build"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/config"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/kube"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/preflight"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/process"
)

// errAlreadyUp ends an up that has nothing to do.
var errAlreadyUp = errors.New("already up")

// Up brings the cluster up, building first what is missing. It does nothing
// when the cluster is up and well, adds OLM to a node that lacks only that, and
// starts anew when the cluster is broken. What a failed or interrupted start of
// the node made is removed; after a failure the logs stay.
func (c *Cluster) Up(ctx context.Context, stage config.Stage) error {
	if stage.Includes(config.Node) && os.Geteuid() != 0 {
		// Nothing else can be found out without root, and the files of an earlier run are root's.
		return preflight.Check(preflight.Facts{}, c.Config, stage)
	}
	// Before the build, which may take minutes, and again after it: another
	// run may have been quicker.
	err := c.locked(ctx, func() error {
		_, err := c.prepare(ctx, stage)
		return err
	})
	if err == nil {
		var artifacts build.Artifacts
		if artifacts, err = c.Builder.Build(ctx, build.Set(stage)); err == nil {
			err = c.locked(ctx, func() error {
				return c.complete(ctx, stage, artifacts)
			})
		}
	}
	if errors.Is(err, errAlreadyUp) {
		c.Progress.Say("the cluster in %s is already up (%s)", c.Config.State, stage)
		return nil
	}
	if err != nil {
		return err
	}
	c.Progress.Say("the cluster is up (%s), %s in total", stage, c.Progress.Total())
	return nil
}

// complete starts what of the stage does not run yet.
func (c *Cluster) complete(ctx context.Context, stage config.Stage, artifacts build.Artifacts) error {
	running, err := c.prepare(ctx, stage)
	if err != nil {
		return err
	}
	if running.Stage == "" {
		running = record{Stage: stage, Config: c.Config}
		if stage == config.OLM {
			running.Stage = config.Node
		}
		if err := c.start(ctx, running, artifacts); err != nil {
			return err
		}
	}
	if stage == config.OLM {
		return c.addOLM(ctx, running, artifacts)
	}
	return nil
}

// prepare leaves a machine on which the stage can start, or says why it
// cannot. What runs already and can be added to is returned.
func (c *Cluster) prepare(ctx context.Context, stage config.Stage) (record, error) {
	if err := c.ours(); err != nil {
		return record{}, err
	}
	running, err := c.inspect(ctx)
	switch {
	case err == nil && running.Stage.Includes(stage):
		return record{}, errAlreadyUp
	case err == nil && running.Stage.Includes(config.Node):
		return running, preflight.InstallPackages(ctx, c.Progress, stage)
	case err == nil:
		return record{}, fmt.Errorf("a control plane without a node is up in %s: take it down first", c.Config.State)
	case ctx.Err() != nil:
		return record{}, context.Cause(ctx)
	case !errors.Is(err, errDown):
		c.Progress.Say("an earlier cluster is broken (%v): starting anew", err)
	}
	if err := c.teardown(ctx, removeAll); err != nil {
		return record{}, err
	}
	if stage.Includes(config.Node) {
		preflight.LoadModules(ctx)
	}
	facts, err := preflight.Gather(ctx, c.Config, stage)
	if err != nil {
		return record{}, fmt.Errorf("look at the machine: %w", err)
	}
	if err := preflight.Check(facts, c.Config, stage); err != nil {
		return record{}, err
	}
	if stage.Includes(config.Node) {
		return record{}, preflight.InstallPackages(ctx, c.Progress, stage)
	}
	return record{}, nil
}

// start starts the control plane, and the node if there is to be one, and
// stops everything again when it does not succeed.
func (c *Cluster) start(ctx context.Context, wanted record, artifacts build.Artifacts) (err error) {
	defer func() {
		if err == nil {
			return
		}
		leave := keepLogs
		if ctx.Err() != nil {
			err, leave = context.Cause(ctx), removeAll
		}
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), teardownTimeout)
		defer cancel()
		c.Progress.Say("removing what was started")
		err = errors.Join(err, c.teardown(clean, leave))
	}()
	if err := c.makeState(artifacts); err != nil {
		return err
	}
	s := &starter{Cluster: c, stage: wanted.Stage, artifacts: artifacts}
	if err := s.run(ctx); err != nil {
		return err
	}
	return c.writeRecord(wanted)
}

func (c *Cluster) makeState(artifacts build.Artifacts) error {
	for _, dir := range []string{"", "pids", "logs", "etcd", "run", "kubecache"} {
		if err := os.MkdirAll(c.Config.Path(dir), 0o755); err != nil {
			return fmt.Errorf("make state directory: %w", err)
		}
		if dir != "" {
			continue
		}
		if err := os.WriteFile(c.Config.Path(markFile), nil, 0o644); err != nil {
			return fmt.Errorf("make state directory: %w", err)
		}
	}
	// The audit log tells who did what, the pids who runs: for the owner's eyes.
	if err := os.Chmod(c.Config.State, 0o700); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	// Links pin the builds that this cluster started with, whatever is built later.
	return build.LinkPrograms(c.Config.Path("bin"), onPath(artifacts.Programs))
}

// onPath leaves out what nobody calls by name.
func onPath(programs map[string]string) map[string]string {
	list := map[string]string{}
	for _, name := range build.OnPath {
		if file, ok := programs[name]; ok {
			list[name] = file
		}
	}
	return list
}

// starter is one attempt to start a cluster.
type starter struct {
	*Cluster
	stage     config.Stage
	artifacts build.Artifacts
	api       *kube.Client
}

// run starts things in the order in which they need each other, and waits as
// late as it can.
func (s *starter) run(ctx context.Context) error {
	node := s.stage.Includes(config.Node)
	if err := s.writePKI(); err != nil {
		return err
	}
	if node {
		if err := s.Progress.Step("network and containerd: starting", func() error { return s.startRuntime() }); err != nil {
			return err
		}
	}
	err := s.Progress.Step("control plane "+config.KubernetesVersion+": starting", func() error { return s.controlPlane(ctx) })
	if err != nil || !node {
		return err
	}
	return s.Progress.Step("node and DNS: starting", func() error { return s.node(ctx) })
}

// startDaemon starts a program of the cluster.
func (s *starter) startDaemon(name string, args ...string) error {
	return s.daemons.Start(process.Command{
		Name: name, Path: s.artifacts.Programs[name], Args: args, Env: s.environment(),
	})
}

// environment is all that the cluster's programs get. Not the caller's: its
// proxy settings would send requests for pods and the API server elsewhere.
func (c *Cluster) environment() []string {
	return []string{
		"PATH=" + c.Config.Path("bin") + ":" + os.Getenv("PATH"), // where containerd looks for its shim
		"HOME=" + c.Config.State,
		"KUBECONFIG=" + c.Config.Kubeconfig(),
		"KUBECACHEDIR=" + c.Config.Path("kubecache"),
	}
}

// wait polls until a condition holds. It ends early when a daemon dies.
func (s *starter) wait(ctx context.Context, limit time.Duration, what, log string, condition func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not ready after %v", limit))
	defer cancel()
	for {
		err := condition(ctx)
		if err == nil {
			return nil
		}
		if dead := s.daemons.Dead(); len(dead) > 0 {
			return fmt.Errorf("%s ended while waiting for %s:\n%s\nthe whole log is %s",
				dead[0], what, process.Tail(s.daemons.LogFile(dead[0]), 15), s.daemons.LogFile(dead[0]))
		}
		select {
		case <-ctx.Done():
			file := s.daemons.LogFile(log)
			return fmt.Errorf("%s: %w (last: %w); %s says:\n%s\nthe whole log is %s",
				what, context.Cause(ctx), err, log, process.Tail(file, 10), file)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
