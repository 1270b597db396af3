// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"testing"

	. "github.com/onsi/gomega"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// Names that overrides give away twice always clash; the schema cannot say so, since CEL would have to compare all pairs.
func TestAggregation_NameGivenTwice(t *testing.T) {
	g := NewWithT(t)
	s := v1alpha1.VirtualMCPServerSpec{GroupRef: v1alpha1.LocalReference{Name: "team"}}
	s.Aggregation.Tools = []v1alpha1.BackendTools{
		{Backend: "a", Overrides: []v1alpha1.ToolOverride{{Tool: "x", Name: "same"}, {Tool: "y", Title: "Y"}, {Tool: "z", Title: "Z"}}},
		{Backend: "b", Overrides: []v1alpha1.ToolOverride{{Tool: "x", Name: "same"}}},
	}
	g.Expect(s.Validate(nil)).To(ConsistOf(MatchError(ContainSubstring(`aggregation.tools[1].overrides[0].name: Duplicate value: "same"`))))
}

func TestConflictResolution_Prefix(t *testing.T) {
	g := NewWithT(t)
	for strategy, want := range map[v1alpha1.ConflictResolutionStrategy]string{
		"": "docs.", v1alpha1.ConflictResolutionPrefix: "docs.", v1alpha1.ConflictResolutionPriority: "", v1alpha1.ConflictResolutionManual: "",
	} {
		g.Expect(v1alpha1.ConflictResolution{Strategy: strategy, PrefixFormat: "{backend}."}.Prefix("docs")).To(Equal(want), string(strategy))
	}
}
