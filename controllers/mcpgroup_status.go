// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"slices"
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	acv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
)

// mcpGroupFacts are what one reconciliation of an MCPGroup found out.
type mcpGroupFacts struct {
	// backends and servers are how many of each name the group.
	backends, servers int32
	// unbound are the credentials that its gateways could not be given, or not be deprived of.
	unbound []authFailure
}

// newMCPGroupStatus is the whole status of an MCPGroup; the operator is its only writer.
func newMCPGroupStatus(g *v1alpha1.MCPGroup, f mcpGroupFacts, now time.Time) *acv1alpha1.MCPGroupStatusApplyConfiguration {
	c := conditions{old: g.Status.Conditions, generation: g.Generation, now: now}
	ready := f.readyVerdict()
	c.add(v1alpha1.ConditionReady, ready)
	if f.stalled() {
		c.add(v1alpha1.ConditionStalled, isTrue(ready.reason, ready.message))
	}
	return acv1alpha1.MCPGroupStatus().
		WithObservedGeneration(g.Generation).
		WithBackends(f.backends).
		WithVirtualMCPServers(f.servers).
		WithConditions(c.built...)
}

// readyVerdict says whether the gateways have the rights to what the backends name. Whether the backends answer is for each gateway to say.
func (f mcpGroupFacts) readyVerdict() verdict {
	if v := authVerdict(f.unbound); v.reason != "" {
		return v
	}
	return isTrue(v1alpha1.ReasonAuthRolesBound, "the gateways have the rights to read the credentials that the backends name, if they name any")
}

// stalled says whether a person has to do something.
func (f mcpGroupFacts) stalled() bool {
	return slices.ContainsFunc(f.unbound, func(u authFailure) bool { return needsPerson(u.err) })
}
