// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metaac "k8s.io/client-go/applyconfigurations/meta/v1"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	vmcpac "github.com/vmcp-dev/vmcp-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
)

// Bounds that the schema of the CRD sets. One value beyond them would make the API server refuse the whole status.
const (
	maxMessage         = 1024
	maxConditionMsg    = 32768
	maxReason          = 63
	maxURL             = 2048
	maxVersion         = 63
	maxReporter        = 253
	maxProtocolVersion = 63
)

// Identity is the process that reports.
type Identity struct {
	// Reporter is the name of the pod.
	Reporter string
	// Version is the version of the runtime.
	Version string
}

// Build makes the whole of the status that the runtime owns from a report. Whoever applies it drops what it leaves out, so there
// is no other place that makes a part of it. previous is the status in the object, whoever wrote it: what did not change since
// keeps the time of its last transition, over restarts and from one replica to the next.
func Build(r Report, id Identity, previous *v1alpha1.VirtualMCPServerStatus, now time.Time) *vmcpac.VirtualMCPServerStatusApplyConfiguration {
	summary := Summarize(r)
	ready, _ := count(r.Backends)
	status := vmcpac.VirtualMCPServerStatus().
		WithPhase(summary.Phase).
		WithMessage(cut(summary.Message, maxMessage)).
		WithBackends(vmcpac.BackendsSummary().
			WithTotal(int32(len(r.Backends))). //nolint:gosec // A namespace holds fewer objects than an int32.
			WithReady(int32(ready))).          //nolint:gosec // As above.
		WithCatalog(catalogSummary(r.Catalog)).
		WithRuntime(vmcpac.RuntimeInfo().
			WithReporter(cut(id.Reporter, maxReporter)).
			WithVersion(cut(id.Version, maxVersion)).
			WithObservedGeneration(r.Generation))
	for _, c := range conditions(r, summary) {
		status.WithConditions(condition(c, r.Generation, previous, now))
	}
	list := sorted(r.Backends)
	for _, b := range list[:min(len(list), v1alpha1.MaxDiscoveredBackends)] {
		status.WithDiscoveredBackends(discoveredBackend(b, r.Static, previous, now))
	}
	return status
}

func conditions(r Report, s Summary) []metav1.Condition {
	ready := metav1.Condition{Type: v1alpha1.ConditionReady, Status: truth(s.Served), Reason: s.Reason, Message: s.Message}

	discovered := metav1.Condition{Type: v1alpha1.ConditionBackendsDiscovered, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonDiscovered}
	discovered.Message = fmt.Sprintf("Group %s has %s.", r.Group, backends(len(r.Backends)))
	if len(r.Backends) > v1alpha1.MaxDiscoveredBackends {
		discovered.Message += fmt.Sprintf(" The first %d are listed.", v1alpha1.MaxDiscoveredBackends)
	}
	if r.DiscoveryError != "" {
		discovered.Status, discovered.Reason = metav1.ConditionFalse, v1alpha1.ReasonDiscoveryFailed
		discovered.Message = sentence(r.DiscoveryError)
		if r.Discovered {
			discovered.Message += " The last complete list is served."
		}
	}

	catalog := metav1.Condition{Type: v1alpha1.ConditionCatalogReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonCatalogBuilt}
	catalog.Message = fmt.Sprintf("%d tools, %d prompts and %d resources are offered.", r.Catalog.Tools, r.Catalog.Prompts, r.Catalog.Resources)
	switch {
	case !r.Discovered:
		catalog.Status, catalog.Reason = metav1.ConditionFalse, v1alpha1.ReasonDiscoveryFailed
		catalog.Message = "There is no list of backends to build the catalog from."
	case len(r.Catalog.conflicts()) > 0:
		catalog.Status, catalog.Reason, catalog.Message = metav1.ConditionFalse, v1alpha1.ReasonCatalogConflicts, clashes(r.Catalog)
	case len(r.Catalog.Issues) > 0:
		catalog.Message += " See status.catalog.issues for what is not as the backends offer it."
	}
	return []metav1.Condition{ready, discovered, catalog}
}

func truth(b bool) metav1.ConditionStatus {
	if b {
		return metav1.ConditionTrue
	}
	return metav1.ConditionFalse
}

func condition(c metav1.Condition, generation int64, previous *v1alpha1.VirtualMCPServerStatus, now time.Time) *metaac.ConditionApplyConfiguration {
	since := seconds(now)
	if old := meta.FindStatusCondition(previous.Conditions, c.Type); old != nil && old.Status == c.Status && !old.LastTransitionTime.IsZero() {
		since = old.LastTransitionTime
	}
	return metaac.Condition().
		WithType(c.Type).
		WithStatus(c.Status).
		WithObservedGeneration(generation).
		WithReason(c.Reason).
		WithMessage(cut(c.Message, maxConditionMsg)).
		WithLastTransitionTime(since)
}

func discoveredBackend(
	b Backend, static bool, previous *v1alpha1.VirtualMCPServerStatus, now time.Time,
) *vmcpac.DiscoveredBackendApplyConfiguration {
	since := seconds(b.Verdict.Since)
	switch old := find(previous.DiscoveredBackends, b.Target.Key); {
	case old == nil || old.LastTransitionTime.IsZero():
	case old.Status == b.Verdict.Status:
		since = old.LastTransitionTime
	case since.Before(&old.LastTransitionTime):
		since = seconds(now) // another has said otherwise since we came to the verdict
	}
	entry := vmcpac.DiscoveredBackend().
		WithKind(b.Target.Kind).
		WithName(b.Target.Name).
		WithStatus(b.Verdict.Status).
		WithReason(cut(b.Verdict.Reason, maxReason)).
		WithMessage(cut(sentence(b.Verdict.Message), maxMessage)).
		WithLastTransitionTime(since)
	if !static {
		describe(entry, b.Target)
	}
	if b.ProtocolVersion != "" {
		entry.WithProtocolVersion(cut(b.ProtocolVersion, maxProtocolVersion))
	}
	if b.Tools >= 0 {
		entry.WithTools(int32(b.Tools)) //nolint:gosec // The lists of a backend are bounded.
	}
	return entry
}

// describe says what a backend is, which in static mode the operator does.
func describe(entry *vmcpac.DiscoveredBackendApplyConfiguration, t backend.Target) {
	entry.WithTransport(t.DeclaredTransport)
	// A field that holds nothing is left out, for the API server would store nothing of it, and report it as not ours. An address
	// that does not fit is left out too: the first part of a URL is another URL.
	if t.Source != "" {
		entry.WithSource(t.Source)
	}
	if t.URL != "" && len(t.URL) <= maxURL {
		entry.WithURL(t.URL)
	}
	if t.Auth.Type != "" {
		entry.WithAuthType(t.Auth.Type)
	}
	if t.Auth.Config != "" {
		entry.WithAuthConfigRef(vmcpac.LocalReference().WithName(t.Auth.Config))
	}
}

func find(list []v1alpha1.DiscoveredBackend, key backend.Key) *v1alpha1.DiscoveredBackend {
	for i := range list {
		if list[i].Kind == key.Kind && list[i].Name == key.Name {
			return &list[i]
		}
	}
	return nil
}

// seconds is a time as the API server stores it, so that what was read back compares equal.
func seconds(t time.Time) metav1.Time { return metav1.NewTime(t).Rfc3339Copy() }

// cut shortens text to a number of characters, which is what the schema counts.
func cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	if runes := []rune(text); len(runes) > limit {
		return string(runes[:limit-1]) + "…"
	}
	return text
}
