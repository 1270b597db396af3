// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/internal/version"
	"github.com/vmcp-dev/vmcp-operator/runtime"
	"github.com/vmcp-dev/vmcp-operator/runtime/config"
	"github.com/vmcp-dev/vmcp-operator/runtime/gateway"
	"github.com/vmcp-dev/vmcp-operator/runtime/peer"
)

// serveFlags are the flags of vmcp serve.
type serveFlags struct {
	config, manifests   string
	credentials         string
	sessionKeys         string
	listen, adminListen string
	peerListen          string
	peers               []string
	limits              gateway.Limits
	shutdownDelay       time.Duration
	pprofListen         string
}

const shutdownDelayUsage = "how long to serve on after SIGTERM, while answers close their connections, so that whoever balances the load hears of it before the port closes; 0 closes it at once"

func newServeCommand(log *logging) *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve {-f FILE | --config FILE}",
		Short: "Serve the backends of an MCPGroup as one MCP server",
		Long: `Serve the backends of an MCPGroup as one MCP server.

With -f it needs no cluster: FILE holds what kubectl apply would take, one VirtualMCPServer, its MCPGroup, the MCPBackends of
the group, all of them remote, and the MCPExternalAuthConfigs and Secrets with their credentials.

With --config it serves what the operator wrote to FILE. It finds backends through the API server, in a pod or by
$KUBECONFIG, unless FILE lists them, and reports into the VirtualMCPServer $VMCP_NAME in $VMCP_NAMESPACE as $POD_NAME.`,
		Example: `  vmcp serve -f manifests.yaml
  vmcp serve -f manifests.yaml --listen 127.0.0.1:4483 --admin-listen 127.0.0.1:4484`,
		Args: misused(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case f.config != "" && f.manifests != "":
				return misuse{errors.New("--config and -f exclude each other")}
			case f.manifests != "":
				return serveManifests(cmd, f, log)
			case f.config != "":
				return serveCluster(cmd, f, log)
			default:
				return misuse{errors.New("name a file of manifests with -f, or in a pod the configuration with --config")}
			}
		},
	}
	cmd.Flags().StringVarP(&f.manifests, "file", "f", "", "file of manifests to serve without a cluster")
	cmd.Flags().StringVar(&f.config, "config", "", "file with the configuration that the operator wrote")
	cmd.Flags().StringVar(&f.credentials, "credentials-dir", configv1alpha1.CredentialsDir,
		"with --config, folder below which the Secrets are mounted that a configuration of source inline names")
	cmd.Flags().StringVar(&f.sessionKeys, "session-keys-dir", "",
		"folder with the keys that seal the ids of sessions, in files named current, previous and next of 32 bytes each; replicas share it, and it is read anew when it changes (default a key of this process)")
	addLimits(cmd, &f.limits)
	cmd.Flags().DurationVar(&f.shutdownDelay, "shutdown-delay", 0, shutdownDelayUsage)
	cmd.Flags().StringVar(&f.peerListen, "peer-listen", "",
		"TCP address for other replicas of this gateway, which have the same --session-keys-dir; they reach it at $POD_IP, if that is set (default none)")
	cmd.Flags().StringSliceVar(&f.peers, "peers", nil,
		"HOST:PORT of the other replicas, where HOST is an address or a DNS name of several, as of a headless Service; this one may be among them")
	cmd.Flags().StringVar(&f.listen, "listen", "", "TCP address of the MCP endpoint (default :4483, with -f 127.0.0.1:4483)")
	cmd.Flags().StringVar(&f.adminListen, "admin-listen", "", "TCP address of /livez, /readyz and /metrics (default :4484, with -f 127.0.0.1:4484)")
	cmd.Flags().StringVar(&f.pprofListen, "pprof-listen", "", "TCP address of /debug/pprof/, on 127.0.0.1 unless it names a host (default none)")
	return cmd
}

// addLimits adds the flags for what clients can cost. They show the defaults.
func addLimits(cmd *cobra.Command, l *gateway.Limits) {
	flags, d := cmd.Flags(), gateway.DefaultLimits()
	flags.Int64Var(&l.BodyBytes, "max-body-bytes", d.BodyBytes, "largest body of a request")
	flags.IntVar(&l.Calls, "max-calls", d.Calls, "most requests to backends in flight at a time")
	flags.IntVar(&l.Sessions, "max-sessions", d.Sessions, "most sessions of which something has to be remembered: those that were not only initialized")
	flags.DurationVar(&l.SessionIdle, "session-idle", d.SessionIdle, "how long an unused session is remembered; its id goes on working")
	flags.IntVar(&l.Streams, "max-streams", d.Streams, "most open streams that belong to no call")
	flags.IntVar(&l.Subscriptions, "max-subscriptions", d.Subscriptions, "most resources that one session or subscription watches")
	flags.Int64Var(&l.KeptBytes, "max-kept-bytes", d.KeptBytes, "most bytes of events that are kept for clients that lost their connection")
	flags.IntVar(&l.PageSize, "page-size", d.PageSize, "entries on a page of a list; a negative number puts all on one page")
}

// serveCluster is what the pod runs.
func serveCluster(cmd *cobra.Command, f serveFlags, log *logging) error {
	logger, err := log.logger(cmd.ErrOrStderr(), formatJSON)
	if err != nil {
		return err
	}
	klog.SetSlogLogger(logger) // client-go's watches log here
	name, namespace := os.Getenv("VMCP_NAME"), os.Getenv("VMCP_NAMESPACE")
	if name == "" || namespace == "" {
		return misuse{errors.New("set VMCP_NAME and VMCP_NAMESPACE to the name and namespace of the VirtualMCPServer")}
	}
	pod := os.Getenv("POD_NAME")
	if pod == "" {
		if pod, err = os.Hostname(); err != nil {
			return fmt.Errorf("POD_NAME is not set, and the host has no name: %w", err)
		}
	}
	peering, err := f.peering()
	if err != nil {
		return err
	}
	if _, err := config.ReadFile(f.config); err != nil {
		return misuseUnlessUnreadable(err)
	}
	api, err := apiConfig()
	if err != nil {
		return err
	}
	options, err := runtime.Cluster(cmd.Context(), runtime.ClusterOptions{
		API: api, Name: name, Namespace: namespace, PodName: pod, ConfigFile: f.config, CredentialsDir: f.credentials,
		SessionKeysDir: f.sessionKeys, Peering: peering, Limits: f.limits, ShutdownDelay: f.shutdownDelay, Version: version.Version,
		Source: v1alpha1.OutgoingAuthSource(os.Getenv("VMCP_OUTGOING_AUTH_SOURCE")),
		Listen: orDefault(f.listen, "", gatewayPort), AdminListen: orDefault(f.adminListen, "", adminPort), Logger: logger,
	})
	if errors.Is(err, context.Canceled) {
		return nil // stopped while it waited for a configuration of its own
	}
	if err != nil {
		return err
	}
	stopPprof, err := servePprof(cmd.Context(), f.pprofListen, logger)
	if err != nil {
		return err
	}
	defer stopPprof()
	return runtime.Run(cmd.Context(), options)
}

// misuseUnlessUnreadable makes the error of reading a file a misuse, unless there was nothing to read.
func misuseUnlessUnreadable(err error) error {
	if unreadable := (*fs.PathError)(nil); errors.As(err, &unreadable) {
		return err
	}
	return misuse{err}
}

// apiConfig says how to reach the API server: as $KUBECONFIG says, or as a pod does.
func apiConfig() (*rest.Config, error) {
	if os.Getenv(clientcmd.RecommendedConfigPathEnvVar) == "" {
		api, err := rest.InClusterConfig()
		if err != nil {
			return nil, fmt.Errorf("finding the API server: %w; outside a cluster set KUBECONFIG, or use vmcp serve -f", err)
		}
		return api, nil
	}
	api, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		clientcmd.NewDefaultClientConfigLoadingRules(), &clientcmd.ConfigOverrides{}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("reading KUBECONFIG: %w", err)
	}
	return api, nil
}

// peering is how the other replicas are reached.
func (f *serveFlags) peering() (runtime.Peering, error) {
	if f.peerListen == "" {
		if len(f.peers) > 0 {
			return runtime.Peering{}, misuse{errors.New("--peers without --peer-listen: replicas listen to each other")}
		}
		return runtime.Peering{}, nil
	}
	if f.sessionKeys == "" {
		return runtime.Peering{}, misuse{errors.New("--peer-listen without --session-keys-dir: replicas know each other by these keys")}
	}
	for _, name := range f.peers {
		if err := peer.CheckReplica(name); err != nil {
			return runtime.Peering{}, misuse{fmt.Errorf("--peers: %w", err)}
		}
	}
	p := runtime.Peering{Listen: f.peerListen, Replicas: f.peers}
	if ip := os.Getenv("POD_IP"); ip != "" {
		var err error
		if p.Address, err = netip.ParseAddr(ip); err != nil {
			return runtime.Peering{}, misuse{fmt.Errorf("POD_IP: %w", err)}
		}
	}
	return p, nil
}
