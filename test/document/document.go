// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package document puts what programs measured into documents that people wrote.
package document

import (
	"bytes"
	"fmt"
	"os"
)

// Replace replaces what stands in a document between the lines that "make TARGET" marks as its own:
//
//	<!-- make TARGET: begin -->
//	<!-- make TARGET: end -->
func Replace(file, target, text string) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("writing the results: %w", err)
	}
	begin, end := fmt.Sprintf("<!-- make %s: begin -->", target), fmt.Sprintf("<!-- make %s: end -->", target)
	before, rest, begins := bytes.Cut(old, []byte(begin))
	_, after, ends := bytes.Cut(rest, []byte(end))
	if !begins || !ends {
		return fmt.Errorf("writing the results: %s lacks the line %s, or after it %s", file, begin, end)
	}
	next := fmt.Appendf(nil, "%s%s\n%s%s%s", before, begin, text, end, after)
	if err := os.WriteFile(file, next, 0o644); err != nil {
		return fmt.Errorf("writing the results: %w", err)
	}
	return nil
}
