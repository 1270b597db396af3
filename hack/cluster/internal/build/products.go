// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"slices"
	"strings"

	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/config"
)

// Product is a set of programs that one pinned module builds.
type Product struct {
	Name     string // also the directory of its module
	Version  string
	LDFlags  string
	Tags     string
	Programs map[string]string // file name to package path
}

// Set names what a caller needs built.
type Set string

const (
	// Envtest is what controller-runtime's envtest starts.
	Envtest Set = "envtest"
	// ControlPlane is what config.ControlPlane starts.
	ControlPlane Set = Set(config.ControlPlane)
	// Node is what config.Node starts.
	Node Set = Set(config.Node)
	// OLM is everything.
	OLM Set = Set(config.OLM)
)

// Names of programs; each is also its file name.
const (
	Etcd              = "etcd"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
	Kubectl           = "kubectl"
	Kubelet           = "kubelet"
	KubeProxy         = "kube-proxy"
	Containerd        = "containerd"
	ContainerdShim    = "containerd-shim-runc-v2"
	Ctr               = "ctr"
	CoreDNS           = "coredns"
	Pause             = "pause"
	Registry          = "registry"
	OPM               = "opm"
	GRPCHealthProbe   = "grpc_health_probe"
	ScorecardTest     = "scorecard-test"
)

// Daemons are the programs that go on running.
var Daemons = []string{Etcd, APIServer, ControllerManager, Scheduler, Kubelet, KubeProxy, Containerd, ContainerdShim, Registry}

// cniPlugins are called by containerd, not found in PATH.
var cniPlugins = []string{"bridge", "host-local", "loopback", "portmap"}

// olmPrograms are OLM's own, under the names that its manifests have for them.
var olmPrograms = []string{"olm", "catalog", "package-server", "copy-content", "cpb"}

// OnPath are the programs that people call by name.
var OnPath = []string{Etcd, APIServer, ControllerManager, Scheduler, Kubectl, Kubelet, KubeProxy, Containerd, ContainerdShim, Ctr, OPM}

// programs of each set; a set includes the ones before it, except that envtest needs no controllers.
var (
	envtestPrograms      = []string{Etcd, APIServer, Kubectl}
	controlPlanePrograms = append(slices.Clone(envtestPrograms), ControllerManager, Scheduler)
	nodePrograms         = append(append(slices.Clone(controlPlanePrograms), Kubelet, KubeProxy, Containerd, ContainerdShim, Ctr, CoreDNS, Pause), cniPlugins...)
	olmSetPrograms       = append(append(slices.Clone(nodePrograms), Registry, OPM, GRPCHealthProbe, ScorecardTest), olmPrograms...)
)

func (s Set) programs() []string {
	switch s {
	case Envtest:
		return envtestPrograms
	case ControlPlane:
		return controlPlanePrograms
	case Node:
		return nodePrograms
	default:
		return olmSetPrograms
	}
}

// strip leaves symbol tables and DWARF out: a third of the size.
const strip = "-s -w"

// products are built in this order.
var products = []Product{
	{Name: "etcd", Version: "v3.6.16", LDFlags: strip, Programs: map[string]string{Etcd: "."}},
	{
		Name: "kubernetes", Version: config.KubernetesVersion, LDFlags: kubernetesLDFlags(), Tags: "grpcnotrace,notest",
		Programs: map[string]string{
			APIServer:         "k8s.io/kubernetes/cmd/kube-apiserver",
			ControllerManager: "k8s.io/kubernetes/cmd/kube-controller-manager",
			Scheduler:         "k8s.io/kubernetes/cmd/kube-scheduler",
			Kubectl:           "k8s.io/kubernetes/cmd/kubectl",
			Kubelet:           "k8s.io/kubernetes/cmd/kubelet",
			KubeProxy:         "k8s.io/kubernetes/cmd/kube-proxy",
		},
	},
	{
		Name: "containerd", Version: "v2.2.9",
		LDFlags: strip + " -X github.com/containerd/containerd/v2/version.Version=v2.2.9+gomod",
		Tags:    "no_btrfs,no_devmapper,no_zfs,no_aufs,urfave_cli_no_docs",
		Programs: map[string]string{
			Containerd:     "github.com/containerd/containerd/v2/cmd/containerd",
			ContainerdShim: "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
			Ctr:            "github.com/containerd/containerd/v2/cmd/ctr",
		},
	},
	{
		Name: "cni", Version: "v1.9.1", LDFlags: strip,
		Programs: map[string]string{
			"bridge":     "github.com/containernetworking/plugins/plugins/main/bridge",
			"host-local": "github.com/containernetworking/plugins/plugins/ipam/host-local",
			"loopback":   "github.com/containernetworking/plugins/plugins/main/loopback",
			"portmap":    "github.com/containernetworking/plugins/plugins/meta/portmap",
		},
	},
	{Name: "coredns", Version: "v1.14.2", LDFlags: strip, Tags: "grpcnotrace", Programs: map[string]string{CoreDNS: "."}},
	{Name: "pause", Version: "v1", LDFlags: strip, Programs: map[string]string{Pause: "."}},
	{Name: "registry", Version: "v1", LDFlags: strip, Programs: map[string]string{Registry: "."}},
	{
		Name: olmProduct, Version: config.OLMVersion, Tags: "json1",
		LDFlags: strip + " -X " + olmModule + "/pkg/version.OLMVersion=" + config.OLMVersion + " -X " + olmModule + "/pkg/version.GitCommit=unknown",
		Programs: map[string]string{
			"olm":            olmModule + "/cmd/olm",
			"catalog":        olmModule + "/cmd/catalog",
			"package-server": olmModule + "/cmd/package-server",
			"copy-content":   olmModule + "/cmd/copy-content",
			"cpb":            olmModule + "/util/cpb",
		},
	},
	{
		// Without cgo it knows file-based catalogs only, none in SQLite.
		Name: "opm", Version: config.OPMVersion, Tags: "json1,containers_image_openpgp",
		LDFlags:  strip + " -X github.com/operator-framework/operator-registry/cmd/opm/version.opmVersion=" + config.OPMVersion,
		Programs: map[string]string{OPM: "github.com/operator-framework/operator-registry/cmd/opm"},
	},
	{
		Name: "grpc-health-probe", Version: "v0.4.42", LDFlags: strip,
		Programs: map[string]string{GRPCHealthProbe: "github.com/grpc-ecosystem/grpc-health-probe"},
	},
	{
		Name: "operator-sdk", Version: config.OperatorSDKVersion, LDFlags: strip, Tags: "containers_image_openpgp",
		Programs: map[string]string{ScorecardTest: "github.com/operator-framework/operator-sdk/images/scorecard-test"},
	},
}

// olmProduct is the product whose module also holds OLM's manifests.
const (
	olmProduct = "olm"
	olmModule  = "github.com/operator-framework/operator-lifecycle-manager"
)

// kubernetesLDFlags stamps the version, as Kubernetes' own build does. Without
// it the API server calls itself v0.0.0-master, and kubectl, the kubelet and
// OLM's minKubeVersion compare versions. A module carries neither commit nor date.
func kubernetesLDFlags() string {
	flags := []string{strip}
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		for _, set := range []string{
			"gitVersion=" + config.KubernetesVersion, "gitMajor=1", "gitMinor=36",
			"gitCommit=unknown", "gitTreeState=clean", "buildDate=2026-07-22T18:07:38Z",
		} {
			flags = append(flags, "-X "+pkg+"."+set)
		}
	}
	return strings.Join(flags, " ")
}
