// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package status_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	eventsv1 "k8s.io/api/events/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/kube/kubetest"
	"github.com/vmcp-dev/vmcp-operator/runtime/status"
)

func issue(reason, of, name string) status.Issue {
	return status.Issue{
		Reason: reason, Kind: "tool", Backend: backend.Key{Kind: v1alpha1.KindMCPBackend, Name: of}, Name: name,
		Message: fmt.Sprintf("tool %s of %s is a case of %s", name, of, reason),
	}
}

func TestBuild_CatalogIssues(t *testing.T) {
	entry := func(reason, of, name, message string) v1alpha1.CatalogIssue {
		return v1alpha1.CatalogIssue{Reason: reason, Kind: "tool", Backend: of, Name: name, Message: message}
	}
	long := strings.Repeat("ü", 300)
	var many []status.Issue
	for i := range v1alpha1.MaxCatalogIssues + 1 {
		many = append(many, issue(v1alpha1.ReasonNameShadowed, "a", fmt.Sprint(i)))
	}
	for name, c := range map[string]struct {
		issues                   []status.Issue
		conflicts, count, length int
		phase                    v1alpha1.Phase
		first                    v1alpha1.CatalogIssue
		message                  string // of CatalogReady
	}{
		"conflicts degrade": {
			[]status.Issue{issue(v1alpha1.ReasonNameConflict, "a", "x"), issue(v1alpha1.ReasonNameConflict, "b", "x"), issue(v1alpha1.ReasonNotOffered, "b", "y")},
			2, 3, 3, v1alpha1.PhaseDegraded,
			entry(v1alpha1.ReasonNameConflict, "a", "x", "Tool x of a is a case of NameConflict."),
			"2 names clash: tool x of a is a case of NameConflict; tool x of b is a case of NameConflict.",
		},
		"nothing else does": {
			[]status.Issue{issue(v1alpha1.ReasonSchemaChanged, "a", "x")}, 0, 1, 1, v1alpha1.PhaseReady,
			entry(v1alpha1.ReasonSchemaChanged, "a", "x", "Tool x of a is a case of SchemaChanged."),
			"2 tools, 0 prompts and 0 resources are offered. See status.catalog.issues for what is not as the backends offer it.",
		},
		"names that differ beyond what fits are one": {
			[]status.Issue{issue(v1alpha1.ReasonNameChanged, "a", long+"1"), issue(v1alpha1.ReasonNameChanged, "a", long+"2")}, 0, 2, 1, v1alpha1.PhaseReady,
			entry(v1alpha1.ReasonNameChanged, "a", strings.Repeat("ü", 255)+"…", "Tool "+long+"1 of a is a case of NameChanged."),
			"2 tools, 0 prompts and 0 resources are offered. See status.catalog.issues for what is not as the backends offer it.",
		},
		"more than fit": {
			many, 0, v1alpha1.MaxCatalogIssues + 1, v1alpha1.MaxCatalogIssues, v1alpha1.PhaseReady,
			entry(v1alpha1.ReasonNameShadowed, "a", "0", "Tool 0 of a is a case of NameShadowed."),
			"2 tools, 0 prompts and 0 resources are offered. See status.catalog.issues for what is not as the backends offer it.",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := report(ready("a"))
			r.Catalog.Issues = c.issues
			s := build(t, r, nil, t0)
			got := s.Catalog
			if int(got.Conflicts) != c.conflicts || int(got.IssueCount) != c.count || len(got.Issues) != c.length || s.Phase != c.phase {
				t.Errorf("%d conflicts, %d issues, %d of them listed, phase %s", got.Conflicts, got.IssueCount, len(got.Issues), s.Phase)
			}
			if diff := cmp.Diff(c.first, got.Issues[0]); diff != "" {
				t.Error(diff)
			}
			if message := s.Conditions[2].Message; message != c.message {
				t.Errorf("the message of %s is %q", s.Conditions[2].Type, message)
			}
		})
	}
	if s := build(t, report(ready("a")), nil, t0); s.Catalog.IssueCount != 0 || s.Catalog.Issues != nil {
		t.Errorf("issues of a catalog that has none: %+v", s.Catalog)
	}
}

// Issues are told in the status while they are there, and in one event for each reason when they come.
func TestKubeReporter_RecordsCatalogIssues(t *testing.T) {
	s := newServer(t)
	r := s.reporter(t, "pod-1")
	with := func(issues ...status.Issue) status.Report {
		r := report(ready("a"))
		r.Catalog.Issues = issues
		return r
	}
	expect := func(issues int, want ...string) {
		t.Helper()
		kubetest.Eventually(t, func() string {
			if c := s.get(t).Status.Catalog; c == nil || len(c.Issues) != issues {
				return fmt.Sprintf("the catalog is %+v", c)
			}
			var list eventsv1.EventList
			if err := s.List(t.Context(), &list, client.InNamespace(s.namespace)); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range list.Items {
				if e.Action == "ReportCatalog" && e.Regarding.Name == s.name && e.ReportingInstance == "pod-1" {
					got = append(got, fmt.Sprintf("%s %s: %s", e.Type, e.Reason, e.Note))
				}
			}
			return cmp.Diff(want, got, cmpopts.SortSlices(func(a, b string) bool { return a < b }))
		})
	}
	shadowed := issue(v1alpha1.ReasonNameShadowed, "a", "z")
	r.Report(with(issue(v1alpha1.ReasonNotOffered, "a", "x"), issue(v1alpha1.ReasonNotOffered, "a", "y"), shadowed))
	first := []string{
		"Warning NotOffered: Tool x of a is a case of NotOffered. Tool y of a is a case of NotOffered.",
		"Normal NameShadowed: Tool z of a is a case of NameShadowed.",
	}
	expect(3, first...)
	r.Report(with(shadowed, issue(v1alpha1.ReasonSchemaChanged, "a", "z")))
	expect(2, append(first, "Warning SchemaChanged: Tool z of a is a case of SchemaChanged.")...)
}
