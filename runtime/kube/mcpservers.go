// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

const (
	// installedInterval keeps a gateway that waits for the kind within four requests a minute, those for its Lease included.
	installedInterval = 90 * time.Second
	// installedTimeout bounds one look; installedRetry is the time to the next one after an error.
	installedTimeout = 10 * time.Second
	installedRetry   = 10 * time.Second
)

// MCPServers reads the MCPServers of mcp.x-k8s.io of one namespace, a kind of another project that may be installed, or not, or later.
type MCPServers struct {
	// Interval is the time between two looks whether the kind is installed by now.
	Interval time.Duration

	discovery rest.Interface
	dynamic   dynamic.Interface
	namespace string
}

func newMCPServers(config *rest.Config, httpClient *http.Client, namespace string) (*MCPServers, error) {
	api, err := discovery.NewDiscoveryClientForConfigAndClient(config, httpClient)
	if err != nil {
		return nil, fmt.Errorf("making the client of the API's groups: %w", err)
	}
	objects, err := dynamic.NewForConfigAndClient(config, httpClient)
	if err != nil {
		return nil, fmt.Errorf("making the client of %s: %w", v1alpha1.MCPServerGroup, err)
	}
	return &MCPServers{Interval: installedInterval, discovery: api.RESTClient(), dynamic: objects, namespace: namespace}, nil
}

// Follow does as FollowList does with the MCPServers that the selector lets through. While their kind is not installed there are none,
// which is no failure.
func (m *MCPServers) Follow(
	ctx context.Context, logger *slog.Logger, selector Selector, on func(map[string]*unstructured.Unstructured), failed func(error),
) {
	for {
		version, err := m.version(ctx)
		pause := m.Interval
		switch {
		case err == nil:
			pause = m.followVersion(ctx, logger, version, selector, on, failed)
		case apierrors.IsNotFound(err):
			on(nil)
		default:
			pause = installedRetry
			if ctx.Err() == nil && refused(err) {
				failed(err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// followVersion follows until ctx ends or the API server does not know the kind in this version any more. It returns the time to the
// next look.
func (m *MCPServers) followVersion(
	ctx context.Context, logger *slog.Logger, version string, selector Selector, on func(map[string]*unstructured.Unstructured), failed func(error),
) time.Duration {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var gone atomic.Bool
	FollowList(ctx, logger, m.in(version), selector, on, func(err error) {
		if apierrors.IsNotFound(err) {
			gone.Store(true)
			stop()
			return
		}
		failed(err)
	})
	if !gone.Load() {
		return 0
	}
	on(nil)
	return m.Interval
}

// version is the one in which the API server prefers to serve the group. The error is NotFound where the group is not installed.
func (m *MCPServers) version(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, installedTimeout)
	defer cancel()
	group := &metav1.APIGroup{}
	if err := m.discovery.Get().AbsPath("/apis/" + v1alpha1.MCPServerGroup).Do(ctx).Into(group); err != nil {
		return "", err
	}
	return group.PreferredVersion.Version, nil
}

func (m *MCPServers) in(version string) Lister[*unstructured.UnstructuredList] {
	resource := schema.GroupVersionResource{Group: v1alpha1.MCPServerGroup, Version: version, Resource: v1alpha1.MCPServerResource}
	return m.dynamic.Resource(resource).Namespace(m.namespace)
}
