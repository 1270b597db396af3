// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Command operator provisions gateways for VirtualMCPServers and runs the workloads of MCPBackends.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/operator-framework/operator-lib/conditions"
	"github.com/operator-framework/operator-lib/proxy"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/vmcp-dev/vmcp-operator/controllers"
	"github.com/vmcp-dev/vmcp-operator/internal/olm"
	"github.com/vmcp-dev/vmcp-operator/internal/version"
)

// Environment variables that the operator reads, beside the proxy variables that it hands on.
const (
	// envWatchNamespace is a list of namespaces with commas between them; empty means all.
	envWatchNamespace = "WATCH_NAMESPACE"
	// envRuntimeImage is the image of the runtime.
	envRuntimeImage = "RELATED_IMAGE_RUNTIME"
	// envPodNamespace is where the Lease of the leader election is; empty means the namespace of the pod's ServiceAccount.
	envPodNamespace = "POD_NAMESPACE"
)

// newConditions finds the OperatorCondition in the pod's environment, and its namespace in the files of the pod's ServiceAccount. The
// tests, which run outside of a pod, put another in its place.
var newConditions olm.NewFactory = func(c client.Client) conditions.Factory { return conditions.InClusterFactory{Client: c} }

// leaseName is the Lease that the leading operator holds.
const leaseName = "vmcp-operator.vmcp.dev"

// gcPercent is how much garbage may collect, relative to what lives, where GOGC says nothing. Rendering leaves megabytes of it, and nearly
// nothing lives, so that a third of Go's default halves the memory for a few per cent of the time.
const gcPercent = 35

// metricsAuthorization says who may read the metrics.
type metricsAuthorization string

const (
	// metricsForAuthorized asks the cluster who a caller is and whether it may (TokenReview, SubjectAccessReview), which takes a ClusterRole.
	metricsForAuthorized metricsAuthorization = "cluster"
	// metricsForAll serves everybody who reaches the pod, and needs no right.
	metricsForAll metricsAuthorization = "none"
)

// Set is flag.Value's.
func (a *metricsAuthorization) Set(value string) error {
	switch given := metricsAuthorization(value); given {
	case metricsForAuthorized, metricsForAll:
		*a = given
		return nil
	default:
		return fmt.Errorf("want %s or %s", metricsForAuthorized, metricsForAll)
	}
}

func (a *metricsAuthorization) String() string { return string(*a) }

type flags struct {
	metricsAddress string
	metricsFor     metricsAuthorization
	probeAddress   string
	pprofAddress   string
	leaderElect    bool
	log            zap.Options
}

func main() {
	f := parseFlags()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctrl.SetLogger(zap.New(zap.UseFlagOptions(&f.log)))
	if err := run(ctrl.SetupSignalHandler(), f); err != nil {
		ctrl.Log.Error(err, "The operator cannot go on")
		os.Exit(1)
	}
}

func parseFlags() *flags {
	f := &flags{metricsFor: metricsForAuthorized}
	flag.StringVar(&f.metricsAddress, "metrics-bind-address", ":8443", "Address of the HTTPS endpoint /metrics; 0 turns it off.")
	flag.Var(&f.metricsFor, "metrics-authorization", "Who may read the metrics: cluster (callers that the cluster authorizes; the operator "+
		"then has to have the right to create TokenReviews and SubjectAccessReviews) or none (whoever reaches the pod).")
	flag.StringVar(&f.probeAddress, "health-probe-bind-address", ":8081", "Address of /healthz and /readyz; 0 turns them off.")
	flag.StringVar(&f.pprofAddress, "pprof-bind-address", "0",
		"Address of the profiles at /debug/pprof, without authorization: give it one on loopback. 0 turns them off.")
	flag.BoolVar(&f.leaderElect, "leader-elect", false, "Work only while holding a Lease, so that several replicas may run.")
	f.log.BindFlags(flag.CommandLine)
	flag.Parse()
	return f
}

func run(ctx context.Context, f *flags) error {
	image := os.Getenv(envRuntimeImage)
	if image == "" {
		return errors.New(envRuntimeImage + " is not set: it must name the image of the runtime, for example ghcr.io/vmcp-dev/vmcp-runtime:v0.1.0")
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("finding the cluster: %w", err)
	}
	options, err := managerOptions(config, f)
	if err != nil {
		return err
	}
	if err := awaitAPIServer(ctx, config, f.probeAddress); err != nil {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // It was told to stop.
		}
		return err
	}
	mgr, err := ctrl.NewManager(controllers.CacheConfig(config), options)
	if err != nil {
		return fmt.Errorf("building the manager: %w", err)
	}
	if err := setupProbes(mgr); err != nil {
		return err
	}
	settings := controllers.Settings{
		RuntimeImage: image, ProxyEnv: proxy.ReadProxyVarsFromEnv(), Namespaces: controllers.ParseNamespaces(os.Getenv(envWatchNamespace)),
	}
	if os.Getenv(olm.ConditionNameVariable) != "" {
		settings.OLM = &controllers.OLMSettings{NewFactory: newConditions}
	}
	if err := controllers.Setup(ctx, mgr, settings); err != nil {
		return err
	}
	ctrl.Log.Info("Starting", "version", version.String(), "runtimeImage", image, "namespaces", os.Getenv(envWatchNamespace))
	if err := mgr.Start(ctx); err != nil {
		return fmt.Errorf("running the manager: %w", err)
	}
	return nil
}

func managerOptions(config *rest.Config, f *flags) (ctrl.Options, error) {
	options, err := controllers.ManagerOptions(controllers.ParseNamespaces(os.Getenv(envWatchNamespace)))
	if err != nil {
		return ctrl.Options{}, err
	}
	options.Metrics = metricsserver.Options{BindAddress: f.metricsAddress, SecureServing: true}
	if f.metricsFor == metricsForAuthorized {
		options.Metrics.FilterProvider = filters.WithAuthenticationAndAuthorization
	}
	options.HealthProbeBindAddress = f.probeAddress
	options.PprofBindAddress = f.pprofAddress
	// A client of its own: a flood of other requests must not cost the lead.
	options.LeaderElectionConfig = rest.CopyConfig(config)
	options.LeaderElectionConfig.UserAgent = controllers.UserAgentPrefix + "leader-election"
	options.LeaderElection = f.leaderElect
	options.LeaderElectionID = leaseName
	options.LeaderElectionNamespace = os.Getenv(envPodNamespace)
	// Safe, because the program ends as soon as the manager does.
	options.LeaderElectionReleaseOnCancel = true
	return options, nil
}

func setupProbes(mgr ctrl.Manager) error {
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return fmt.Errorf("adding the liveness check: %w", err)
	}
	if err := mgr.AddReadyzCheck("ping", healthz.Ping); err != nil {
		return fmt.Errorf("adding the readiness check: %w", err)
	}
	return nil
}
