// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package config brings a runtime its configuration: from the file that the operator mounts and the ConfigMap behind it, or from
// manifests where there is no cluster.
package config

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/kube"
)

// Update is what a source has to say.
type Update struct {
	// Configuration replaces the one before. It is valid and is not changed afterwards. Nil means that the one before stays.
	Configuration *configv1alpha1.RuntimeConfiguration
	// Refused is why the newest configuration is not in force, for people. Nil means that it is.
	Refused error
}

// Source yields configurations.
type Source interface {
	// Initial is the configuration to start with.
	Initial() *configv1alpha1.RuntimeConfiguration
	// Run calls publish with each update, one call at a time, until ctx ends.
	Run(ctx context.Context, publish func(Update)) error
}

type fixed struct {
	initial *configv1alpha1.RuntimeConfiguration
}

// Fixed is a source of one configuration that never changes.
func Fixed(c *configv1alpha1.RuntimeConfiguration) Source { return fixed{initial: c} }

func (f fixed) Initial() *configv1alpha1.RuntimeConfiguration { return f.initial }

func (f fixed) Run(ctx context.Context, _ func(Update)) error {
	<-ctx.Done()
	return nil
}

// ReadFile reads and validates the configuration in a file.
func ReadFile(path string) (*configv1alpha1.RuntimeConfiguration, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	c, err := configv1alpha1.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// WatchOptions say where a configuration is to be found. All fields are required.
type WatchOptions struct {
	// Initial is the configuration to start with, usually that of the mounted file.
	Initial *configv1alpha1.RuntimeConfiguration
	// File is the path of the mounted file, ConfigMap the name of what it is mounted from.
	File, ConfigMap string
	ConfigMaps      kube.Getter[*corev1.ConfigMap]
	// CredentialsDir is where the Secrets are mounted that a configuration of source inline names.
	CredentialsDir string
	Logger         *slog.Logger
}

type watched struct{ options WatchOptions }

// Watch is a source that follows a ConfigMap in two ways: by a watch, because the kubelet may take minutes to bring a change to the file,
// and by the file, because the watch may be refused. A configuration of an older generation is ignored, and so is a file that is behind the
// watch. One that is not valid is refused, and one that this pod was not rolled for is left to its successor; the one before stays.
func Watch(o WatchOptions) Source {
	return &watched{options: o}
}

func (w *watched) Initial() *configv1alpha1.RuntimeConfiguration { return w.options.Initial }

func (w *watched) Run(ctx context.Context, publish func(Update)) error {
	i := newIntake(w, publish)
	var reading sync.WaitGroup
	reading.Go(func() {
		look := time.NewTicker(fileInterval)
		defer look.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-look.C:
				i.readFile()
			}
		}
	})
	defer reading.Wait()
	o := w.options
	kube.FollowOne(ctx, o.Logger, o.ConfigMaps, o.ConfigMap, i.watched, func(err error) {
		o.Logger.Warn("The ConfigMap cannot be watched; the mounted file is followed", "configMap", o.ConfigMap, "error", err)
	})
	return nil
}

// rolledFor says that the pod of this process was made for a configuration: it has the rights, and the mounts, that the configuration
// takes.
func (w *watched) rolledFor(c *configv1alpha1.RuntimeConfiguration) bool {
	if SourceOf(c) != SourceOf(w.options.Initial) {
		return false
	}
	for _, b := range c.Backends {
		if b.Auth == nil || b.Refused != nil {
			continue
		}
		for _, secret := range b.Auth.Spec.SecretNames() {
			if _, err := os.Stat(filepath.Join(w.options.CredentialsDir, secret)); errors.Is(err, fs.ErrNotExist) {
				return false
			}
		}
	}
	return true
}

// SourceOf says who finds the backends of a configuration, the default included.
func SourceOf(c *configv1alpha1.RuntimeConfiguration) v1alpha1.OutgoingAuthSource {
	return cmp.Or(c.Source, v1alpha1.OutgoingAuthSourceDiscovered)
}

// Await is the first configuration of a source in the named ConfigMap that is not older than another one, or nil if ctx ends before there is
// one.
func Await(
	ctx context.Context, than *configv1alpha1.RuntimeConfiguration, source v1alpha1.OutgoingAuthSource,
	configMaps kube.Getter[*corev1.ConfigMap], name string, logger *slog.Logger,
) *configv1alpha1.RuntimeConfiguration {
	ctx, found := context.WithCancel(ctx)
	defer found()
	var own *configv1alpha1.RuntimeConfiguration
	kube.FollowOne(ctx, logger, configMaps, name, func(object *corev1.ConfigMap) {
		c, err := next(than, object)
		switch {
		case err != nil:
			logger.Error("Refused a configuration; still waiting", "configMap", name, "error", err)
		case c != nil && SourceOf(c) == source && own == nil:
			own = c
			found()
		}
	}, nil)
	return own
}

// next is the configuration in a ConfigMap that replaces the current one, or nil when none does.
func next(current *configv1alpha1.RuntimeConfiguration, object *corev1.ConfigMap) (*configv1alpha1.RuntimeConfiguration, error) {
	if object == nil {
		return nil, nil //nolint:nilnil // Neither a configuration nor a mistake: the ConfigMap is about to be made or to be deleted.
	}
	data, there := object.Data[configv1alpha1.FileName]
	if !there {
		return nil, fmt.Errorf("the ConfigMap has no key %s", configv1alpha1.FileName)
	}
	return replacement(current, data)
}

// replacement is the configuration that data holds if it replaces the current one, else nil.
func replacement(current *configv1alpha1.RuntimeConfiguration, data string) (*configv1alpha1.RuntimeConfiguration, error) {
	c, err := configv1alpha1.Parse([]byte(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", configv1alpha1.FileName, err)
	}
	if current.UID != "" && c.UID != current.UID {
		return nil, nil //nolint:nilnil // That of another object of the same name; this process goes with its own.
	}
	if c.Generation < current.Generation || reflect.DeepEqual(c, current) {
		return nil, nil //nolint:nilnil // Nothing new.
	}
	return c, nil
}
