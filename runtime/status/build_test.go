// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package status_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/health"
	"github.com/vmcp-dev/vmcp-operator/runtime/status"
)

var (
	t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	id = status.Identity{Reporter: "pod-1", Version: "v1"}
)

func member(name string, s v1alpha1.BackendStatus, reason string) status.Backend {
	b := status.Backend{
		Target: backend.Target{
			Key: backend.Key{Kind: v1alpha1.KindMCPBackend, Name: name}, Source: v1alpha1.BackendSourceRemote,
			URL: "https://" + name + ".example.com/mcp", Transport: v1alpha1.TransportStreamableHTTP,
			DeclaredTransport: v1alpha1.TransportStreamableHTTP,
		},
		Verdict: health.Verdict{Status: s, Reason: reason, Message: "a cause", Since: t0},
		Tools:   -1,
	}
	if s.Served() {
		b.Tools, b.ProtocolVersion = 2, "2025-11-25"
	}
	return b
}

func ready(name string) status.Backend {
	return member(name, v1alpha1.BackendReady, v1alpha1.ReasonProbeSucceeded)
}

func slow(name string) status.Backend {
	return member(name, v1alpha1.BackendDegraded, v1alpha1.ReasonSlow)
}

func down(name string) status.Backend {
	return member(name, v1alpha1.BackendUnavailable, v1alpha1.ReasonConnectionRefused)
}

// report is one of verdicts that are always new enough; see TestKubeReporter_WaitsForNewVerdicts.
func report(members ...status.Backend) status.Report {
	return status.Report{AsOf: time.Now().Add(time.Hour), Generation: 3, Group: "team", Discovered: true, Backends: members, Catalog: status.Catalog{Tools: 2 * len(members)}}
}

// build is the typed status, as the API server stores it.
func build(t *testing.T, r status.Report, previous *v1alpha1.VirtualMCPServerStatus, now time.Time) *v1alpha1.VirtualMCPServerStatus {
	t.Helper()
	if previous == nil {
		previous = &v1alpha1.VirtualMCPServerStatus{}
	}
	data, err := json.Marshal(status.Build(r, id, previous, now))
	if err != nil {
		t.Fatal(err)
	}
	s := &v1alpha1.VirtualMCPServerStatus{}
	if err := json.Unmarshal(data, s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestBuild_Phase(t *testing.T) {
	conflicting := report(ready("a"))
	conflicting.Catalog.Issues = []status.Issue{issue(v1alpha1.ReasonNameConflict, "b", "x")}
	undiscovered := status.Report{Generation: 3, Group: "team", DiscoveryError: `listing the MCPBackends of group "team": forbidden`}
	stale := report(ready("a"))
	stale.DiscoveryError = "forbidden"

	refused, refusedToo := report(ready("a")), report(ready("a"), down("b"))
	refused.Refused, refusedToo.Refused = "config.yaml: unknown field colour", "config.yaml: unknown field colour"

	for name, c := range map[string]struct {
		report     status.Report
		phase      v1alpha1.Phase
		message    string
		conditions []string // type=status/reason
	}{
		"all are ready": {
			report(ready("a"), ready("b")), v1alpha1.PhaseReady, "2 of 2 backends ready.",
			[]string{"Ready=True/AllBackendsReady", "BackendsDiscovered=True/Discovered", "CatalogReady=True/CatalogBuilt"},
		},
		"one is down": {
			report(ready("a"), down("b")), v1alpha1.PhaseDegraded, "1 of 2 backends ready; not ready: b (ConnectionRefused).",
			[]string{"Ready=True/BackendsNotReady", "BackendsDiscovered=True/Discovered", "CatalogReady=True/CatalogBuilt"},
		},
		"one is slow": {
			report(ready("a"), slow("b")), v1alpha1.PhaseDegraded, "1 of 2 backends ready; not ready: b (Slow).",
			[]string{"Ready=True/BackendsNotReady", "BackendsDiscovered=True/Discovered", "CatalogReady=True/CatalogBuilt"},
		},
		"what is served is all slow": {
			report(slow("a"), down("b")), v1alpha1.PhaseDegraded, "0 of 2 backends ready; not ready: a (Slow), b (ConnectionRefused).",
			[]string{"Ready=True/BackendsNotReady", "BackendsDiscovered=True/Discovered", "CatalogReady=True/CatalogBuilt"},
		},
		"none is served": {
			report(down("a"), member("b", v1alpha1.BackendUnauthenticated, v1alpha1.ReasonUnauthorized)), v1alpha1.PhaseFailed,
			"None of 2 backends is served: a (ConnectionRefused), b (Unauthorized).",
			[]string{"Ready=False/NoBackendReady", "BackendsDiscovered=True/Discovered", "CatalogReady=True/CatalogBuilt"},
		},
		"there are none": {
			report(), v1alpha1.PhaseDegraded, "Group team has no backends.",
			[]string{"Ready=False/NoBackends", "BackendsDiscovered=True/Discovered", "CatalogReady=True/CatalogBuilt"},
		},
		"names clash": {
			conflicting, v1alpha1.PhaseDegraded, "Tool x of b is a case of NameConflict.",
			[]string{"Ready=True/CatalogConflicts", "BackendsDiscovered=True/Discovered", "CatalogReady=False/CatalogConflicts"},
		},
		"the backends were never listed": {
			undiscovered, v1alpha1.PhaseFailed, `Listing the MCPBackends of group "team": forbidden.`,
			[]string{"Ready=False/DiscoveryFailed", "BackendsDiscovered=False/DiscoveryFailed", "CatalogReady=False/DiscoveryFailed"},
		},
		"the backends cannot be listed any more": {
			stale, v1alpha1.PhaseReady, "1 of 1 backend ready.",
			[]string{"Ready=True/AllBackendsReady", "BackendsDiscovered=False/DiscoveryFailed", "CatalogReady=True/CatalogBuilt"},
		},
		"a newer configuration is refused": {
			refused, v1alpha1.PhaseDegraded, "A newer configuration is refused, that of generation 3 is served: config.yaml: unknown field colour.",
			[]string{"Ready=True/ConfigurationRefused", "BackendsDiscovered=True/Discovered", "CatalogReady=True/CatalogBuilt"},
		},
		"a newer configuration is refused, and one is down": {
			refusedToo, v1alpha1.PhaseDegraded, "1 of 2 backends ready; not ready: b (ConnectionRefused). " +
				"A newer configuration is refused, that of generation 3 is served: config.yaml: unknown field colour.",
			[]string{"Ready=True/BackendsNotReady", "BackendsDiscovered=True/Discovered", "CatalogReady=True/CatalogBuilt"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := build(t, c.report, nil, t0)
			if s.Phase != c.phase || s.Message != c.message {
				t.Errorf("phase is %s: %s\nwant %s: %s", s.Phase, s.Message, c.phase, c.message)
			}
			var conditions []string
			for _, condition := range s.Conditions {
				conditions = append(conditions, fmt.Sprintf("%s=%s/%s", condition.Type, condition.Status, condition.Reason))
				if condition.ObservedGeneration != 3 || condition.Message == "" || condition.LastTransitionTime.IsZero() {
					t.Errorf("condition %+v lacks its generation, message or time", condition)
				}
			}
			if diff := cmp.Diff(c.conditions, conditions); diff != "" {
				t.Errorf("conditions (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBuild_Whole(t *testing.T) {
	r := report(down("b"), ready("a"))
	r.Catalog = status.Catalog{Tools: 2, Prompts: 1, Resources: 4, Tokens: 500}
	got := build(t, r, nil, t0)
	since := metav1.NewTime(t0)
	two := int32(2)
	want := &v1alpha1.VirtualMCPServerStatus{
		Phase:    v1alpha1.PhaseDegraded,
		Message:  "1 of 2 backends ready; not ready: b (ConnectionRefused).",
		Backends: &v1alpha1.BackendsSummary{Total: 2, Ready: 1},
		Catalog:  &v1alpha1.CatalogSummary{Tools: 2, Prompts: 1, Resources: 4, Tokens: 500},
		Runtime:  &v1alpha1.RuntimeInfo{Reporter: "pod-1", Version: "v1", ObservedGeneration: 3},
		DiscoveredBackends: []v1alpha1.DiscoveredBackend{
			{
				Kind: "MCPBackend", Name: "a", Source: v1alpha1.BackendSourceRemote, URL: "https://a.example.com/mcp",
				Transport: v1alpha1.TransportStreamableHTTP, Status: v1alpha1.BackendReady, Reason: v1alpha1.ReasonProbeSucceeded,
				Message: "A cause.", ProtocolVersion: "2025-11-25", Tools: &two, LastTransitionTime: since,
			},
			{
				Kind: "MCPBackend", Name: "b", Source: v1alpha1.BackendSourceRemote, URL: "https://b.example.com/mcp",
				Transport: v1alpha1.TransportStreamableHTTP, Status: v1alpha1.BackendUnavailable, Reason: v1alpha1.ReasonConnectionRefused,
				Message: "A cause.", LastTransitionTime: since,
			},
		},
	}
	got.Conditions = nil // see TestBuild_Phase
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	if got.URL != "" || got.ObservedGeneration != 0 {
		t.Error("the status has fields of the operator")
	}
}

func TestBuild_TransitionTimes(t *testing.T) {
	before := build(t, report(ready("a"), ready("b")), nil, t0)
	later := t0.Add(time.Hour)

	// Another process sees the same: its own times are later, and must not show.
	r := report(ready("a"), ready("b"))
	for i := range r.Backends {
		r.Backends[i].Verdict.Since = later
	}
	if diff := cmp.Diff(before, build(t, r, before, later)); diff != "" {
		t.Errorf("the status changed although nothing did (-before +after):\n%s", diff)
	}

	r = report(ready("a"), down("b"))
	r.Backends[1].Verdict.Since = later
	after := build(t, r, before, later.Add(time.Minute))
	if got := after.DiscoveredBackends[0].LastTransitionTime; !got.Time.Equal(t0) {
		t.Errorf("a did not change and is said to have at %s", got)
	}
	if got := after.DiscoveredBackends[1].LastTransitionTime; !got.Time.Equal(later) {
		t.Errorf("b is said to have changed at %s, want %s, when it was seen", got, later)
	}
	if got := meta.FindStatusCondition(after.Conditions, v1alpha1.ConditionReady).LastTransitionTime; !got.Time.Equal(t0) {
		t.Errorf("Ready is True as before and is said to have changed at %s", got)
	}

	// What another said since we came to a verdict is older than our saying otherwise now.
	r = report(ready("a"), ready("b"))
	if got := build(t, r, after, later.Add(time.Minute)).DiscoveredBackends[1].LastTransitionTime; !got.Time.Equal(later.Add(time.Minute)) {
		t.Errorf("b is said to have changed at %s, want %s: it changed after %s", got, later.Add(time.Minute), later)
	}

	none := build(t, report(down("a"), down("b")), after, later.Add(2*time.Minute))
	if got := meta.FindStatusCondition(none.Conditions, v1alpha1.ConditionReady).LastTransitionTime; !got.Time.Equal(later.Add(2 * time.Minute)) {
		t.Errorf("Ready turned False and is said to have changed at %s", got)
	}
}

func TestBuild_StaysWithinTheBounds(t *testing.T) {
	var members []status.Backend
	for i := range v1alpha1.MaxDiscoveredBackends + 44 {
		b := down(fmt.Sprintf("backend-%03d", i))
		b.Verdict.Message = strings.Repeat("ä", 5000)
		members = append(members, b)
	}
	slices.Reverse(members)
	s := build(t, report(members...), nil, t0)
	if len(s.DiscoveredBackends) != v1alpha1.MaxDiscoveredBackends || s.DiscoveredBackends[0].Name != "backend-000" {
		t.Errorf("%d backends are listed from %s on, want the first %d", len(s.DiscoveredBackends), s.DiscoveredBackends[0].Name, v1alpha1.MaxDiscoveredBackends)
	}
	if s.Backends.Total != 300 {
		t.Errorf("total is %d, want all 300", s.Backends.Total)
	}
	if got := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionBackendsDiscovered).Message; !strings.Contains(got, "first 256") {
		t.Errorf("the message does not say that the list is truncated: %s", got)
	}
	if n := utf8.RuneCountInString(s.DiscoveredBackends[0].Message); n != 1024 {
		t.Errorf("a message has %d characters, want 1024", n)
	}
	if n := utf8.RuneCountInString(s.Message); n > 1024 {
		t.Errorf("the message has %d characters", n)
	}
}
