// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"slices"
	"unicode/utf8"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// toolRules are what the configuration says of the tools of one backend.
type toolRules struct {
	v1alpha1.BackendTools
	overrides map[string]v1alpha1.ToolOverride // those that no tool has taken
}

func newToolRules(t v1alpha1.BackendTools) *toolRules {
	r := &toolRules{BackendTools: t, overrides: make(map[string]v1alpha1.ToolOverride, len(t.Overrides))}
	for _, o := range t.Overrides {
		r.overrides[o.Tool] = o
	}
	return r
}

// take is the override of a tool; the zero value if there is none.
func (r *toolRules) take(tool string) v1alpha1.ToolOverride {
	o := r.overrides[tool]
	delete(r.overrides, tool)
	return o
}

// unused are the tools whose override nobody took, in their order.
func (r *toolRules) unused() []string {
	var tools []string
	for _, o := range r.Overrides {
		if _, left := r.overrides[o.Tool]; left {
			tools = append(tools, o.Tool)
		}
	}
	return tools
}

// offers says whether clients see and call a tool.
func (r *toolRules) offers(tool string) bool {
	matches := func(p v1alpha1.ToolPattern) bool { return globMatches(string(p), tool) }
	switch {
	case r.Visibility == v1alpha1.ToolsHidden:
		return false
	case len(r.Include) > 0 && !slices.ContainsFunc(r.Include, matches):
		return false
	default:
		return !slices.ContainsFunc(r.Exclude, matches)
	}
}

// globMatches says whether a glob matches the whole of a name: * stands for any number of characters, ? for one. It takes time in
// proportion to the product of their lengths at most: only the last star is ever tried again.
func globMatches(glob, name string) bool {
	g, n := 0, 0
	star, resume := -1, 0 // behind the last star, and where the rest of the name is tried next
	for n < len(name) {
		switch {
		case g < len(glob) && glob[g] == '*':
			g++
			star, resume = g, n
		case g < len(glob) && glob[g] == '?':
			g++
			n += characterLength(name[n:])
		case g < len(glob) && glob[g] == name[n]:
			g++
			n++
		case star >= 0:
			resume += characterLength(name[resume:])
			g, n = star, resume
		default:
			return false
		}
	}
	for g < len(glob) && glob[g] == '*' {
		g++
	}
	return g == len(glob)
}

func characterLength(s string) int {
	_, length := utf8.DecodeRuneInString(s)
	return length
}
