// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package docs runs the commands of the pages for users on a real cluster, as they stand there.
package docs

import (
	"fmt"
	"strings"
)

// Block is a fenced block of shell commands.
type Block struct {
	// Page is the path of the page, from the top of the repository, Line that of the first command.
	Page string
	Line int
	// Section is the heading that it stands under.
	Section string
	// Commands are for bash.
	Commands string
	// Exempt is why it is not run, or "".
	Exempt string
}

func (b Block) String() string { return fmt.Sprintf("%s:%d", b.Page, b.Line) }

const (
	fence  = "```"
	exempt = "<!-- exempt: "
)

// Blocks are the blocks of a page that say that they are for a shell. One is exempt if the comment "<!-- exempt: REASON -->" stands on the
// line before it. Commands are in such blocks only: a console session, whose commands nobody would run, is an error.
func Blocks(page, markdown string) ([]Block, error) {
	var blocks []Block
	var section, reason, language string
	var inside []string
	open := false
	for i, line := range strings.Split(markdown, "\n") {
		switch {
		case open && strings.TrimSpace(line) == fence:
			open = false
			if language != "sh" {
				continue
			}
			blocks = append(blocks, Block{
				Page: page, Line: i - len(inside) + 1, Section: section, Commands: strings.Join(inside, "\n") + "\n", Exempt: reason,
			})
			reason = ""
		case open:
			inside = append(inside, line)
		case strings.HasPrefix(line, fence):
			open, language, inside = true, strings.TrimPrefix(line, fence), nil
			if language == "console" || language == "bash" || language == "shell" {
				return nil, fmt.Errorf("%s:%d: commands stand in blocks of sh, not of %s", page, i+1, language)
			}
		case strings.HasPrefix(line, exempt):
			reason = strings.TrimSuffix(strings.TrimPrefix(line, exempt), " -->")
		case strings.HasPrefix(line, "#"):
			section = strings.TrimLeft(line, "# ")
		case reason != "" && strings.TrimSpace(line) != "":
			return nil, fmt.Errorf("%s:%d: what is exempt has to follow on the next line", page, i+1)
		}
	}
	if open || reason != "" {
		return nil, fmt.Errorf("%s: ends within a block, or before one that is exempt", page)
	}
	return blocks, nil
}
