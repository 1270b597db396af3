// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"cmp"
	"context"
	"reflect"
	"slices"
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/catalog"
	"github.com/vmcp-dev/vmcp-operator/runtime/status"
)

// admit makes members of the incoming that have settled, and says when the next one does at the latest. What replaces a member ends it,
// which is called until the next catalog is published: while another group is awaited that is when all of it has settled.
func (c *control) admit() time.Duration {
	now, resumed, again := time.Now(), c.options.Pauses.Resumed(), time.Hour
	var settled []*member
	for _, m := range c.incoming {
		if v := m.view(); v.settled(now, resumed) {
			settled = append(settled, m)
		} else {
			again = min(again, settleDeadline-now.Sub(latest(m.created, resumed)))
		}
	}
	if len(c.leaving) > 0 && len(settled) < len(c.incoming) {
		return again
	}
	for _, m := range settled {
		delete(c.incoming, m.key)
		if old, there := c.members[m.key]; there {
			c.replaced = append(c.replaced, old)
		}
		c.members[m.key] = m
	}
	return again
}

// views looks at all members at one moment, in the one order of backends.
func (c *control) views() []view {
	views := make([]view, 0, len(c.members))
	for _, m := range c.members {
		views = append(views, m.view())
	}
	slices.SortFunc(views, func(a, b view) int { return a.target.Compare(b.target.Key) })
	return views
}

// publish makes the members that are served the catalog and the routes. Routes change only with the catalog: what a member offers is its own.
func (c *control) publish(views []view) {
	members := make([]catalog.Member, 0, len(views))
	next := &routes{control: c, members: make(map[backend.Key]*member, len(views))}
	for _, v := range views {
		c.options.Metrics.BackendStatus(v.target.Kind, v.target.Name, v.verdict.Status)
		m := catalog.Member{Key: v.target.Key}
		if v.served() {
			m.Inventory = v.inventory
			next.members[v.target.Key] = v.member
		}
		members = append(members, m)
	}
	if slices.Equal(members, c.cataloged) && reflect.DeepEqual(c.builtBy.Aggregation, c.serving.Aggregation) {
		return
	}
	c.cataloged, c.builtBy = members, c.serving
	c.catalog = catalog.Build(members, c.serving.Aggregation)
	c.routes = next
	c.gateway.Serve(c.catalog, c.routes)
	c.issues = issuesOf(c.catalog, c.schemas.Observe(members))
	c.options.Metrics.Catalog(len(c.catalog.Tools), len(c.catalog.Prompts), len(c.catalog.Resources), len(c.catalog.Templates),
		len(c.catalog.Conflicts), c.catalog.Tokens)
	c.options.Logger.Info("Catalog changed", "backends", len(members)-len(c.catalog.Missing), "missing", len(c.catalog.Missing), "tools", len(c.catalog.Tools), "prompts", len(c.catalog.Prompts),
		"resources", len(c.catalog.Resources), "templates", len(c.catalog.Templates), "conflicts", len(c.catalog.Conflicts))
}

// report says what is served.
func (c *control) report(views []view) status.Report {
	r := status.Report{
		AsOf:           c.round.since,
		Generation:     c.serving.Generation,
		Group:          c.serving.Group,
		Static:         c.serving.Source == v1alpha1.OutgoingAuthSourceInline,
		Discovered:     c.listed,
		DiscoveryError: c.discoveryError,
		Refused:        c.refused,
		Catalog: status.Catalog{
			Tools: len(c.catalog.Tools), Prompts: len(c.catalog.Prompts), Resources: len(c.catalog.Resources), Tokens: c.catalog.Tokens,
			Issues: c.issues,
		},
	}
	for _, v := range views {
		b := status.Backend{Target: v.target, Verdict: v.verdict, Tools: -1}
		if v.served() {
			b.ProtocolVersion = cmp.Or(v.inventory.ProtocolVersion, v.client.ProtocolVersion())
			b.Tools = len(v.inventory.Tools)
		}
		r.Backends = append(r.Backends, b)
	}
	return r
}

// send hands a value over unless the receiver has ended.
func send[T any](ctx context.Context, to chan<- T, value T) {
	select {
	case to <- value:
	case <-ctx.Done():
	}
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
