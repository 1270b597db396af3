// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// Pages are those whose commands are run.
var Pages = []string{"docs/install.md", "docs/operations.md", "docs/upgrade.md"}

// Part is a section of a page; Section is empty for the whole page.
type Part struct{ Page, Section string }

// Story is what somebody does from an empty cluster on, in this order.
type Story []Part

// The stories between them run every block that is not exempt.
var (
	Kustomize = Story{
		{"docs/install.md", "With Kustomize, for all namespaces"},
		{"docs/install.md", "The first gateway"},
		{"docs/operations.md", ""},
		{"docs/upgrade.md", "With Kustomize"},
		{"docs/install.md", "With Kustomize, for one namespace"},
		{"docs/install.md", "Remove"},
	}
	OLM = Story{
		{"docs/install.md", "With OLM"},
		{"docs/install.md", "The first gateway"},
		{"docs/upgrade.md", "With OLM"},
		{"docs/install.md", "Remove it from OLM"},
	}
)

// Read reads the pages below a folder.
func Read(root string) (map[string][]Block, error) {
	pages := map[string][]Block{}
	for _, page := range Pages {
		text, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			return nil, fmt.Errorf("reading a page: %w", err)
		}
		if pages[page], err = Blocks(page, string(text)); err != nil {
			return nil, err
		}
	}
	return pages, nil
}

// Blocks are those of a story, in its order. A part without any is an error.
func (s Story) Blocks(pages map[string][]Block) ([]Block, error) {
	var all []Block
	for _, part := range s {
		blocks := slices.DeleteFunc(slices.Clone(pages[part.Page]), func(b Block) bool {
			return part.Section != "" && b.Section != part.Section
		})
		if len(blocks) == 0 {
			return nil, fmt.Errorf("%s has no commands in %q", part.Page, part.Section)
		}
		all = append(all, blocks...)
	}
	return all, nil
}
