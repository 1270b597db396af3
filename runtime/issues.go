// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"fmt"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/catalog"
	"github.com/vmcp-dev/vmcp-operator/runtime/status"
)

// issuesOf says what of the catalog is not as the backends offer it, the gravest first: what the configuration does not settle, then what
// it asks for.
func issuesOf(s *catalog.Snapshot, drifts []catalog.Drift) []status.Issue {
	var issues, minor []status.Issue
	for _, c := range s.Conflicts {
		issue := status.Issue{Reason: v1alpha1.ReasonNameConflict, Kind: c.Kind, Backend: c.Loser, Name: c.Original}
		what := fmt.Sprintf("%s %s of %s is not offered", c.Kind, named(c.Original, c.Name), c.Loser.Name)
		switch {
		case c.Resolved:
			issue.Reason = v1alpha1.ReasonNameShadowed
			issue.Message = fmt.Sprintf("%s, because %s has that name and comes first", what, c.Winner.Name)
			minor = append(minor, issue)
			continue
		case c.Winner == backend.Key{}:
			issue.Message = what + ", because it is not the only one of that name, and no override decides"
		default:
			issue.Message = fmt.Sprintf("%s, because %s has that name", what, c.Winner.Name)
		}
		issues = append(issues, issue)
	}
	for _, o := range s.Omissions {
		issues = append(issues, status.Issue{
			Reason: v1alpha1.ReasonNotOffered, Kind: o.Kind, Backend: o.Backend, Name: o.Original,
			Message: fmt.Sprintf("%s %s of %s is not offered: %s", o.Kind, o.Original, o.Backend.Name, o.Reason),
		})
	}
	served := map[catalog.Drift]bool{}
	for _, tool := range s.Tools {
		served[catalog.Drift{Backend: tool.Backend, Tool: tool.Original}] = true
	}
	for _, d := range drifts {
		if served[d] {
			issues = append(issues, status.Issue{
				Reason: v1alpha1.ReasonSchemaChanged, Kind: catalog.KindTool, Backend: d.Backend, Name: d.Tool,
				Message: fmt.Sprintf("the schema of tool %s of %s is not the one that was first read", d.Tool, d.Backend.Name),
			})
		}
	}
	for _, u := range s.Unused {
		issues = append(issues, status.Issue{
			Reason: v1alpha1.ReasonOverrideUnused, Kind: catalog.KindTool, Backend: u.Backend, Name: u.Tool,
			Message: fmt.Sprintf("the override of tool %s of %s changes nothing, because there is no such tool", u.Tool, u.Backend.Name),
		})
	}
	for _, r := range s.Renames {
		issues = append(issues, status.Issue{
			Reason: v1alpha1.ReasonNameChanged, Kind: r.Kind, Backend: r.Backend, Name: r.Original,
			Message: fmt.Sprintf("%s %s of %s is offered as %s: its own name would have more than %d characters, or some that MCP does not allow",
				r.Kind, r.Original, r.Backend.Name, r.Name, catalog.MaxNameLength),
		})
	}
	return append(issues, minor...)
}

// named is what a backend calls an entry, and what clients would see if that is something else.
func named(original, exposed string) string {
	if original == exposed {
		return original
	}
	return fmt.Sprintf("%s (%s)", original, exposed)
}
