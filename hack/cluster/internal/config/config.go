// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package config holds what can be set about a cluster, and the names that cannot.
package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
)

// Names of what a cluster makes on the machine. They are its own, so that
// nothing of another Kubernetes is mistaken for it.
const (
	Bridge      = "vmcp0"        // network interface
	GuardTable  = "vmcp_guard"   // nftables table, family inet
	CgroupName  = "vmcp-cluster" // in every cgroup hierarchy
	NetworkName = "vmcp-cluster" // CNI network
	NodeName    = "vmcp-node"
	ContextName = "vmcp-local" // in the kubeconfig

	KubernetesVersion = "v1.36.3"
	PauseImage        = "cluster.vmcp.dev/pause:v1"
	CoreDNSImage      = "cluster.vmcp.dev/coredns:v1.14.2"

	OLMVersion         = "v0.46.0"
	OPMVersion         = "v1.73.0"
	OperatorSDKVersion = "v1.42.2"
	OLMImage           = "cluster.vmcp.dev/olm:" + OLMVersion
	// OPMImage serves catalogs and unpacks bundles for OLM, and is the index image of "operator-sdk run bundle".
	OPMImage = "cluster.vmcp.dev/opm:" + OPMVersion
	// DecompressionImage stands in for the one of that name, with no more than "operator-sdk run bundle" and "run bundle-upgrade",
	// where it cannot be chosen, call of it: a shell, cat and gzip.
	DecompressionImage = "registry.access.redhat.com/ubi9/ubi:9.7"
	// ScorecardImage stands in for the one of that name, which cannot be pulled; it has tar, for --untar-image.
	ScorecardImage = "quay.io/operator-framework/scorecard-test:" + OperatorSDKVersion
)

// Stage says how much of a cluster runs.
type Stage string

const (
	// ControlPlane is etcd, API server, controller manager and scheduler: pods stay Pending.
	ControlPlane Stage = "cp"
	// Node adds a node that runs pods, Services and DNS.
	Node Stage = "node"
	// OLM adds the Operator Lifecycle Manager, and a registry for catalogs and bundles.
	OLM Stage = "olm"
)

// stages are in the order in which each includes the ones before it.
var stages = []Stage{ControlPlane, Node, OLM}

// Includes tells whether a cluster of the stage has everything that one of the other has.
func (s Stage) Includes(other Stage) bool {
	return slices.Index(stages, s) >= slices.Index(stages, other)
}

// Ports are the TCP ports a cluster listens on.
type Ports struct {
	API, Etcd, EtcdPeer, ControllerManager, Scheduler   int
	Kubelet, KubeletHealth, KubeProxy, KubeProxyMetrics int
	Registry                                            int
}

// Config is one cluster's settings.
type Config struct {
	Cache string // directory of what is built
	State string // directory of what runs
	Mods  string // directory of the pinned modules; empty to look for it
	// Pods is the IPv4 range of pods; its first address is the node's. Services is that of Services.
	Pods, Services netip.Prefix
	Ports          Ports
}

// maxState keeps Unix sockets below the state directory shorter than the 108
// bytes of sun_path (unix(7)).
const maxState = 60

// FromEnvironment reads the settings from environment variables, see usage.
func FromEnvironment(getenv func(string) string) (Config, error) {
	c := Config{Mods: getenv("VMCP_CLUSTER_MODS")}
	var err error
	if c.Cache, err = cacheDir(getenv); err != nil {
		return c, err
	}
	if c.State, err = absolute(orDefault(getenv("VMCP_CLUSTER_STATE"), "/tmp/vmcp-operator-cluster")); err != nil {
		return c, fmt.Errorf("VMCP_CLUSTER_STATE: %w", err)
	}
	if len(c.State) > maxState {
		return c, fmt.Errorf("VMCP_CLUSTER_STATE: %q is %d characters long, more than %d: Unix sockets below it would not fit", c.State, len(c.State), maxState)
	}
	if c.Pods, err = prefix(getenv, "VMCP_POD_CIDR", "10.244.0.0/24", 24); err != nil {
		return c, err
	}
	if c.Services, err = prefix(getenv, "VMCP_SERVICE_CIDR", "10.96.0.0/16", 24); err != nil {
		return c, err
	}
	if c.Pods.Overlaps(c.Services) {
		return c, fmt.Errorf("VMCP_POD_CIDR %s and VMCP_SERVICE_CIDR %s overlap", c.Pods, c.Services)
	}
	c.Ports, err = ports(getenv("VMCP_PORT_OFFSET"))
	return c, err
}

func cacheDir(getenv func(string) string) (string, error) {
	if dir := getenv("VMCP_CACHE"); dir != "" {
		return absolute(dir)
	}
	if dir := getenv("XDG_CACHE_HOME"); dir != "" {
		return absolute(filepath.Join(dir, "vmcp-operator"))
	}
	if home := getenv("HOME"); home != "" {
		return absolute(filepath.Join(home, ".cache", "vmcp-operator"))
	}
	return "", errors.New("no cache directory: set VMCP_CACHE, XDG_CACHE_HOME or HOME")
}

// absolute refuses characters that would need quoting in configuration files.
func absolute(dir string) (string, error) {
	for _, r := range dir {
		if r <= ' ' || r == '"' || r == '\'' || r == '\\' || r == ':' || r == '$' {
			return "", fmt.Errorf("directory %q contains %q, which some of the programs cannot take", dir, r)
		}
	}
	return filepath.Abs(dir)
}

func orDefault(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}

// prefix parses an IPv4 range with room for the addresses that are derived from it.
func prefix(getenv func(string) string, name, otherwise string, maxBits int) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(orDefault(getenv(name), otherwise))
	if err != nil {
		return p, fmt.Errorf("%s: %w", name, err)
	}
	if !p.Addr().Is4() || !p.Addr().IsPrivate() || p.Bits() < 12 || p.Bits() > maxBits {
		return p, fmt.Errorf("%s: %s is not a private IPv4 range of /12 to /%d", name, p, maxBits)
	}
	return p.Masked(), nil
}

func ports(offset string) (Ports, error) {
	n, err := strconv.Atoi(orDefault(offset, "0"))
	if err != nil || n < 0 || n > 18000 {
		return Ports{}, fmt.Errorf("VMCP_PORT_OFFSET: %q is not a number from 0 to 18000", offset)
	}
	return Ports{
		API: 6443 + n, Etcd: 2379 + n, EtcdPeer: 2380 + n, ControllerManager: 10257 + n, Scheduler: 10259 + n,
		Kubelet: 10250 + n, KubeletHealth: 10248 + n, KubeProxy: 10256 + n, KubeProxyMetrics: 10249 + n,
		Registry: 5000 + n,
	}, nil
}

// List returns the ports that the stage uses, by the name of their owner.
func (p Ports) List(stage Stage) map[string]int {
	list := map[string]int{
		"kube-apiserver": p.API, "etcd": p.Etcd, "etcd (peers)": p.EtcdPeer,
		"kube-controller-manager": p.ControllerManager, "kube-scheduler": p.Scheduler,
	}
	if stage.Includes(Node) {
		list["kubelet"], list["kubelet (health)"] = p.Kubelet, p.KubeletHealth
		list["kube-proxy"], list["kube-proxy (metrics)"] = p.KubeProxy, p.KubeProxyMetrics
	}
	if stage.Includes(OLM) {
		list["the image registry"] = p.Registry
	}
	return list
}

// NodeIP is the address of the node and of the bridge: pods reach the API server there.
func (c Config) NodeIP() netip.Addr { return c.Pods.Addr().Next() }

// KubernetesServiceIP is the address of the Service "kubernetes": the first of the range.
func (c Config) KubernetesServiceIP() netip.Addr { return c.Services.Addr().Next() }

// DNSServiceIP is the address of the cluster's DNS: by convention the tenth of the range.
func (c Config) DNSServiceIP() netip.Addr {
	a := c.Services.Addr()
	for range 10 {
		a = a.Next()
	}
	return a
}

// APIServer is the URL of the API server on this machine.
func (c Config) APIServer() string { return "https://127.0.0.1:" + strconv.Itoa(c.Ports.API) }

// Registry is HOST:PORT of the image registry, the same for this machine, the node and pods.
func (c Config) Registry() string {
	return net.JoinHostPort(c.NodeIP().String(), strconv.Itoa(c.Ports.Registry))
}

// Authority is the certificate of the authority that signs what the cluster serves.
func (c Config) Authority() string { return c.Path("pki", "ca.crt") }

// Path returns a path below the state directory.
func (c Config) Path(elem ...string) string {
	return filepath.Join(append([]string{c.State}, elem...)...)
}

// Kubeconfig is the administrator's.
func (c Config) Kubeconfig() string { return c.Path("kubeconfig") }

// AuditLog is where the API server writes one line per request.
func (c Config) AuditLog() string { return c.Path("logs", "audit.log") }

// ContainerdSocket is the address of containerd, without the scheme.
func (c Config) ContainerdSocket() string { return c.Path("run", "containerd.sock") }
