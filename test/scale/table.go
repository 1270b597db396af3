// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/vmcp-dev/vmcp-operator/test/document"
)

// row is a line of the result.
type row struct {
	what, bound, figure string
	// met says that the figure keeps to the bound; a row without a bound is only told.
	met bool
}

func (r row) verdict() string {
	switch {
	case r.bound == "":
		return ""
	case r.met:
		return "met"
	default:
		return "MISSED"
	}
}

// result is all that was measured.
type result struct {
	rows []row
}

// told adds a figure that has no bound.
func (r *result) told(what, format string, values ...any) {
	r.rows = append(r.rows, row{what: what, figure: fmt.Sprintf(format, values...), met: true})
}

// atMost adds a figure that is bounded; format is of both.
func (r *result) atMost(what, format string, figure, bound float64) {
	r.rows = append(r.rows, row{what: what, bound: "≤ " + fmt.Sprintf(format, bound), figure: fmt.Sprintf(format, figure), met: figure <= bound})
}

func (r *result) missed() int {
	n := 0
	for _, row := range r.rows {
		if !row.met {
			n++
		}
	}
	return n
}

// table is the result in Markdown.
func (r *result) table() string {
	lines := [][]string{{"what", "bound", "figure", "verdict"}}
	for _, row := range r.rows {
		lines = append(lines, []string{row.what, row.bound, row.figure, row.verdict()})
	}
	return document.Table(lines)
}

// requestTable tells every kind of requests, and how many they are of each of n.
func requestTable(t tally, n int, each string) string {
	lines := [][]string{{"client", "verb", "resource", "requests", each}}
	for _, r := range t.sorted() {
		lines = append(lines, []string{r.agent, r.label(), r.resource, fmt.Sprint(t[r]), fmt.Sprintf("%.2f", float64(t[r])/float64(n))})
	}
	return document.Table(lines)
}
