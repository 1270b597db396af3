// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package catalog_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/catalog"
)

func key(name string) backend.Key { return backend.Key{Kind: v1alpha1.KindMCPBackend, Name: name} }

func item(field, id string) backend.Item {
	raw, err := json.Marshal(map[string]string{field: id, "description": "of " + id})
	if err != nil {
		panic(err)
	}
	return backend.Item{ID: id, Raw: raw}
}

func items(field string, ids ...string) []backend.Item {
	var out []backend.Item
	for _, id := range ids {
		out = append(out, item(field, id))
	}
	return out
}

func tools(name string, ids ...string) catalog.Member {
	return catalog.Member{Key: key(name), Inventory: &backend.Inventory{Tools: items("name", ids...)}}
}

func names(entries []catalog.Entry) []string {
	var out []string
	for _, e := range entries {
		out = append(out, e.Name)
	}
	return out
}

func TestBuildNames(t *testing.T) {
	long := strings.Repeat("n", 70)
	for name, tc := range map[string]struct {
		backend, tool, format string
		want                  string
	}{
		"default prefix":          {"grafana", "query", "", "grafana_query"},
		"own prefix":              {"grafana", "query", "x.{backend}-", "x.grafana-query"},
		"64 characters fit":       {"b", strings.Repeat("n", 62), "", "b_" + strings.Repeat("n", 62)},
		"65 characters are cut":   {"b", strings.Repeat("n", 63), "", "b_" + strings.Repeat("n", 51) + "_d35c8fc021"},
		"a long name":             {"b", long, "", "b_" + strings.Repeat("n", 51) + "_02280f39a6"},
		"a long backend":          {strings.Repeat("b", 63), "query", "", strings.Repeat("b", 23) + "_query_6e78e1b27a"},
		"characters that are not": {"fs", "files/read ü", "", "fs_files_read___857ef3850d"},
	} {
		t.Run(name, func(t *testing.T) {
			s := catalog.Build([]catalog.Member{tools(tc.backend, tc.tool)}, v1alpha1.Aggregation{ConflictResolution: v1alpha1.ConflictResolution{PrefixFormat: tc.format}})
			if diff := cmp.Diff([]string{tc.want}, names(s.Tools)); diff != "" {
				t.Fatal(diff)
			}
			e, ok := s.Tool(tc.want)
			if !ok || e.Original != tc.tool || e.Backend != key(tc.backend) {
				t.Errorf("Tool(%q) = %+v, %v", tc.want, e, ok)
			}
			var raw struct{ Name, Description string }
			if err := json.Unmarshal(e.Raw, &raw); err != nil || raw.Name != tc.want || raw.Description != "of "+tc.tool {
				t.Errorf("Raw = %s, %v", e.Raw, err)
			}
		})
	}
}

func TestBuildKeepsEveryFieldOfADescription(t *testing.T) {
	raw := `{"name":"q","title":"Q","inputSchema":{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object",` +
		`"allOf":[{"required":["a"]}],"additionalProperties":false},"annotations":{"readOnlyHint":true},"_meta":{"a.b/c":1},` +
		`"icons":[{"src":"data:,"}],"execution":{"taskSupport":"optional","later":1},"unheardOf":[1e400]}`
	s := catalog.Build([]catalog.Member{{Key: key("b"), Inventory: &backend.Inventory{
		Tools: []backend.Item{{ID: "q", Raw: json.RawMessage(raw)}},
	}}}, v1alpha1.Aggregation{})
	want := strings.NewReplacer(`"name":"q"`, `"name":"b_q"`, `"taskSupport":"optional",`, ``).Replace(raw)
	if diff := cmp.Diff(want, string(s.Tools[0].Raw)); diff != "" {
		t.Error(diff)
	}
}

func TestBuildConflicts(t *testing.T) {
	a := catalog.Member{Key: key("a"), Inventory: &backend.Inventory{
		Tools:     items("name", "b_c"),
		Resources: items("uri", "file:///x", "file:///only-a"),
		Templates: items("uriTemplate", "db://{t}"),
	}}
	ab := catalog.Member{Key: key("a_b"), Inventory: &backend.Inventory{
		Tools:     items("name", "c", "d"),
		Prompts:   items("name", "c"),
		Resources: items("uri", "file:///x"),
		Templates: items("uriTemplate", "db://{t}"),
	}}
	s := catalog.Build([]catalog.Member{ab, a, {Key: key("none")}}, v1alpha1.Aggregation{})
	want := []catalog.Conflict{
		{Kind: catalog.KindTool, Name: "a_b_c", Winner: key("a"), Loser: key("a_b"), Original: "c"},
		{Kind: catalog.KindResource, Name: "file:///x", Winner: key("a"), Loser: key("a_b"), Original: "file:///x"},
		{Kind: catalog.KindTemplate, Name: "db://{t}", Winner: key("a"), Loser: key("a_b"), Original: "db://{t}"},
	}
	if diff := cmp.Diff(want, s.Conflicts); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]backend.Key{key("none")}, s.Missing); diff != "" {
		t.Error(diff)
	}
	if e, _ := s.Tool("a_b_c"); e.Backend != key("a") || e.Original != "b_c" {
		t.Errorf("a_b_c is served by %+v", e)
	}
	if diff := cmp.Diff([]string{"a_b_c", "a_b_d"}, names(s.Tools)); diff != "" {
		t.Error(diff)
	}
	if e, ok := s.Prompt("a_b_c"); !ok || e.Backend != key("a_b") {
		t.Errorf("the prompt a_b_c is served by %+v, %v: prompts and tools share no names", e, ok)
	}
}

func TestBuildOmits(t *testing.T) {
	s := catalog.Build([]catalog.Member{{Key: key("b"), Inventory: &backend.Inventory{Tools: []backend.Item{
		{ID: "task", Raw: json.RawMessage(`{"name":"task","execution":{"taskSupport":"required"}}`)},
		{ID: "broken", Raw: json.RawMessage(`{"name":`)},
		{ID: "list", Raw: json.RawMessage(`["name"]`)},
		{ID: "two-faced", Raw: json.RawMessage(`{"name":"innocent","name":"two-faced"}`)},
		{ID: "shouting", Raw: json.RawMessage(`{"name":"shouting","Name":"grafana_query"}`)},
		{ID: "escaped", Raw: json.RawMessage(`{"n\u0061me":"escaped"}`)},
		{ID: "fine", Raw: json.RawMessage(`{"name":"fine"}`)},
	}}}}, v1alpha1.Aggregation{})
	if diff := cmp.Diff([]string{"b_escaped", "b_fine"}, names(s.Tools)); diff != "" {
		t.Error(diff)
	}
	want := []catalog.Omission{
		{Kind: catalog.KindTool, Backend: key("b"), Original: "task"},
		{Kind: catalog.KindTool, Backend: key("b"), Original: "broken"},
		{Kind: catalog.KindTool, Backend: key("b"), Original: "list"},
		{Kind: catalog.KindTool, Backend: key("b"), Original: "two-faced"},
		{Kind: catalog.KindTool, Backend: key("b"), Original: "shouting"},
	}
	if diff := cmp.Diff(want, s.Omissions, cmpopts.IgnoreFields(catalog.Omission{}, "Reason")); diff != "" {
		t.Error(diff)
	}
}

func TestResource(t *testing.T) {
	s := catalog.Build([]catalog.Member{
		{Key: key("a"), Inventory: &backend.Inventory{Templates: items("uriTemplate", "db://{table}/rows", "broken://{", "wide://{"+strings.Repeat("v,", 1005)+"v}")}},
		{Key: key("b"), Inventory: &backend.Inventory{
			Resources: items("uri", "db://users/rows"),
			Templates: items("uriTemplate", "db://{table}/{what}", "file:///{+path}"),
		}},
	}, v1alpha1.Aggregation{})
	for uri, want := range map[string]struct {
		backend, original string
	}{
		"db://users/rows":  {"b", "db://users/rows"},     // listed before template
		"db://orders/rows": {"a", "db://{table}/rows"},   // the first template in order
		"db://orders/cols": {"b", "db://{table}/{what}"}, // the one that matches
		"file:///a/b/c":    {"b", "file:///{+path}"},
		"db://a/b/c":       {},
		"wide://x":         {},
		"http://elsewhere": {},
	} {
		e, ok := s.Resource(uri)
		if ok != (want.backend != "") || e.Backend.Name != want.backend || e.Original != want.original {
			t.Errorf("Resource(%q) = %q of %q, %v; want %q of %q", uri, e.Original, e.Backend.Name, ok, want.original, want.backend)
		}
	}
}

var legal = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// TestBuildProperties builds catalogs of random names, chosen so that they clash and are illegal now and then.
func TestBuildProperties(t *testing.T) {
	alphabet := []string{"a", "b", "_", "a_", "-", ".", "/", " ", "ü", strings.Repeat("x", 30)}
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		word := func(longest int) string {
			var b strings.Builder
			for range 1 + r.IntN(longest) {
				b.WriteString(alphabet[r.IntN(len(alphabet))])
			}
			return b.String()
		}
		var members []catalog.Member
		offered := map[string]bool{}
		for i := range 1 + r.IntN(5) {
			name := []string{"a", "a-a", "a.b", "b", strings.Repeat("a", 60)}[i]
			inventory := &backend.Inventory{}
			known := map[string]bool{}
			for range r.IntN(20) {
				if id := word(4); !known[id] {
					known[id] = true
					offered[name+"\x00"+id] = true
					inventory.Tools = append(inventory.Tools, item("name", id))
					inventory.Prompts = append(inventory.Prompts, item("name", id))
				}
			}
			members = append(members, catalog.Member{Key: key(name), Inventory: inventory})
		}
		resolution := v1alpha1.Aggregation{ConflictResolution: v1alpha1.ConflictResolution{PrefixFormat: []string{"{backend}_", "{backend}", "v.{backend}-"}[r.IntN(3)]}}
		s := catalog.Build(members, resolution)

		r.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
		if again := catalog.Build(members, resolution); !reflect.DeepEqual(s, again) {
			t.Fatalf("seed %d: the order of the members matters: %s", seed, cmp.Diff(s, again, cmpopts.IgnoreUnexported(catalog.Snapshot{})))
		}
		seen := map[string]bool{}
		for _, e := range s.Tools {
			if !legal.MatchString(e.Name) {
				t.Fatalf("seed %d: %q is no legal name", seed, e.Name)
			}
			if seen[e.Name] {
				t.Fatalf("seed %d: %q is served twice", seed, e.Name)
			}
			seen[e.Name] = true
			if !offered[e.Backend.Name+"\x00"+e.Original] {
				t.Fatalf("seed %d: %q leads to %q, which %s does not offer", seed, e.Name, e.Original, e.Backend)
			}
			if got, ok := s.Tool(e.Name); !ok || got.Backend != e.Backend || got.Original != e.Original {
				t.Fatalf("seed %d: Tool(%q) = %+v", seed, e.Name, got)
			}
		}
		conflicts := 0
		for _, c := range s.Conflicts {
			if c.Kind == catalog.KindTool {
				conflicts++
			}
		}
		if got := len(s.Tools) + conflicts; got != len(offered) {
			t.Fatalf("seed %d: %d tools are served or in conflict, of %d", seed, got, len(offered))
		}
	}
}

func BenchmarkBuild(b *testing.B) {
	var members []catalog.Member
	for i := range 20 {
		var ids []string
		for j := range 50 {
			ids = append(ids, fmt.Sprintf("tool_%d", j))
		}
		members = append(members, tools(fmt.Sprintf("backend-%d", i), ids...))
	}
	for b.Loop() {
		catalog.Build(members, v1alpha1.Aggregation{})
	}
}
