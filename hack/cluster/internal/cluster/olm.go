// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/build"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/config"
	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/kube"
	"github.com/vmcp-dev/vmcp-operator/hack/images/image"
)

const (
	registryTimeout  = 30 * time.Second
	pushTimeout      = 5 * time.Minute
	discoveryTimeout = time.Minute
	olmTimeout       = 5 * time.Minute
	// mirrorFile tells containerd where images are pulled from; it is read at every pull.
	mirrorFile = "registries/_default/hosts.toml"
)

// addOLM adds the registry and OLM to a node that is up. Every step may be
// repeated: after a failure the node goes on, and the next run finishes.
func (c *Cluster) addOLM(ctx context.Context, running record, artifacts build.Artifacts) error {
	on := *c
	on.Config = running.Config
	s := &starter{Cluster: &on, stage: config.OLM, artifacts: artifacts}
	var err error
	if s.api, err = kube.New(s.Config.APIServer(), s.Config.Path("pki")); err != nil {
		return err
	}
	if err := build.LinkPrograms(s.Config.Path("bin"), onPath(artifacts.Programs)); err != nil {
		return err
	}
	if err := s.Progress.Step("image registry: starting", func() error { return s.registry(ctx) }); err != nil {
		return err
	}
	if err := s.Progress.Step("OLM "+config.OLMVersion+": starting", func() error { return s.olm(ctx) }); err != nil {
		return err
	}
	return c.writeRecord(record{Stage: config.OLM, Config: running.Config})
}

// registry starts the registry and makes it the place that the node pulls from.
func (s *starter) registry(ctx context.Context) error {
	if err := os.MkdirAll(s.Config.Path("registry"), 0o755); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	if _, alive := s.daemons.Lookup(build.Registry); !alive {
		err := s.startDaemon(build.Registry, "-listen="+s.Config.Registry(), "-blobs="+s.Config.Path("registry"),
			"-cert="+s.Config.Path("pki", "registry.crt"), "-key="+s.Config.Path("pki", "registry.key"))
		if err != nil {
			return err
		}
	}
	err := s.wait(ctx, registryTimeout, "the image registry", build.Registry, dial(s.Config.NodeIP().String(), s.Config.Ports.Registry))
	if err != nil {
		// A daemon that died would make the whole cluster a broken one.
		return errors.Join(err, s.daemons.Stop(context.WithoutCancel(ctx), build.Registry))
	}
	return s.writeFile("registry-mirror.toml", mirrorFile)
}

func (s *starter) olm(ctx context.Context) error {
	for _, file := range s.artifacts.OLM.Images {
		if err := s.importImage(ctx, file); err != nil {
			return err
		}
	}
	for _, file := range s.artifacts.OLM.Pushed {
		if _, err := s.pushImage(ctx, file); err != nil {
			return err
		}
	}
	if err := s.applyFile(ctx, s.artifacts.OLM.CRDs); err != nil {
		return err
	}
	// Kinds are found a moment after their definitions were taken.
	err := s.wait(ctx, discoveryTimeout, "OLM's manifests", build.APIServer, func(ctx context.Context) error {
		return s.applyFile(ctx, s.artifacts.OLM.Manifests)
	})
	if err != nil {
		return err
	}
	for _, name := range []string{"olm-operator", "catalog-operator"} {
		err := s.wait(ctx, olmTimeout, name, build.Kubelet, func(ctx context.Context) error {
			return s.api.DeploymentAvailable(ctx, "olm", name)
		})
		if err != nil {
			return err
		}
	}
	// OLM's own API is an operator that it installs.
	return s.wait(ctx, olmTimeout, "OLM's packageserver", build.Kubelet, func(ctx context.Context) error {
		return s.api.CSVSucceeded(ctx, "olm", "packageserver")
	})
}

func (s *starter) applyFile(ctx context.Context, file string) error {
	manifests, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read %s: %w", filepath.Base(file), err)
	}
	return s.applyManifests(ctx, filepath.Base(file), string(manifests))
}

// PushImages uploads OCI archives to the registry, from where the node pulls
// them by the very names they have, whatever registry those name.
func (c *Cluster) PushImages(ctx context.Context, archives []string) error {
	r, err := c.inspect(ctx)
	if err != nil {
		return fmt.Errorf("the cluster in %s cannot take images: %w; start it with up olm", c.Config.State, err)
	}
	if !r.Stage.Includes(config.OLM) {
		return errors.New("this cluster has no registry: up olm adds one")
	}
	on := *c
	on.Config = r.Config
	for _, file := range archives {
		err := c.Progress.Step("pushing "+filepath.Base(file), func() error {
			ref, err := on.pushImage(ctx, file)
			if err == nil {
				c.Progress.Say("pushed %s", ref)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// pushImage uploads an archive under the path of its name and returns the digest's reference.
func (c *Cluster) pushImage(ctx context.Context, archive string) (string, error) {
	ref, err := image.ArchiveReference(archive)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, pushTimeout, fmt.Errorf("not through after %v", pushTimeout))
	defer cancel()
	_, path, _ := strings.Cut(ref, "/")
	return image.Push(ctx, archive, c.Config.Registry()+"/"+path, image.PushOptions{Authority: c.Config.Authority()})
}
