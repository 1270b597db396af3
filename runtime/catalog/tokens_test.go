// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package catalog_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/catalog"
)

// The estimate is about what a model is given: four bytes to a token, rounded up.
func TestBuild_EstimatesTokens(t *testing.T) {
	const schema = `{"type":"object","properties":{"text":{"type":"string"}}}` // 57 bytes
	for name, c := range map[string]struct {
		tools []string
		want  int
	}{
		"no tools":                            {want: 0},
		"name and schema":                     {tools: []string{`{"name":"abc","inputSchema":` + schema + `}`}, want: 60 / 4},
		"a part of a token is one":            {tools: []string{`{"name":"abcd","inputSchema":` + schema + `}`}, want: 64 / 4},
		"a description counts":                {tools: []string{`{"name":"abc","description":"` + strings.Repeat("d", 40) + `","inputSchema":` + schema + `}`}, want: 100 / 4},
		"so do its characters, not escapes":   {tools: []string{`{"name":"abc","description":"` + strings.Repeat(`\n`, 40) + `","inputSchema":` + schema + `}`}, want: 100 / 4},
		"the layout of a schema does not":     {tools: []string{`{"name":"abc","inputSchema":` + strings.ReplaceAll(schema, ":", " :\n\t") + `}`}, want: 60 / 4},
		"nor do output schema and annotation": {tools: []string{`{"name":"abc","inputSchema":` + schema + `,"outputSchema":` + schema + `,"annotations":{"title":"long"},"_meta":{"a":1}}`}, want: 60 / 4},
		"all tools count": {tools: []string{
			`{"name":"abc","inputSchema":` + schema + `}`, `{"name":"xyz","inputSchema":` + schema + `}`,
		}, want: 120 / 4},
	} {
		t.Run(name, func(t *testing.T) {
			inventory := &backend.Inventory{}
			for _, raw := range c.tools {
				var tool struct{ Name string }
				if err := json.Unmarshal([]byte(raw), &tool); err != nil {
					t.Fatal(err)
				}
				inventory.Tools = append(inventory.Tools, backend.Item{ID: tool.Name, Raw: json.RawMessage(raw)})
			}
			s := catalog.Build([]catalog.Member{{Key: backend.Key{Kind: v1alpha1.KindMCPBackend, Name: "b"}, Inventory: inventory}},
				v1alpha1.Aggregation{ConflictResolution: v1alpha1.ConflictResolution{Strategy: v1alpha1.ConflictResolutionPriority}})
			if s.Tokens != c.want {
				t.Errorf("%d tokens, want %d", s.Tokens, c.want)
			}
		})
	}
}
