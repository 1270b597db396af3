// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package catalog_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/catalog"
)

// FuzzToolPattern compares globs with the regular expressions that mean the same.
func FuzzToolPattern(f *testing.F) {
	for _, seed := range [][2]string{
		{"*", ""}, {"", ""}, {"get_*", "get_"}, {"get_*", "get_a/b"}, {"*_*_*", "a_b"}, {"a?c", "aüc"}, {"a?c", "ac"}, {"**b", "aab"},
		{"a*b*c", "aXbXbXc"}, {"[a-z]", "b"}, {`\*`, `\x`}, {"*?*?", "é"}, {"x*", "X"}, {"*a*a*a*a*b", strings.Repeat("a", 64)},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if !utf8.ValidString(pattern) || !utf8.ValidString(name) || pattern == "" || name == "" {
			return // names come from JSON
		}
		same := regexp.MustCompile(`(?s)\A` + strings.NewReplacer(`\*`, `.*`, `\?`, `.`).Replace(regexp.QuoteMeta(pattern)) + `\z`)
		for _, rules := range []v1alpha1.BackendTools{
			{Backend: "b", Include: []v1alpha1.ToolPattern{v1alpha1.ToolPattern(pattern)}},
			{Backend: "b", Exclude: []v1alpha1.ToolPattern{v1alpha1.ToolPattern(pattern)}},
		} {
			s := catalog.Build([]catalog.Member{tools("b", name)}, v1alpha1.Aggregation{Tools: []v1alpha1.BackendTools{rules}})
			want := same.MatchString(name) == (rules.Include != nil)
			if got := len(s.Tools) == 1; got != want {
				t.Errorf("%+v serves %q: %v, want %v", rules, name, got, want)
			}
		}
	})
}

// FuzzDefinition serves whatever a backend may call a definition of a tool: it arrives under the name that was checked, and otherwise as
// it was, or not at all.
func FuzzDefinition(f *testing.F) {
	for _, raw := range []string{
		`{"name":"x"}`, `{"name":"x","inputSchema":{"name":"y"},"n":[1e400,{}]}`, `{"name":"y","name":"x"}`, `{"name":"x","NAME":"y"}`,
		`{"n\u0061me":"x"}`, `{"name":"x","title":1,"Title":"t"}`, `{"name":"x","execution":{"taskSupport":"optional","a":1}}`,
		`{"name":"x","execution":{"taskSupport":"optional","taskSupport":"required"}}`, `{"name":"x","annotations":{"title":"t"}}`,
		`{"name":"x","annotations":[]}`, `{"name":{"x":1}}`, `{ "name" : "x" }`, `{"name":"\ud800"}`, `["name"]`, ``, `{`, `{"name":"x"}}`,
	} {
		f.Add(raw, "New", "")
		f.Add(raw, "", "Says \"what\" it does\n")
	}
	f.Fuzz(func(t *testing.T, raw, title, description string) {
		var before map[string]json.RawMessage
		var name string
		if json.Unmarshal([]byte(raw), &before) != nil || json.Unmarshal(before["name"], &name) != nil || name == "" {
			name = "x"
		}
		if !utf8.ValidString(title) || !utf8.ValidString(description) {
			return
		}
		s := catalog.Build([]catalog.Member{{Key: key("b"), Inventory: &backend.Inventory{
			Tools: []backend.Item{{ID: name, Raw: json.RawMessage(raw)}},
		}}}, v1alpha1.Aggregation{Tools: []v1alpha1.BackendTools{{Backend: "b", Overrides: []v1alpha1.ToolOverride{
			{Tool: name, Title: title, Description: description},
		}}}})
		if len(s.Tools)+len(s.Omissions) != 1 {
			t.Fatalf("%d tools and %d omissions", len(s.Tools), len(s.Omissions))
		}
		if len(s.Tools) == 0 {
			return
		}
		e := s.Tools[0]
		var after map[string]json.RawMessage
		if err := json.Unmarshal(e.Raw, &after); err != nil {
			t.Fatalf("%s: %v", e.Raw, err)
		}
		is := func(field, want string) {
			var got string
			if err := json.Unmarshal(after[field], &got); err != nil || got != want {
				t.Errorf("%s is %q, want %q, in %s (%v)", field, got, want, e.Raw, err)
			}
			delete(before, field)
		}
		if !legal.MatchString(e.Name) {
			t.Errorf("the name %q is not legal", e.Name)
		}
		is("name", e.Name)
		if title != "" {
			is("title", title)
		}
		if description != "" {
			is("description", description)
		}
		for field, value := range before {
			if field != "execution" && field != "annotations" && string(after[field]) != string(value) {
				t.Errorf("%s was %s and is %s", field, value, after[field])
			}
		}
	})
}
