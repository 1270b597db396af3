// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package document

import (
	"fmt"
	"strings"
)

// Table sets a table in Markdown whose first line is its head, with columns as wide as they need to be.
func Table(lines [][]string) string {
	width := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, cell := range line {
			width[i] = max(width[i], len([]rune(cell)))
		}
	}
	var b strings.Builder
	for n, line := range lines {
		for i, cell := range line {
			fmt.Fprintf(&b, "| %s%s ", cell, strings.Repeat(" ", width[i]-len([]rune(cell))))
		}
		b.WriteString("|\n")
		if n > 0 {
			continue
		}
		for _, w := range width {
			fmt.Fprintf(&b, "|%s", strings.Repeat("-", w+2))
		}
		b.WriteString("|\n")
	}
	return b.String()
}
