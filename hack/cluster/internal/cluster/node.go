// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/assets"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/build"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/cgroups"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/config"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/hostnet"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/mounts"
)

const (
	containerdTimeout = time.Minute
	nodeTimeout       = 2 * time.Minute
	dnsTimeout        = 2 * time.Minute
)

// startRuntime makes the network, the cgroup and the mounts, and starts
// containerd without waiting for it.
func (s *starter) startRuntime() error {
	if err := os.WriteFile(s.Config.Path(nodeFile), nil, 0o644); err != nil {
		return err
	}
	if err := hostnet.Up(s.Config); err != nil {
		return err
	}
	if err := cgroups.Create(config.CgroupName); err != nil {
		return err
	}
	if err := s.nodeFiles(); err != nil {
		return err
	}
	if err := mounts.BindShared(s.Config.Path("kubelet")); err != nil {
		return err
	}
	return s.startDaemon(build.Containerd, "--config="+s.Config.Path("containerd.toml"))
}

func (s *starter) nodeFiles() error {
	for _, dir := range []string{"containerd", "cni/net.d", "cni/networks", "kubelet", "pod-logs", "registries/_default"} {
		if err := os.MkdirAll(s.Config.Path(dir), 0o755); err != nil {
			return fmt.Errorf("make state directory: %w", err)
		}
	}
	if err := os.Symlink(s.artifacts.CNI, s.Config.Path("cni", "bin")); err != nil {
		return fmt.Errorf("link CNI plugins: %w", err)
	}
	for asset, path := range map[string]string{
		"cni.conflist":        "cni/net.d/10-vmcp.conflist",
		"containerd.toml":     "containerd.toml",
		"registry-hosts.toml": "registries/_default/hosts.toml",
		"kubelet.yaml":        "kubelet.yaml",
		"kube-proxy.yaml":     "kube-proxy.yaml",
	} {
		if err := s.writeFile(asset, path); err != nil {
			return err
		}
	}
	// What pods inherit beside the cluster's DNS: no name server of the machine.
	return os.WriteFile(s.Config.Path("resolv.conf"), []byte("options ndots:5\n"), 0o644)
}

func (s *starter) importImages(ctx context.Context) error {
	err := s.wait(ctx, containerdTimeout, build.Containerd, build.Containerd, func(ctx context.Context) error {
		_, err := s.ctr(ctx, "version")
		return err
	})
	if err != nil {
		return err
	}
	for _, file := range s.artifacts.Images {
		if err := s.importImage(ctx, file); err != nil {
			return err
		}
	}
	return nil
}

// ctr calls containerd in the namespace of the kubelet.
func (c *Cluster) ctr(ctx context.Context, args ...string) (string, error) {
	args = append([]string{"--address=" + c.Config.ContainerdSocket(), "--namespace=k8s.io"}, args...)
	cmd := exec.CommandContext(ctx, c.Config.Path("bin", build.Ctr), args...)
	cmd.Env = c.environment()
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (c *Cluster) importImage(ctx context.Context, file string) error {
	if out, err := c.ctr(ctx, "images", "import", file); err != nil {
		return fmt.Errorf("import %s: %w: %s", file, err, out)
	}
	return nil
}

func (s *starter) node(ctx context.Context) error {
	err := s.startDaemon(build.Kubelet,
		"--config="+s.Config.Path("kubelet.yaml"), "--kubeconfig="+s.Config.Path("pki", "kubelet.kubeconfig"),
		"--root-dir="+s.Config.Path("kubelet"), "--cert-dir="+s.Config.Path("kubelet", "pki"),
		"--hostname-override="+config.NodeName, "--node-ip="+s.Config.NodeIP().String())
	if err != nil {
		return err
	}
	if err := s.apply(ctx, "node-manifests.yaml"); err != nil {
		return err
	}
	if err := s.startDaemon(build.KubeProxy, "--config="+s.Config.Path("kube-proxy.yaml")); err != nil {
		return err
	}
	err = s.wait(ctx, nodeTimeout, "the node", build.Kubelet, func(ctx context.Context) error { return s.api.NodeReady(ctx, config.NodeName) })
	if err != nil {
		return err
	}
	return s.wait(ctx, dnsTimeout, "CoreDNS", build.Kubelet, func(ctx context.Context) error {
		return s.api.DeploymentAvailable(ctx, "kube-system", "coredns")
	})
}

// apply sends an asset to the API server.
func (s *starter) apply(ctx context.Context, asset string) error {
	manifests, err := assets.Render(asset, s.Config)
	if err != nil {
		return err
	}
	return s.applyManifests(ctx, asset, manifests)
}

// applyManifests sends objects to the API server; name is for errors.
func (s *starter) applyManifests(ctx context.Context, name, manifests string) error {
	cmd := exec.CommandContext(ctx, s.artifacts.Programs[build.Kubectl], "apply", "--server-side", "--field-manager=vmcp-cluster", "-f", "-")
	cmd.Env = s.environment()
	cmd.Stdin = strings.NewReader(manifests)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kubectl apply %s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}
