// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package runtime is the process behind a VirtualMCPServer: it finds backends, watches their health, serves what they offer as one
// MCP endpoint, and reports what it sees.
//
//	config ─▶ discovery ─▶ health ─▶ catalog ─▶ gateway ─▶ backend ─▶ MCP servers
//	                          │
//	                          └────▶ status
package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/config"
	"github.com/vmcp-dev/vmcp-operator/runtime/discovery"
	"github.com/vmcp-dev/vmcp-operator/runtime/gateway"
	"github.com/vmcp-dev/vmcp-operator/runtime/graceful"
	"github.com/vmcp-dev/vmcp-operator/runtime/health"
	"github.com/vmcp-dev/vmcp-operator/runtime/pause"
	"github.com/vmcp-dev/vmcp-operator/runtime/status"
	"github.com/vmcp-dev/vmcp-operator/runtime/telemetry"
)

const (
	// drainTimeout bounds what is waited for requests in flight at the end; the pod's grace period is longer.
	drainTimeout = 30 * time.Second
	// leaveTimeout is the part of it in which clients are served.
	leaveTimeout = 25 * time.Second
	// idleTimeout bounds what a client can hold for nothing, headers that never end included. Neither reading a body nor writing an answer
	// has a timeout of the server's: an MCP stream lives as long as its session.
	idleTimeout    = 120 * time.Second
	maxHeaderBytes = 64 << 10
)

// Options says what a runtime serves, where, and to whom it reports. All fields without a remark are required.
type Options struct {
	// Name is the name of the VirtualMCPServer; clients see it as the name of the server.
	Name string
	// Version is the version of the program.
	Version string
	// Listen and AdminListen are the TCP addresses of the MCP endpoint and of /livez, /readyz and /metrics.
	Listen, AdminListen string
	// Listening, if not nil, is called once with the addresses that were bound.
	Listening func(gateway, admin net.Addr)
	// Config yields the configuration.
	Config config.Source
	// Discover finds the backends of a configuration. It is called again when one comes that names other backends, or other
	// credentials for them.
	Discover func(*configv1alpha1.RuntimeConfiguration) discovery.Discoverer
	// Reporter makes known what the runtime sees.
	Reporter status.Reporter
	// SessionKeysDir is the folder with the keys that seal the ids of sessions (session.ReadKeys), as a Secret is mounted. It is looked at
	// again every few seconds. Empty means a key of this process, which no other replica has.
	SessionKeysDir string
	// Peering says how to reach the other replicas, which have the keys in SessionKeysDir as well.
	Peering Peering
	// Limits bounds what clients can cost.
	Limits gateway.Limits
	// ShutdownDelay is how long the gateway serves as before after the runtime was told to end, for clients whom nobody has told
	// yet that it leaves. Its answers send them away meanwhile (gateway.Retire), and those that keep a connection for later are waited for. Zero
	// means not to wait for anybody.
	ShutdownDelay time.Duration
	// Replica tells which part this replica has. Nil means that there is no other.
	Replica status.Replica
	// Pauses notices that the process stood still. Nil means a detector of the runtime's own. Run runs it.
	Pauses *pause.Detector
	// Metrics records it. Nil means metrics of the runtime's own.
	Metrics *telemetry.Metrics
	// Logger is where the runtime logs.
	Logger *slog.Logger
	// Health is the policy by which backends are judged. Zero means health.DefaultPolicy.
	Health health.Policy
}

// Run serves until ctx ends, then shuts down: it stops reporting and gives the report to another replica, serves for ShutdownDelay, lets
// the requests in flight end and clients leave, within 30 s, and closes the sessions with the backends. The error is nil when nothing failed before or in the shutdown.
func Run(ctx context.Context, o Options) error {
	if o.Metrics == nil {
		o.Metrics = telemetry.NewMetrics(o.Version)
	}
	if o.Pauses == nil {
		o.Pauses = &pause.Detector{}
	}
	if o.Health == (health.Policy{}) {
		o.Health = health.DefaultPolicy()
	}
	at, err := listenAll(ctx, &o)
	if err != nil {
		return err
	}
	uid := cmp.Or(string(o.Config.Initial().UID), o.Name)
	group, err := newGroup(&o, uid, at.peers)
	if err != nil {
		return errors.Join(err, at.close())
	}
	c := newControl(o)
	g := gateway.New(gateway.Options{
		Upstreams: c.routes, UID: uid, ID: c.id, Name: o.Name, Version: o.Version, Peers: group,
		AllowedHosts: o.Config.Initial().AllowedHosts, AllowedOrigins: o.Config.Initial().AllowedOrigins, Logger: o.Logger, Limits: o.Limits,
	})
	c.gateway = g
	// running ends with ctx or with the first failure; what it carries is stopped first. The rest is stopped in order.
	running, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	ready := func() bool { return c.ready.Load() && running.Err() == nil } // control goes on while the runtime ends
	var (
		server  = newServer(g.Handler(), o.Logger)
		admin   = newServer(telemetry.Admin(o.Metrics, ready), o.Logger)
		servers = []*graceful.Server{server, admin}
	)
	o.Logger.Info("Serving", "endpoint", at.gateway.Addr().String(), "admin", at.admin.Addr().String(), "version", o.Version)
	if o.Listening != nil {
		o.Listening(at.gateway.Addr(), at.admin.Addr())
	}
	controlling, stopControl := context.WithCancel(context.WithoutCancel(ctx))
	defer stopControl()
	var reporting, serving, control sync.WaitGroup
	watch := func(wg *sync.WaitGroup, what string, run func() error) {
		wg.Go(func() {
			if err := run(); err != nil {
				fail(fmt.Errorf("%s: %w", what, err))
			}
		})
	}
	control.Go(func() { o.Pauses.Run(controlling) })
	if o.SessionKeysDir != "" {
		keys, begun := &keyring{dir: o.SessionKeysDir, use: useKeys(g.SetKeys, group), logger: o.Logger}, make(chan struct{})
		control.Go(func() { keys.run(controlling, func() { close(begun) }) })
		<-begun // no session shall begin with a key that is replaced a moment later
	}
	watch(&reporting, "reporting the status", func() error { return o.Reporter.Run(running) })
	watch(&control, "controlling the gateway", func() error { return c.run(controlling) })
	watch(&serving, "serving the MCP endpoint", func() error { return server.Serve(at.gateway) })
	watch(&serving, "serving probes and metrics", func() error { return admin.Serve(at.admin) })
	if group != nil {
		defer group.Close()
		peers := newServer(group.Handler(g.PeerHandler()), o.Logger)
		servers = []*graceful.Server{server, peers, admin}
		o.Logger.Info("Serving other replicas", "at", group.Self().Address)
		watch(&serving, "serving other replicas", func() error { return peers.Serve(peerListener(at.peers, group)) })
	}

	<-running.Done()
	o.Logger.Info("Shutting down", "cause", context.Cause(running))
	g.Retire()
	retired := time.After(o.ShutdownDelay)
	reporting.Wait()
	if ctx.Err() != nil { // otherwise something has failed
		<-retired
	}
	drain(context.WithoutCancel(ctx), servers, g, o.ShutdownDelay > 0, o.Logger)
	serving.Wait()
	stopControl()
	control.Wait()
	if cause := context.Cause(running); ctx.Err() == nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

func listen(ctx context.Context, address, what string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listening for %s: %w", what, err)
	}
	return l, nil
}

func newServer(handler http.Handler, logger *slog.Logger) *graceful.Server {
	return &graceful.Server{Server: http.Server{
		Handler:           handler,
		ReadHeaderTimeout: idleTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}}
}

// drain lets the requests in flight end and, if it is to be patient, the clients of the first server leave. Then it closes the servers in order:
// whoever comes before is served, and other replicas find here what they need. Probes are answered to the last.
func drain(ctx context.Context, servers []*graceful.Server, g *gateway.Gateway, patient bool, logger *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	leaving, stop := context.WithTimeout(ctx, leaveTimeout)
	defer stop()
	if err := g.Drain(leaving); err != nil {
		logger.Warn("Requests did not end in time", "error", err)
	}
	if patient {
		servers[0].AwaitClients(leaving)
	}
	for _, s := range servers {
		if err := s.Shutdown(ctx); err != nil {
			logger.Warn("Requests did not end in time", "error", err)
			_ = s.Close() // it fails with the error of a listener that is closed already
		}
	}
	if err := g.Close(ctx); err != nil {
		logger.Warn("Sessions did not end in time", "error", err)
	}
}
