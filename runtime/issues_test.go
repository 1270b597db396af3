// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/catalog"
)

func TestIssuesOf(t *testing.T) {
	offer := func(name string, tools ...string) catalog.Member {
		m := catalog.Member{Key: backend.Key{Kind: v1alpha1.KindMCPBackend, Name: name}, Inventory: &backend.Inventory{}}
		for _, tool := range tools {
			m.Inventory.Tools = append(m.Inventory.Tools, backend.Item{ID: tool, Raw: json.RawMessage(fmt.Sprintf(`{"name":%q}`, tool))})
		}
		return m
	}
	broken := offer("c", "broken")
	broken.Inventory.Tools[0].Raw = json.RawMessage(`[]`)
	drifted := []catalog.Drift{
		{Backend: backend.Key{Kind: v1alpha1.KindMCPBackend, Name: "a"}, Tool: "one"},
		{Backend: backend.Key{Kind: v1alpha1.KindMCPBackend, Name: "a"}, Tool: "excluded"},
	}
	rules := []v1alpha1.BackendTools{
		{Backend: "a", Exclude: []v1alpha1.ToolPattern{"excluded"}, Overrides: []v1alpha1.ToolOverride{{Tool: "typo", Title: "T"}}},
		{Backend: "b", Overrides: []v1alpha1.ToolOverride{{Tool: "other", Name: "one"}}},
	}
	for name, tc := range map[string]struct {
		resolution v1alpha1.ConflictResolution
		want       []string
	}{
		"priority": {
			v1alpha1.ConflictResolution{Strategy: v1alpha1.ConflictResolutionPriority, Priority: []string{"b"}},
			[]string{
				"NameConflict tool c/two words: tool two words (two_words_a03f1d6116) of c is not offered, because a has that name",
				"NotOffered tool c/broken: tool broken of c is not offered: its definition is no JSON object",
				"OverrideUnused tool a/typo: the override of tool typo of a changes nothing, because there is no such tool",
				"NameChanged tool a/two words: tool two words of a is offered as two_words_a03f1d6116: its own name would have more than 64 characters, or some that MCP does not allow",
				"NameShadowed tool a/one: tool one of a is not offered, because b has that name and comes first",
			},
		},
		"manual": {
			v1alpha1.ConflictResolution{Strategy: v1alpha1.ConflictResolutionManual},
			[]string{
				"NameConflict tool a/one: tool one of a is not offered, because it is not the only one of that name, and no override decides",
				"NameConflict tool a/two words: tool two words (two_words_a03f1d6116) of a is not offered, because it is not the only one of that name, and no override decides",
				"NameConflict tool b/other: tool other (one) of b is not offered, because it is not the only one of that name, and no override decides",
				"NameConflict tool c/two words: tool two words (two_words_a03f1d6116) of c is not offered, because it is not the only one of that name, and no override decides",
				"NotOffered tool c/broken: tool broken of c is not offered: its definition is no JSON object",
				"OverrideUnused tool a/typo: the override of tool typo of a changes nothing, because there is no such tool",
			},
		},
		"prefix": {
			v1alpha1.ConflictResolution{PrefixFormat: "{backend}."},
			[]string{
				"NotOffered tool c/broken: tool broken of c is not offered: its definition is no JSON object",
				"SchemaChanged tool a/one: the schema of tool one of a is not the one that was first read",
				"OverrideUnused tool a/typo: the override of tool typo of a changes nothing, because there is no such tool",
				"NameChanged tool a/two words: tool two words of a is offered as a.two_words_daf2ef3d79: its own name would have more than 64 characters, or some that MCP does not allow",
				"NameChanged tool c/two words: tool two words of c is offered as c.two_words_5de80380b9: its own name would have more than 64 characters, or some that MCP does not allow",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := offer("c", "two words")
			c.Inventory.Tools = append(c.Inventory.Tools, broken.Inventory.Tools...)
			s := catalog.Build([]catalog.Member{offer("a", "one", "excluded", "two words"), offer("b", "other"), c},
				v1alpha1.Aggregation{ConflictResolution: tc.resolution, Tools: rules})
			var got []string
			for _, i := range issuesOf(s, drifted) {
				got = append(got, fmt.Sprintf("%s %s %s/%s: %s", i.Reason, i.Kind, i.Backend.Name, i.Name, i.Message))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
