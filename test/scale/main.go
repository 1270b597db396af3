// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Command scale measures what the operator costs with hundreds of VirtualMCPServers: requests, writes, memory and time. It needs the
// control plane of an otherwise empty cluster, whose audit log it counts from, and kwok for nodes that only seem to run pods. The
// operator is its own program; the runtimes are fakes that hold the Leases and report as the real ones do.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/test/document"
)

type options struct {
	servers                              int
	kubeconfig, auditLog, operator, kwok string
	folder, document                     string
	timeout                              time.Duration
}

func main() {
	var o options
	flags := flag.NewFlagSet("scale", flag.ExitOnError) // a package of controller-runtime has put -kubeconfig into the common one
	flags.IntVar(&o.servers, "servers", 500, "How many VirtualMCPServers.")
	flags.StringVar(&o.kubeconfig, "kubeconfig", os.Getenv("KUBECONFIG"), "An administrator's, of a cluster that is for this alone.")
	flags.StringVar(&o.auditLog, "audit-log", os.Getenv("VMCP_AUDIT_LOG"), "The audit log of its API server.")
	flags.StringVar(&o.operator, "operator", "bin/operator", "The operator's program.")
	flags.StringVar(&o.kwok, "kwok", "bin/tools/kwok", "kwok's program.")
	flags.StringVar(&o.folder, "logs", "", "Folder for the logs of both, and the operator's profiles; empty means a temporary one.")
	flags.StringVar(&o.document, "document", "", "Markdown file whose section between markers gets the result; empty means none.")
	flags.DurationVar(&o.timeout, "timeout", 20*time.Minute, "How long it may take altogether.")
	_ = flags.Parse(os.Args[1:]) // it exits instead
	ctrl.SetLogger(zap.New())
	missed, err := runWithin(o.timeout, func(ctx context.Context) (int, error) { return run(ctx, o) })
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	case missed > 0:
		fmt.Fprintf(os.Stderr, "scale: %d of the bounds were missed\n", missed)
		os.Exit(1)
	}
}

// runWithin runs do until it is done, the time is over, or a signal comes.
func runWithin(timeout time.Duration, do func(context.Context) (int, error)) (int, error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("not done after %v", timeout))
	defer cancel()
	return do(ctx)
}

// run measures, prints the result and says how many bounds were missed.
func run(ctx context.Context, o options) (missed int, err error) {
	if o.servers < 2 {
		return 0, errors.New("at least two VirtualMCPServers: one for each mode")
	}
	if o.folder == "" {
		if o.folder, err = os.MkdirTemp("", "vmcp-scale"); err != nil {
			return 0, err
		}
	}
	if err := os.MkdirAll(o.folder, 0o755); err != nil {
		return 0, err
	}
	m, err := newMeasurement(o)
	if err != nil {
		return 0, err
	}
	defer m.end()
	for _, phase := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"install the operator, nodes and kwok", m.install},
		{fmt.Sprintf("provision %d VirtualMCPServers", o.servers), m.provision},
		{"watch them idle", m.idle},
		{"kill the operator and start it anew", m.restart},
		{"add a backend to the group shared in dynamic mode", m.addDynamic},
		{"add a backend to the group shared in static mode", m.addStatic},
	} {
		m.say("==> %s", phase.name)
		if err := phase.run(ctx); err != nil {
			return 0, fmt.Errorf("%s: %w (the logs are in %s)", phase.name, err, o.folder)
		}
	}
	text := m.document()
	fmt.Println("\n" + text)
	if o.document != "" {
		if err := document.Replace(o.document, "scale", text); err != nil {
			return 0, err
		}
	}
	if m.result.missed() > 0 {
		m.say("the logs, and profiles of the operator's heap, are in %s", o.folder)
	}
	return m.result.missed(), nil
}

// measurement is one run.
type measurement struct {
	options
	began    time.Time
	config   *rest.Config
	client   client.Client
	requests *requests
	launcher *launcher
	kwok     *process
	operator *operator
	runtimes *runtimes
	stop     context.CancelFunc // of the runtimes

	population population
	result     result
	// provisioned, restarted, addedInDynamic and addedInStatic are the requests of each phase.
	provisioned, restarted, addedInDynamic, addedInStatic tally
}

func newMeasurement(o options) (*measurement, error) {
	config, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("finding the cluster: %w", err)
	}
	if err := rest.LoadTLSFiles(config); err != nil {
		return nil, fmt.Errorf("finding the cluster: %w", err)
	}
	scheme := clientgoscheme.Scheme
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	unlimited := rest.CopyConfig(config)
	unlimited.QPS, unlimited.UserAgent = -1, "vmcp-scale/admin"
	c, err := client.New(unlimited, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("finding the cluster: %w", err)
	}
	return &measurement{
		options: o, began: time.Now(), config: config, client: c, requests: newRequests(o.auditLog), population: populate(o.servers),
	}, nil
}

// end stops everything that was started.
func (m *measurement) end() {
	if m.operator != nil {
		m.operator.kill()
	}
	if m.stop != nil {
		m.stop()
		m.runtimes.wait()
	}
	if m.kwok != nil {
		m.kwok.kill()
	}
}

func (m *measurement) say(format string, values ...any) {
	fmt.Printf("%6.1f s  %s\n", time.Since(m.began).Seconds(), fmt.Sprintf(format, values...))
}

// document is what is kept of the run.
func (m *measurement) document() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured with `make scale SCALE=%d` on %s/%s with %d CPUs, %s, in %.0f s.\n\n",
		m.servers, runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(), time.Since(m.began).Seconds())
	b.WriteString(m.result.table())
	for _, part := range []struct {
		title    string
		requests tally
		n        int
		each     string
	}{
		{"Requests to provision all of them", m.provisioned.pick(func(r request) bool { return strings.HasPrefix(r.agent, operatorAgents) }), m.servers, "per VirtualMCPServer"},
		{"Requests of the operator that was started anew", m.restarted.pick(func(r request) bool { return strings.HasPrefix(r.agent, operatorAgents) }), m.servers, "per VirtualMCPServer"},
		{"Writes after a backend was added, dynamic mode", m.addedInDynamic.pick(writing, not(of("leases"))), m.population.dynamic, "per VirtualMCPServer of the group"},
		{"Writes after a backend was added, static mode", m.addedInStatic.pick(writing, not(of("leases"))), m.population.static, "per VirtualMCPServer of the group"},
	} {
		fmt.Fprintf(&b, "\n%s:\n\n%s", part.title, requestTable(part.requests, part.n, part.each))
	}
	return b.String()
}

func (m *measurement) logFile(name string) string { return filepath.Join(m.folder, name) }
