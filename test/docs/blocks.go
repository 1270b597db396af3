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
	// Background says that its command goes on until it is interrupted, while those after it run.
	Background bool
}

func (b Block) String() string { return fmt.Sprintf("%s:%d", b.Page, b.Line) }

const (
	fence = "```"
	// What may stand on the line before a block. That one is not run its reader has to see; how one is run is nothing to him.
	exempt, exemptEnd = "(not run by a test: ", ")"
	background        = "<!-- goes on in the background -->"
)

// mark is what the line before a block says of it.
type mark struct {
	exempt     string
	background bool
}

// read reads a line that is one of those, and says whether it is.
func (m *mark) read(line string) bool {
	switch {
	case strings.HasPrefix(line, exempt):
		m.exempt = strings.TrimSuffix(strings.TrimPrefix(line, exempt), exemptEnd)
	case line == background:
		m.background = true
	default:
		return false
	}
	return true
}

// Blocks are the blocks of a page that say that they are for a shell. One is exempt if "(not run by a test: REASON)" stands on the line before
// it, for readers to see. Commands are in such blocks only: a console session, whose commands nobody would run, is an error.
func Blocks(page, markdown string) ([]Block, error) {
	var blocks []Block
	var section, language string
	var inside []string
	var said mark
	open := false
	for i, line := range strings.Split(markdown, "\n") {
		switch {
		case open && strings.TrimSpace(line) == fence:
			open = false
			if language != "sh" {
				continue
			}
			if said.background && len(inside) != 1 {
				return nil, fmt.Errorf("%s:%d: one command goes on in the background, here are %d lines", page, i+1, len(inside))
			}
			blocks = append(blocks, Block{
				Page: page, Line: i - len(inside) + 1, Section: section, Commands: strings.Join(inside, "\n") + "\n",
				Exempt: said.exempt, Background: said.background,
			})
			said = mark{}
		case open:
			inside = append(inside, line)
		case strings.HasPrefix(line, fence):
			open, language, inside = true, strings.TrimPrefix(line, fence), nil
			if language == "console" || language == "bash" || language == "shell" {
				return nil, fmt.Errorf("%s:%d: commands stand in blocks of sh, not of %s", page, i+1, language)
			}
		case said.read(line):
		case strings.HasPrefix(line, "#"):
			section = strings.TrimLeft(line, "# ")
		case said != (mark{}) && strings.TrimSpace(line) != "":
			return nil, fmt.Errorf("%s:%d: the block has to follow on the next line", page, i+1)
		}
	}
	if open || said != (mark{}) {
		return nil, fmt.Errorf("%s: ends within a block, or before one", page)
	}
	return blocks, nil
}

// Script runs blocks in one shell, as a reader has it: a variable of one block is there in the next. It ends with the first command that
// fails, and takes along what goes on in the background: by SIGKILL, because a shell that has not yet become the command can miss another.
func Script(blocks []Block) string {
	script := &strings.Builder{}
	script.WriteString("set -euo pipefail\ntrap 'kill -KILL $(jobs -p) 2>/dev/null || true' EXIT\n")
	for _, b := range blocks {
		if b.Exempt != "" {
			continue
		}
		commands := b.Commands
		if b.Background {
			commands = strings.TrimSuffix(commands, "\n") + " &\n"
		}
		fmt.Fprintf(script, "echo '### %s'\n%s", b, commands)
	}
	return script.String()
}
