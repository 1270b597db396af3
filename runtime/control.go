// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/catalog"
	"github.com/vmcp-dev/vmcp-operator/runtime/config"
	"github.com/vmcp-dev/vmcp-operator/runtime/discovery"
	"github.com/vmcp-dev/vmcp-operator/runtime/gateway"
	"github.com/vmcp-dev/vmcp-operator/runtime/health"
	"github.com/vmcp-dev/vmcp-operator/runtime/status"
)

// control joins what happens — configurations, lists of backends, verdicts — into what is served and reported. One goroutine owns
// its state; only ready is read by others.
type control struct {
	options Options
	gateway *gateway.Gateway
	// transport carries the requests to the backends; nil, except in tests, means one of each client's own.
	transport http.RoundTripper
	id        string // the gateway's in trails
	ready     atomic.Bool

	configs     chan config.Update
	discoveries chan discovered
	changed     chan struct{} // a member changed
	group       *errgroup.Group
	retiring    sync.WaitGroup

	// wanted is the newest configuration; serving is the one that is in force: a wanted one that names another group is in force
	// when the backends of that group are known.
	wanted, serving *configv1alpha1.RuntimeConfiguration
	refused         string // why a newer one than wanted is not followed, or ""
	stopDiscovery   context.CancelFunc
	epoch           int // counts discoveries, so that a list of the one before is not taken for one of the present

	round   round
	standby bool // another replica reports

	listed         bool // the first list of backends came
	discoveryError string

	// members are judged, reported and, where the verdict is that, served. incoming are not yet: they wait for their first verdict;
	// a backend whose address changed is served at the old one meanwhile. leaving go when the incoming are in: another group
	// replaces the present one in one step.
	members, incoming, leaving map[backend.Key]*member
	// replaced are members no more. They end once the catalog is not of them any more.
	replaced []*member

	// catalog is what the gateway serves, built from the members cataloged under the configuration builtBy. It begins empty, without routes.
	catalog   *catalog.Snapshot
	routes    *routes // to the members that catalog is of
	cataloged []catalog.Member
	builtBy   *configv1alpha1.RuntimeConfiguration
	schemas   catalog.Schemas
	issues    []status.Issue // of catalog
}

// discovered is a finding of the discovery of that number.
type discovered struct {
	epoch int
	discovery.Finding
}

func newControl(o Options) *control {
	c := &control{
		options:     o,
		id:          newGatewayID(o.Config.Initial().UID),
		configs:     make(chan config.Update),
		discoveries: make(chan discovered),
		changed:     make(chan struct{}, 1),
		members:     map[backend.Key]*member{},
		incoming:    map[backend.Key]*member{},
		leaving:     map[backend.Key]*member{},
		catalog:     &catalog.Snapshot{},
	}
	c.routes = &routes{control: c}
	o.Pauses.OnResume(func() { signal(c.changed) })
	return c
}

// run controls the gateway until ctx ends.
func (c *control) run(ctx context.Context) error {
	defer c.retiring.Wait()
	group, ctx := errgroup.WithContext(ctx)
	c.group = group
	c.wanted = c.options.Config.Initial()
	c.serving, c.builtBy = c.wanted, c.wanted
	c.options.Metrics.ConfigurationServing(c.serving.Generation)
	c.discover(ctx)
	group.Go(func() error {
		return c.options.Config.Run(ctx, func(u config.Update) { send(ctx, c.configs, u) })
	})
	group.Go(func() error {
		c.loop(ctx)
		return nil
	})
	return group.Wait()
}

func (c *control) loop(ctx context.Context) {
	deadline := time.NewTimer(time.Hour)
	defer deadline.Stop()
	for {
		select {
		case <-ctx.Done():
			c.retireAll(ctx)
			return
		case u := <-c.configs:
			c.configure(ctx, u)
		case d := <-c.discoveries:
			c.discovered(ctx, d)
		case <-c.changed:
		case <-c.news():
			c.heed()
		case <-deadline.C:
		}
		deadline.Reset(c.advance(ctx))
	}
}

// discover begins a discovery of the wanted backends.
func (c *control) discover(ctx context.Context) {
	if c.stopDiscovery != nil {
		c.stopDiscovery()
	}
	ctx, c.stopDiscovery = context.WithCancel(ctx)
	c.epoch++
	epoch, wanted := c.epoch, c.wanted
	c.group.Go(func() error {
		err := c.options.Discover(wanted).Run(ctx,
			func(f discovery.Finding) { send(ctx, c.discoveries, discovered{epoch, f}) })
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("discovering the backends of group %q: %w", wanted.Group, err)
		}
		return nil
	})
}

func (c *control) configure(ctx context.Context, u config.Update) {
	c.refused = ""
	if u.Refused != nil {
		c.refused = u.Refused.Error()
	}
	c.options.Metrics.ConfigurationRefused(u.Refused != nil)
	if u.Configuration != nil {
		c.want(ctx, u.Configuration)
	}
}

// want takes steps to put a configuration into force.
func (c *control) want(ctx context.Context, next *configv1alpha1.RuntimeConfiguration) {
	waiting := c.wanted != c.serving
	same := sameBackends(next, c.wanted)
	c.wanted = next
	if !same {
		c.discover(ctx)
		return
	}
	if !waiting {
		c.adopt()
	}
}

// sameBackends says that two configurations lead to the same backends with the same credentials, none of them the gateway itself.
func sameBackends(a, b *configv1alpha1.RuntimeConfiguration) bool {
	return a.Group == b.Group && a.Discovery == b.Discovery && slices.Equal(a.OwnURLs, b.OwnURLs) && reflect.DeepEqual(a.OutgoingAuth(), b.OutgoingAuth()) && slices.EqualFunc(a.Backends, b.Backends,
		func(a, b configv1alpha1.Backend) bool { return reflect.DeepEqual(a, b) })
}

// adopt puts the wanted configuration into force.
func (c *control) adopt() {
	if c.serving == c.wanted {
		return
	}
	if !slices.Equal(c.serving.AllowedHosts, c.wanted.AllowedHosts) {
		c.gateway.SetAllowedHosts(c.wanted.AllowedHosts)
	}
	if !slices.Equal(c.serving.AllowedOrigins, c.wanted.AllowedOrigins) {
		c.gateway.SetAllowedOrigins(c.wanted.AllowedOrigins)
	}
	c.serving = c.wanted
	c.options.Metrics.ConfigurationServing(c.serving.Generation)
	for _, set := range []map[backend.Key]*member{c.members, c.incoming} {
		for _, m := range set {
			if m.monitor != nil {
				m.monitor.SetPolicy(c.policy())
			}
		}
	}
}

// policy is the one by which backends are judged under the configuration in force.
func (c *control) policy() health.Policy { return c.options.Health.With(c.serving.Health) }

// discovered takes a list of backends over: members whose target did not change go on.
func (c *control) discovered(ctx context.Context, d discovered) {
	if d.epoch != c.epoch {
		return
	}
	c.discoveryError = ""
	if d.Problem != nil {
		c.discoveryError = d.Problem.Error()
		c.options.Logger.Warn("Could not list all backends; those found before are served", "error", d.Problem)
	}
	if !d.Complete {
		return
	}
	moved := c.serving.Group != c.wanted.Group
	c.adopt()
	c.listed = true
	listed := make(map[backend.Key]bool, len(d.Targets))
	for _, t := range d.Targets {
		listed[t.Key] = true
		c.expect(ctx, refuseLoop(t, c.serving.OwnURLs, c.options.Listen))
	}
	for key, m := range c.incoming {
		if !listed[key] {
			delete(c.incoming, key)
			c.retire(ctx, m)
		}
	}
	for key, m := range c.members {
		switch {
		case listed[key]:
		case moved, len(c.leaving) > 0:
			c.leaving[key] = m
		default:
			c.remove(key)
		}
	}
}

// expect sees to it that there is a member for a target, or one to come.
func (c *control) expect(ctx context.Context, t backend.Target) {
	delete(c.leaving, t.Key)
	if m, there := c.incoming[t.Key]; there {
		if m.become(t) {
			return
		}
		delete(c.incoming, t.Key)
		c.retire(ctx, m)
	}
	if m, there := c.members[t.Key]; there && m.become(t) {
		return
	}
	c.incoming[t.Key] = c.start(ctx, t)
}

// start makes a member and begins to judge it.
func (c *control) start(ctx context.Context, t backend.Target) *member {
	m := &member{key: t.Key, target: t, created: time.Now()}
	if t.Refused != (backend.Refusal{}) {
		return m
	}
	m.calls, m.upstream = semaphore.NewWeighted(maxCalls), &upstream{m, c}
	m.client = backend.NewClient(t, backend.Options{
		Name: c.options.Name, Version: c.options.Version, GatewayID: c.id, Logger: c.options.Logger,
		Transport: c.transport,
	})
	m.monitor = health.NewMonitor(c.policy(), m, health.Observer{
		Verdict:   func(health.Verdict) { signal(c.changed) },
		Loaded:    func() { signal(c.changed) },
		Confirmed: func() { signal(c.changed) },
		Probed: func(took time.Duration, err error) {
			c.options.Metrics.Probe(t.Kind, t.Name, took, err)
		},
	}, c.options.Pauses.Resumed)
	m.monitor.Standby(c.standby)
	m.client.OnListChanged(m.monitor.Reload)
	ctx, m.cancel = context.WithCancel(ctx)
	m.ended = make(chan struct{})
	c.group.Go(func() error {
		defer close(m.ended)
		m.monitor.Run(ctx)
		return nil
	})
	return m
}

// remove drops a member that is no longer listed.
func (c *control) remove(key backend.Key) {
	m := c.members[key]
	delete(c.members, key)
	delete(c.leaving, key)
	c.replaced = append(c.replaced, m)
	c.options.Metrics.ForgetBackend(key.Kind, key.Name)
}

// retire ends a member aside. What is in flight outlives the members's removal from the routes.
func (c *control) retire(ctx context.Context, m *member) {
	c.retiring.Go(func() { m.retire(context.WithoutCancel(ctx)) })
}

func (c *control) retireAll(ctx context.Context) {
	for _, set := range []map[backend.Key]*member{c.members, c.incoming} {
		for _, m := range set {
			c.retire(ctx, m)
		}
	}
	c.retireReplaced(ctx)
}

func (c *control) retireReplaced(ctx context.Context) {
	for _, m := range c.replaced {
		c.retire(ctx, m)
	}
	c.replaced = nil
}

// advance brings what is served and reported up to date and says when it is to be done again although nothing happened.
func (c *control) advance(ctx context.Context) time.Duration {
	c.attend()
	again := c.admit()
	if len(c.incoming) == 0 {
		for key := range c.leaving {
			c.remove(key)
		}
	}
	if len(c.leaving) > 0 {
		return again // the present group is served until the next one is complete
	}
	views := c.views()
	c.publish(views)
	c.retireReplaced(ctx)
	again = min(again, c.conclude(views, time.Now()))
	if c.listed && len(c.incoming) == 0 && !c.ready.Swap(true) {
		c.options.Logger.Info("Ready: the first catalog is complete", "backends", len(views), "tools", len(c.catalog.Tools))
	}
	if !c.round.complete {
		return again
	}
	if c.ready.Load() || c.discoveryError != "" && !c.listed {
		c.options.Reporter.Report(c.report(views))
	}
	return again
}
