// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/internal/version"
	"github.com/vmcp-dev/vmcp-operator/runtime"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/config"
	"github.com/vmcp-dev/vmcp-operator/runtime/discovery"
	"github.com/vmcp-dev/vmcp-operator/runtime/status"
)

const (
	gatewayPort = v1alpha1.GatewayPort
	adminPort   = v1alpha1.AdminPort
	loopback    = "127.0.0.1"
)

// orDefault is an address to listen on, or that of a host and port if none is given.
func orDefault(address, host string, port int32) string {
	if address != "" {
		return address
	}
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// serveManifests serves a file of manifests without a cluster.
func serveManifests(cmd *cobra.Command, f serveFlags, log *logging) error {
	stderr := cmd.ErrOrStderr()
	logger, err := log.logger(stderr, formatText)
	if err != nil {
		return err
	}
	s, err := config.Load(f.manifests)
	if err != nil {
		return misuseUnlessUnreadable(err)
	}
	for _, warning := range s.Warnings {
		logger.Warn("Check the manifests", "warning", warning)
	}
	targets := make([]backend.Target, len(s.Backends))
	for i, b := range s.Backends {
		targets[i] = discovery.Authenticate(discovery.TargetOf(b.Member()), s.Auth(b), s.Credential)
	}
	slices.SortFunc(targets, func(a, b backend.Target) int { return a.Compare(b.Key) })
	listen := orDefault(f.listen, loopback, gatewayPort)
	configuration := s.Configuration()
	own, err := hostsOf(listen)
	if err != nil {
		return err
	}
	configuration.AllowedHosts = s.Server.Spec.Endpoint.Hosts(own)
	configuration.OwnURLs = ownURLs(own, listen)
	peering, err := f.peering()
	if err != nil {
		return err
	}
	stopPprof, err := servePprof(cmd.Context(), f.pprofListen, logger)
	if err != nil {
		return err
	}
	defer stopPprof()
	return runtime.Run(cmd.Context(), runtime.Options{
		Name:        s.Server.Name,
		Version:     version.Version,
		Listen:      listen,
		AdminListen: orDefault(f.adminListen, loopback, adminPort),
		Config:      config.Fixed(configuration),
		Discover:    func(*configv1alpha1.RuntimeConfiguration) discovery.Discoverer { return discovery.Static(targets) },
		Reporter:    status.NewLogReporter(logger),
		Logger:      logger,

		SessionKeysDir: f.sessionKeys,
		Peering:        peering,
		Limits:         f.limits,
		ShutdownDelay:  f.shutdownDelay,

		Listening: func(gateway, admin net.Addr) {
			if log.format != formatJSON { // whoever asks for JSON wants to read nothing else
				summarize(stderr, s, targets, gateway, admin)
			}
			warnIfReachable(logger, gateway)
		},
	})
}

// summarize tells a person what is served and where.
func summarize(w io.Writer, s *config.Standalone, targets []backend.Target, gateway, admin net.Addr) {
	fmt.Fprintf(w, "VirtualMCPServer %s serves MCPGroup %s with %d backends.\n", s.Server.Name, s.Group.Name, len(targets))
	fmt.Fprintf(w, "  endpoint  http://%s%s\n", gateway, v1alpha1.EndpointPath)
	fmt.Fprintf(w, "  admin     http://%s/readyz, /livez, /metrics\n", admin)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i, t := range targets {
		label := ""
		if i == 0 {
			label = "backends"
		}
		fmt.Fprintf(table, "  %s\t%s\t%s\t%s\n", label, t.Name, t.Transport, withoutQuery(t.URL))
	}
	_ = table.Flush() // like the lines before, an error here leaves nothing to do
}

// withoutQuery is a URL without its query, which may hold a key.
func withoutQuery(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.RawQuery == "" {
		return raw
	}
	u.RawQuery = ""
	return u.String() + "?..."
}

// warnIfReachable reminds of what listening on all addresses means: the endpoint asks nobody who he is.
func warnIfReachable(logger *slog.Logger, gateway net.Addr) {
	if tcp, ok := gateway.(*net.TCPAddr); ok && !tcp.IP.IsLoopback() {
		logger.Warn("The endpoint is open to everybody who can reach this address", "address", gateway.String())
	}
}

// ownURLs are the URLs of the endpoint under the hosts of an address to listen on.
func ownURLs(hosts []string, listen string) []string {
	_, port, err := net.SplitHostPort(listen)
	if err != nil {
		return nil
	}
	urls := make([]string, len(hosts))
	for i, host := range hosts {
		urls[i] = (&url.URL{Scheme: "http", Host: net.JoinHostPort(host, port), Path: v1alpha1.EndpointPath}).String()
	}
	return urls
}

// hostsOf are the values of the Host header under which an address to listen on can be reached, loopback apart. Names and
// addresses of other hosts are not among them, so that a name that resolves to this host by malice is refused.
func hostsOf(listen string) ([]string, error) {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return nil, misuse{fmt.Errorf("--listen: %w", err)}
	}
	ip := net.ParseIP(host)
	switch {
	case ip == nil && host != "": // a name
		return []string{host}, nil
	case ip != nil && !ip.IsUnspecified():
		if ip.IsLoopback() {
			return nil, nil
		}
		return []string{ip.String()}, nil
	}
	var hosts []string
	if name, err := os.Hostname(); err == nil {
		hosts = append(hosts, name)
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("listing the addresses of this host: %w", err)
	}
	for _, a := range addresses {
		if network, ok := a.(*net.IPNet); ok && !network.IP.IsLoopback() {
			hosts = append(hosts, network.IP.String())
		}
	}
	return hosts, nil
}
