// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package packaging_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
)

// catalogEntry is the package or a channel in the template of the catalog.
type catalogEntry struct {
	Schema         string     `json:"schema"`
	Name           string     `json:"name"`
	DefaultChannel string     `json:"defaultChannel"`
	Icon           icon       `json:"icon"`
	Entries        []upgraded `json:"entries"`
}

// upgraded is a version in a channel.
type upgraded struct {
	Name      string `json:"name"`
	SkipRange string `json:"skipRange"`
}

// misplaced says what is wrong with the versions in the channels: the current one is a candidate, and stable are those of the candidates
// that have proved themselves.
func misplaced(channels map[string][]upgraded, current upgraded) []string {
	var problems []string
	if !slices.Contains(channels["candidate"], current) {
		problems = append(problems, fmt.Sprintf("candidate lacks %v", current))
	}
	if len(channels["stable"]) == 0 {
		problems = append(problems, "stable is empty")
	}
	for _, u := range channels["stable"] {
		if !slices.Contains(channels["candidate"], u) {
			problems = append(problems, fmt.Sprintf("%v was no candidate", u))
		}
	}
	return problems
}

func TestMisplaced(t *testing.T) {
	t.Parallel()
	first, second := upgraded{"operator.v0.1.0", "<0.1.0"}, upgraded{"operator.v0.2.0", "<0.2.0"}
	for name, c := range map[string]struct {
		candidate, stable []upgraded
		want              []string
	}{
		"proved":          {candidate: []upgraded{first, second}, stable: []upgraded{first, second}},
		"candidate first": {candidate: []upgraded{first, second}, stable: []upgraded{first}},
		"stable at once": {candidate: []upgraded{first}, stable: []upgraded{first, second}, want: []string{
			"candidate lacks {operator.v0.2.0 <0.2.0}", "{operator.v0.2.0 <0.2.0} was no candidate",
		}},
		"nothing is stable": {candidate: []upgraded{first, second}, want: []string{"stable is empty"}},
		"another skip range": {
			candidate: []upgraded{{second.Name, "<0.1.0"}}, stable: []upgraded{{second.Name, "<0.1.0"}},
			want: []string{"candidate lacks {operator.v0.2.0 <0.2.0}"},
		},
		"one left candidate": {
			candidate: []upgraded{second}, stable: []upgraded{first}, want: []string{"{operator.v0.1.0 <0.1.0} was no candidate"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			g.Expect(misplaced(map[string][]upgraded{"candidate": c.candidate, "stable": c.stable}, second)).To(Equal(c.want))
		})
	}
}

// The catalog has the channels that the bundle names, under the same icon, and offers the bundle as a candidate at least.
func TestCatalogOffersTheBundle(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	csv := readCSV(g)
	bundle := struct {
		Annotations map[string]string `json:"annotations"`
	}{}
	readYAML(g, &bundle, "bundle", "metadata", "annotations.yaml")
	template := struct {
		Entries []catalogEntry `json:"entries"`
	}{}
	readYAML(g, &template, "catalog", "template.yaml")
	channels := map[string][]upgraded{}
	var names []string
	for _, entry := range template.Entries {
		if entry.Schema == "olm.package" {
			g.Expect(entry.DefaultChannel).To(Equal(bundle.Annotations["operators.operatorframework.io.bundle.channel.default.v1"]))
			g.Expect([]icon{entry.Icon}).To(Equal(csv.Spec.Icon))
			continue
		}
		names = append(names, entry.Name)
		channels[entry.Name] = entry.Entries
	}
	g.Expect(names).To(ConsistOf(strings.Split(bundle.Annotations["operators.operatorframework.io.bundle.channels.v1"], ",")))
	g.Expect(misplaced(channels, upgraded{csv.Name, csv.Annotations["olm.skipRange"]})).To(BeEmpty())
}
