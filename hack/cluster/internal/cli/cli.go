// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cli is the command line of the cluster program.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/build"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/cluster"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/config"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/preflight"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/progress"
)

// Usage is what help prints.
const Usage = `cluster runs Kubernetes ` + config.KubernetesVersion + ` on this machine, built from pinned Go modules.

  cluster up [node|cp|olm]      bring it up, building first what is missing
                                  node  pods run (the default; needs root)
                                  cp    control plane only: pods stay Pending
                                  olm   OLM too, and a registry; added to a node that is up
  cluster down                  stop it and remove everything of it
  cluster load-image FILE...    import OCI archives into the node
  cluster push-image FILE...    upload OCI archives to the registry (olm): the node pulls them by their names
  cluster status                what runs, and where its files are
  cluster env                   shell commands to use it: eval "$(cluster env)"
  cluster build [node|cp|olm|envtest]
                                build only; envtest prints a directory for KUBEBUILDER_ASSETS
  cluster help

Environment:
  VMCP_CACHE           what is built          (default ${XDG_CACHE_HOME:-~/.cache}/vmcp-operator)
  VMCP_CLUSTER_STATE   what runs              (default /tmp/vmcp-operator-cluster)
  VMCP_POD_CIDR        addresses of pods      (default 10.244.0.0/24)
  VMCP_SERVICE_CIDR    addresses of Services  (default 10.96.0.0/16)
  VMCP_PORT_OFFSET     added to every port    (default 0: the API server is at 6443)
  VMCP_CLUSTER_MODS    the pinned modules     (default hack/cluster/mods of this repository)
`

// ErrUsage is a command line that cannot be run; its reason is already printed.
var ErrUsage = errors.New("usage")

// Run runs one command. Progress goes to stderr, what a caller reads to stdout.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		fmt.Fprint(stderr, Usage)
		return ErrUsage
	}
	command, args := args[0], args[1:]
	switch command {
	case "help", "-h", "-help", "--help":
		fmt.Fprint(stdout, Usage)
		return nil
	case "up", "down", "load-image", "push-image", "status", "env", "build":
	default:
		return usage(stderr, "unknown command %q", command)
	}
	c, err := newCluster(stderr)
	if err != nil {
		return err
	}
	switch command {
	case "up":
		return up(ctx, c, args, stdout, stderr)
	case "build":
		return buildOnly(ctx, c, args, stdout, stderr)
	case "load-image", "push-image":
		if len(args) == 0 {
			return usage(stderr, "%s needs archives", command)
		}
		if command == "push-image" {
			return c.PushImages(ctx, args)
		}
		return c.LoadImages(ctx, args)
	}
	if len(args) > 0 {
		return usage(stderr, "%s takes no argument", command)
	}
	switch command {
	case "down":
		return c.Down(ctx)
	case "status":
		return c.Status(ctx, stdout)
	default:
		return c.Env(stdout)
	}
}

func usage(stderr io.Writer, format string, args ...any) error {
	fmt.Fprintf(stderr, "cluster: "+format+"\n\n%s", append(args, Usage)...)
	return ErrUsage
}

func newCluster(stderr io.Writer) (*cluster.Cluster, error) {
	if err := preflight.AddSystemPath(); err != nil {
		return nil, err
	}
	c, err := config.FromEnvironment(os.Getenv)
	if err != nil {
		return nil, err
	}
	p := progress.New(stderr)
	return cluster.New(c, &build.Builder{Cache: c.Cache, Progress: p}, p), nil
}

// findMods is left until something may have to be built: down and status work anywhere.
func findMods(c *cluster.Cluster) error {
	var starts []string
	if exe, err := os.Executable(); err == nil {
		starts = append(starts, filepath.Dir(exe))
	}
	if dir, err := os.Getwd(); err == nil {
		starts = append(starts, dir)
	}
	var err error
	c.Builder.Mods, err = build.FindMods(c.Config.Mods, starts...)
	return err
}

// choice returns the one optional argument, which must be among the choices; the first is the default.
func choice(args []string, choices ...string) (string, error) {
	if len(args) == 0 {
		return choices[0], nil
	}
	if len(args) == 1 {
		for _, c := range choices {
			if args[0] == c {
				return c, nil
			}
		}
	}
	return "", fmt.Errorf("want one of %v, got %v", choices, args)
}

func up(ctx context.Context, c *cluster.Cluster, args []string, stdout, stderr io.Writer) error {
	stage, err := choice(args, string(config.Node), string(config.ControlPlane), string(config.OLM))
	if err != nil {
		return usage(stderr, "up: %v", err)
	}
	if err := findMods(c); err != nil {
		return err
	}
	if err := c.Up(ctx, config.Stage(stage)); err != nil {
		return err
	}
	return c.Env(stdout)
}

func buildOnly(ctx context.Context, c *cluster.Cluster, args []string, stdout, stderr io.Writer) error {
	set, err := choice(args, string(build.Node), string(build.ControlPlane), string(build.OLM), string(build.Envtest))
	if err != nil {
		return usage(stderr, "build: %v", err)
	}
	if err := findMods(c); err != nil {
		return err
	}
	if build.Set(set) == build.Envtest {
		dir, err := c.Builder.Assets(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintln(stdout, dir)
		return nil
	}
	if build.Set(set) == build.OLM && os.Geteuid() == 0 {
		// Part of its images is the distribution's.
		if err := preflight.InstallPackages(ctx, c.Progress, config.OLM); err != nil {
			return err
		}
	}
	_, err = c.Builder.Build(ctx, build.Set(set))
	if err == nil {
		c.Progress.Say("everything for %s is built in %s, %s in total", set, c.Config.Cache, c.Progress.Total())
	}
	return err
}
