// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

func TestEventsOf(t *testing.T) {
	backend := func(name string, status v1alpha1.BackendStatus) v1alpha1.DiscoveredBackend {
		return v1alpha1.DiscoveredBackend{Kind: "MCPBackend", Name: name, Status: status, Message: "Why " + name + "."}
	}
	statusOf := func(catalog *v1alpha1.CatalogSummary, backends ...v1alpha1.DiscoveredBackend) *v1alpha1.VirtualMCPServer {
		return &v1alpha1.VirtualMCPServer{Status: v1alpha1.VirtualMCPServerStatus{DiscoveredBackends: backends, Catalog: catalog}}
	}
	const (
		ready, degraded = v1alpha1.BackendReady, v1alpha1.BackendDegraded
		gone, refused   = v1alpha1.BackendUnavailable, v1alpha1.BackendUnauthenticated
		unknown         = v1alpha1.BackendUnknown
	)
	size := func(tools int32) *v1alpha1.CatalogSummary { return &v1alpha1.CatalogSummary{Tools: tools} }
	for name, c := range map[string]struct {
		before, after *v1alpha1.VirtualMCPServer
		want          []string
	}{
		"first report": {
			statusOf(nil), statusOf(size(3), backend("a", ready), backend("b", gone), backend("c", unknown), backend("d", degraded)),
			[]string{"Warning BackendUnavailable: b unavailable: Why b.", "Normal BackendReady: Served: a, d."},
		},
		"nothing": {statusOf(size(3), backend("a", ready), backend("b", gone)), statusOf(size(3), backend("a", ready), backend("b", gone)), nil},
		"slow, and not any more": {
			statusOf(size(3), backend("a", ready), backend("b", degraded)), statusOf(size(3), backend("a", degraded), backend("b", ready)), nil,
		},
		"one goes": {
			statusOf(size(3), backend("a", ready)), statusOf(size(0), backend("a", refused)),
			[]string{
				"Warning BackendUnavailable: a unauthenticated: Why a.",
				"Normal CatalogChanged: 0 tools, 0 prompts and 0 resources are offered; it was 3 tools, 0 prompts and 0 resources.",
			},
		},
		"one comes back":               {statusOf(size(3), backend("a", gone)), statusOf(size(3), backend("a", degraded)), []string{"Normal BackendReady: Served: a."}},
		"another trouble":              {statusOf(size(3), backend("a", gone)), statusOf(size(3), backend("a", refused)), nil},
		"nobody reported":              {statusOf(size(3), backend("a", unknown)), statusOf(size(3), backend("a", gone)), []string{"Warning BackendUnavailable: a unavailable: Why a."}},
		"one leaves the group":         {statusOf(size(3), backend("a", ready)), statusOf(size(3)), nil},
		"one of that name, other kind": {statusOf(size(3), backend("a", ready)), statusOf(size(3), v1alpha1.DiscoveredBackend{Kind: "Service", Name: "a", Status: ready}), []string{"Normal BackendReady: Served: a."}},
		"many go": {
			statusOf(size(3)), statusOf(size(3), backend("a", gone), backend("b", gone), backend("c", gone), backend("d", gone), backend("e", gone), backend("f", gone)),
			[]string{"Warning BackendUnavailable: a unavailable: Why a. b unavailable: Why b. c unavailable: Why c. d unavailable: Why d. e unavailable: Why e. and 1 more"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, e := range eventsOf(c.before, c.after) {
				got = append(got, fmt.Sprintf("%s %s: %s", e.Type, e.Reason, e.Note))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A flood of events ends, and the next one says how many are missing.
func TestEventLimit(t *testing.T) {
	limit, allowed := newEventLimit(), 0
	for range 1000 {
		if limit.Allow() {
			allowed++
		}
	}
	if allowed != eventBurst {
		t.Errorf("%d of 1000 events at once were made", allowed)
	}
}
