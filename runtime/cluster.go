// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"log/slog"
	"time"

	"k8s.io/client-go/rest"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/config"
	"github.com/vmcp-dev/vmcp-operator/runtime/discovery"
	"github.com/vmcp-dev/vmcp-operator/runtime/gateway"
	"github.com/vmcp-dev/vmcp-operator/runtime/kube"
	"github.com/vmcp-dev/vmcp-operator/runtime/pause"
	"github.com/vmcp-dev/vmcp-operator/runtime/status"
	"github.com/vmcp-dev/vmcp-operator/runtime/telemetry"
)

// ClusterOptions identifies a runtime in a cluster. All fields without a remark are required.
type ClusterOptions struct {
	// API says how to reach the API server.
	API *rest.Config
	// Name and Namespace are those of the VirtualMCPServer.
	Name, Namespace string
	// PodName names this process among the replicas.
	PodName string
	// ConfigFile is the path of the mounted configuration.
	ConfigFile string
	// Source is the source of backends that the pod was rolled for. Empty: whichever the configuration has.
	Source v1alpha1.OutgoingAuthSource
	// CredentialsDir is the folder below which the Secrets are mounted that a configuration of source inline names.
	CredentialsDir string
	// SessionKeysDir, Peering, Limits and ShutdownDelay are as in Options.
	SessionKeysDir string
	Peering        Peering
	Limits         gateway.Limits
	ShutdownDelay  time.Duration
	// Version is the version of the program.
	Version string
	// Listen and AdminListen are as in Options.
	Listen, AdminListen string
	// Lease is the policy by which the Lease is held. Zero means status.DefaultLeasePolicy.
	Lease status.LeasePolicy
	// Logger is where the runtime logs.
	Logger *slog.Logger
}

// Cluster makes the options of a runtime that the operator provisioned: its configuration comes from the file and the ConfigMap
// behind it, its backends from the API server or, with source inline, from the configuration, and it reports into the VirtualMCPServer. It reads the file and sends nothing,
// unless the file is not for this pod: then it waits until there is a configuration that is, or ctx ends.
func Cluster(ctx context.Context, o ClusterOptions) (Options, error) {
	clients, err := kube.New(o.API, o.Namespace, o.Name)
	if err != nil {
		return Options{}, err
	}
	metrics, pauses := telemetry.NewMetrics(o.Version), &pause.Detector{}
	initial, err := awaitStart(ctx, o, clients, metrics)
	if err != nil {
		return Options{}, err
	}
	reporter := status.NewKubeReporter(status.KubeReporterOptions{
		Clients: clients, Name: o.Name, UID: initial.UID, Identity: status.Identity{Reporter: o.PodName, Version: o.Version}, Lease: o.Lease, Pauses: pauses,
		Applied: metrics.Apply, Logger: o.Logger,
	})
	metrics.Reporter(func() bool { return reporter.Duty().Reporting })
	return Options{
		Name:        o.Name,
		Version:     o.Version,
		Listen:      o.Listen,
		AdminListen: o.AdminListen,
		Config: config.Watch(config.WatchOptions{
			Initial: initial, File: o.ConfigFile, ConfigMap: v1alpha1.OperandName(o.Name), ConfigMaps: clients.ConfigMaps,
			CredentialsDir: o.CredentialsDir, Logger: o.Logger,
		}),
		Discover: func(c *configv1alpha1.RuntimeConfiguration) discovery.Discoverer {
			if c.Source == v1alpha1.OutgoingAuthSourceInline {
				return discovery.Inline(c.Backends, o.CredentialsDir)
			}
			return discovery.Kubernetes(discovery.KubernetesOptions{
				Clients: clients, Group: c.Group, Discovery: c.Discovery, Auth: c.OutgoingAuth(), Logger: o.Logger,
			})
		},
		Reporter:       reporter,
		SessionKeysDir: o.SessionKeysDir,
		Peering:        o.Peering,
		Limits:         o.Limits,
		ShutdownDelay:  o.ShutdownDelay,
		Replica:        reporter,
		Pauses:         pauses,
		Metrics:        metrics,
		Logger:         o.Logger,
	}, nil
}
