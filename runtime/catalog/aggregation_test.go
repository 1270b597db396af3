// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package catalog_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/catalog"
)

func strategy(s v1alpha1.ConflictResolutionStrategy, priority ...string) v1alpha1.Aggregation {
	return v1alpha1.Aggregation{ConflictResolution: v1alpha1.ConflictResolution{
		Strategy: s, Priority: priority, PrefixFormat: v1alpha1.DefaultPrefixFormat, // which the API server fills in, whatever the strategy
	}}
}

func with(a v1alpha1.Aggregation, tools ...v1alpha1.BackendTools) v1alpha1.Aggregation {
	a.Tools = tools
	return a
}

// served is what is listed, as name=backend/original.
func served(entries []catalog.Entry) []string {
	var out []string
	for _, e := range entries {
		out = append(out, e.Name+"="+e.Backend.Name+"/"+e.Original)
	}
	return out
}

func TestBuildStrategies(t *testing.T) {
	members := []catalog.Member{
		tools("a", "search", "only-a"), tools("b", "search", "shared"), tools("c", "shared", "search", "bad name"),
	}
	conflict := func(name, winner, loser string, resolved bool) catalog.Conflict {
		c := catalog.Conflict{Kind: catalog.KindTool, Name: name, Original: name, Loser: key(loser), Resolved: resolved}
		if winner != "" {
			c.Winner = key(winner)
		}
		return c
	}
	const badName = "bad_name_9c262781c6"
	for name, tc := range map[string]struct {
		aggregation v1alpha1.Aggregation
		want        []string
		conflicts   []catalog.Conflict
	}{
		"unset is prefix": {
			v1alpha1.Aggregation{},
			[]string{
				"a_search=a/search", "a_only-a=a/only-a", "b_search=b/search", "b_shared=b/shared",
				"c_shared=c/shared", "c_search=c/search", "c_bad_name_af276066a9=c/bad name",
			},
			nil,
		},
		"priority serves the first of the list, and what one backend offers bare": {
			strategy(v1alpha1.ConflictResolutionPriority, "c", "b"),
			[]string{"shared=c/shared", "search=c/search", badName + "=c/bad name", "only-a=a/only-a"},
			[]catalog.Conflict{
				conflict("search", "c", "b", true), conflict("shared", "c", "b", true), conflict("search", "c", "a", true),
			},
		},
		"priority leaves a clash of backends that it does not name unresolved": {
			strategy(v1alpha1.ConflictResolutionPriority, "c", "unheard-of"),
			[]string{"shared=c/shared", "search=c/search", badName + "=c/bad name", "only-a=a/only-a"},
			[]catalog.Conflict{
				conflict("search", "c", "a", true), conflict("search", "c", "b", true), conflict("shared", "c", "b", true),
			},
		},
		"priority of nobody here": {
			strategy(v1alpha1.ConflictResolutionPriority, "unheard-of"),
			[]string{"search=a/search", "only-a=a/only-a", "shared=b/shared", badName + "=c/bad name"},
			[]catalog.Conflict{
				conflict("search", "a", "b", false), conflict("shared", "b", "c", false), conflict("search", "a", "c", false),
			},
		},
		"manual serves nobody's": {
			strategy(v1alpha1.ConflictResolutionManual),
			[]string{"only-a=a/only-a", badName + "=c/bad name"},
			[]catalog.Conflict{
				conflict("search", "", "a", false), conflict("search", "", "b", false), conflict("shared", "", "b", false),
				conflict("shared", "", "c", false), conflict("search", "", "c", false),
			},
		},
		"manual with overrides and filters": {
			with(strategy(v1alpha1.ConflictResolutionManual),
				v1alpha1.BackendTools{Backend: "a", Overrides: []v1alpha1.ToolOverride{{Tool: "search", Name: "a.search"}}},
				v1alpha1.BackendTools{Backend: "b", Exclude: []v1alpha1.ToolPattern{"share?"}},
				v1alpha1.BackendTools{Backend: "c", Include: []v1alpha1.ToolPattern{"sha*"}}),
			[]string{"a.search=a/search", "only-a=a/only-a", "search=b/search", "shared=c/shared"},
			nil,
		},
		"an override is the whole name": {
			with(v1alpha1.Aggregation{},
				v1alpha1.BackendTools{Backend: "a", Include: []v1alpha1.ToolPattern{"search"}, Overrides: []v1alpha1.ToolOverride{{Tool: "search", Name: "find"}}},
				v1alpha1.BackendTools{Backend: "b", Visibility: v1alpha1.ToolsHidden, Overrides: []v1alpha1.ToolOverride{{Tool: "search", Name: "find"}}},
				v1alpha1.BackendTools{
					Backend: "c", Include: []v1alpha1.ToolPattern{"*"}, Exclude: []v1alpha1.ToolPattern{"s*"}, Visibility: v1alpha1.ToolsExposed,
					Overrides: []v1alpha1.ToolOverride{{Tool: "bad name", Name: "a_only-a"}},
				}),
			[]string{"find=a/search", "a_only-a=c/bad name"},
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := catalog.Build(members, tc.aggregation)
			if diff := cmp.Diff(tc.want, served(s.Tools)); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tc.conflicts, s.Conflicts); diff != "" {
				t.Error(diff)
			}
			for _, c := range s.Conflicts {
				if e, ok := s.Tool(c.Name); ok != (c.Winner != backend.Key{}) || ok && e.Backend != c.Winner {
					t.Errorf("%q, in conflict, is served by %+v, %v", c.Name, e.Backend, ok)
				}
			}
		})
	}
}

// Every kind of entry has names of its own, and the strategy decides for all of them.
func TestBuildStrategiesForEveryKind(t *testing.T) {
	offer := func(name string) catalog.Member {
		return catalog.Member{Key: key(name), Inventory: &backend.Inventory{
			Tools: items("name", "x"), Prompts: items("name", "x"), Resources: items("uri", "file:///x"), Templates: items("uriTemplate", "db://{x}"),
		}}
	}
	members := []catalog.Member{offer("a"), offer("b")}
	for name, tc := range map[string]struct {
		aggregation                         v1alpha1.Aggregation
		tools, prompts, resources, template string
		conflicts                           int
	}{
		"prefix":   {strategy(v1alpha1.ConflictResolutionPrefix), "a_x=a/x b_x=b/x", "a_x=a/x b_x=b/x", "file:///x=a/file:///x", "db://{x}=a/db://{x}", 2},
		"priority": {strategy(v1alpha1.ConflictResolutionPriority, "b"), "x=b/x", "x=b/x", "file:///x=b/file:///x", "db://{x}=b/db://{x}", 4},
		"manual":   {strategy(v1alpha1.ConflictResolutionManual), "", "", "", "", 8},
	} {
		t.Run(name, func(t *testing.T) {
			s := catalog.Build(members, tc.aggregation)
			got := []string{}
			for _, entries := range [][]catalog.Entry{s.Tools, s.Prompts, s.Resources, s.Templates} {
				got = append(got, strings.Join(served(entries), " "))
			}
			if diff := cmp.Diff([]string{tc.tools, tc.prompts, tc.resources, tc.template}, got); diff != "" {
				t.Error(diff)
			}
			if len(s.Conflicts) != tc.conflicts {
				t.Errorf("%d conflicts, want %d: %+v", len(s.Conflicts), tc.conflicts, s.Conflicts)
			}
			if _, found := s.Resource("db://y"); found != (tc.template != "") {
				t.Errorf("a URI of the template is served: %v", found)
			}
		})
	}
}

func TestBuildOverridesKeepEverythingElse(t *testing.T) {
	const raw = `{ "annotations": {"title":"Old","readOnlyHint":true}, "title":"Old",  "name":"q","inputSchema":{"$defs":{"name":{}},"type":"object"},"z":1.50 }`
	for name, tc := range map[string]struct {
		raw      string
		override v1alpha1.ToolOverride
		want     string
	}{
		"name": {raw, v1alpha1.ToolOverride{Name: "ask"}, strings.Replace(raw, `"name":"q"`, `"name":"ask"`, 1)},
		"title, also where revision 2025-03-26 has it": {
			raw, v1alpha1.ToolOverride{Title: `New "title"`}, strings.NewReplacer(`"name":"q"`, `"name":"b_q"`, `"Old"`, `"New \"title\""`).Replace(raw),
		},
		"a description that there was not": {
			`{"name":"q"}`, v1alpha1.ToolOverride{Description: "Lies über Δ\nund mehr"}, `{"name":"b_q","description":"Lies über Δ\nund mehr"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			tc.override.Tool = "q"
			s := catalog.Build([]catalog.Member{{Key: key("b"), Inventory: &backend.Inventory{
				Tools:   []backend.Item{{ID: "q", Raw: json.RawMessage(tc.raw)}},
				Prompts: items("name", "q"),
			}}}, with(v1alpha1.Aggregation{}, v1alpha1.BackendTools{Backend: "b", Overrides: []v1alpha1.ToolOverride{tc.override}}))
			if diff := cmp.Diff(tc.want, string(s.Tools[0].Raw)); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff([]string{"b_q"}, names(s.Prompts)); diff != "" {
				t.Errorf("overrides are of tools: %s", diff)
			}
		})
	}
}

func TestBuildTellsWhatItDidNotDoAsAsked(t *testing.T) {
	s := catalog.Build([]catalog.Member{tools("b", "a b", "fine", strings.Repeat("n", 80)), {Key: key("down")}},
		with(strategy(v1alpha1.ConflictResolutionManual),
			v1alpha1.BackendTools{Backend: "b", Exclude: []v1alpha1.ToolPattern{"fine"}, Overrides: []v1alpha1.ToolOverride{
				{Tool: "typo", Title: "t"}, {Tool: "fine", Title: "t"},
			}},
			v1alpha1.BackendTools{Backend: "down", Overrides: []v1alpha1.ToolOverride{{Tool: "unknown yet", Title: "t"}}},
			v1alpha1.BackendTools{Backend: "elsewhere", Overrides: []v1alpha1.ToolOverride{{Tool: "x", Title: "t"}}}))
	if diff := cmp.Diff([]catalog.Rename{
		{Kind: catalog.KindTool, Backend: key("b"), Original: "a b", Name: s.Tools[0].Name},
		{Kind: catalog.KindTool, Backend: key("b"), Original: strings.Repeat("n", 80), Name: s.Tools[1].Name},
	}, s.Renames); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]catalog.UnusedOverride{{Backend: key("b"), Tool: "typo"}}, s.Unused); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]backend.Key{key("down")}, s.Missing); diff != "" {
		t.Error(diff)
	}
}

func TestSchemas(t *testing.T) {
	offer := func(name string, tools ...string) catalog.Member {
		inventory := &backend.Inventory{}
		for _, raw := range tools {
			var tool struct{ Name string }
			if err := json.Unmarshal([]byte(raw), &tool); err != nil {
				t.Fatal(err)
			}
			inventory.Tools = append(inventory.Tools, backend.Item{ID: tool.Name, Raw: json.RawMessage(raw)})
		}
		return catalog.Member{Key: key(name), Inventory: inventory}
	}
	drift := func(backend, tool string) catalog.Drift { return catalog.Drift{Backend: key(backend), Tool: tool} }
	const (
		before    = `{"name":"x","inputSchema":{"type":"object","maxProperties":1}}`
		rewritten = `{"description":"other","inputSchema":{ "maxProperties":1, "type":"object"},"name":"x"}`
		after     = `{"name":"x","inputSchema":{"type":"object","maxProperties":10000000000000000000001}}`
		output    = `{"name":"x","inputSchema":{"type":"object","maxProperties":1},"outputSchema":{}}`
		another   = `{"name":"y","inputSchema":{}}`
	)
	var s catalog.Schemas
	for i, step := range []struct {
		members []catalog.Member
		want    []catalog.Drift
	}{
		{[]catalog.Member{offer("b", before), offer("a", before)}, nil},
		{[]catalog.Member{offer("b", rewritten, another), offer("a", before)}, nil},
		{[]catalog.Member{offer("b", after, another), offer("a", output)}, []catalog.Drift{drift("b", "x"), drift("a", "x")}},
		{[]catalog.Member{{Key: key("b")}, offer("a", before)}, nil},             // a is back at what it was
		{[]catalog.Member{offer("b", after)}, []catalog.Drift{drift("b", "x")}},  // b was away, which excuses nothing
		{[]catalog.Member{offer("b", another), offer("a", output)}, nil},         // a was removed from the group meanwhile
		{[]catalog.Member{offer("b", before, another), offer("a", output)}, nil}, // x was gone for good
		{[]catalog.Member{offer("b", after), offer("a", output)}, []catalog.Drift{drift("b", "x")}},
	} {
		if diff := cmp.Diff(step.want, s.Observe(step.members)); diff != "" {
			t.Fatalf("step %d: %s", i, diff)
		}
		if diff := cmp.Diff(step.want, s.Observe(step.members)); diff != "" {
			t.Fatalf("step %d, looked at again: %s", i, diff)
		}
	}
}
