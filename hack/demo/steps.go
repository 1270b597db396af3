// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// narrator prints the story: numbered steps with their times, and what they show indented below them.
type narrator struct {
	out   io.Writer
	start time.Time
	steps int
	// partial is what a program printed of a line that is not complete.
	partial []byte
}

func newNarrator(out io.Writer) *narrator { return &narrator{out: out, start: time.Now()} }

// step runs one step. Its error names the step.
func (n *narrator) step(ctx context.Context, name string, do func(context.Context) error) error {
	n.steps++
	_, _ = fmt.Fprintf(n.out, "\n[%d] %s\n", n.steps, name)
	start := time.Now()
	err := do(ctx)
	took := time.Since(start).Seconds()
	if err != nil {
		_, _ = fmt.Fprintf(n.out, "    failed after %.1f s\n", took)
		return fmt.Errorf("%s: %w", strings.ToLower(name[:1])+name[1:], err)
	}
	_, _ = fmt.Fprintf(n.out, "    done in %.1f s\n", took)
	return nil
}

// show prints a text, indented.
func (n *narrator) show(text string) {
	for line := range strings.Lines(strings.TrimRight(text, "\n")) {
		_, _ = fmt.Fprintln(n.out, strings.TrimRight("    "+line, " \n"))
	}
}

func (n *narrator) showf(format string, args ...any) { n.show(fmt.Sprintf(format, args...)) }

// Write makes a narrator the output of programs. A line is shown when it is complete.
func (n *narrator) Write(p []byte) (int, error) {
	n.partial = append(n.partial, p...)
	if end := bytes.LastIndexByte(n.partial, '\n'); end >= 0 {
		n.show(string(n.partial[:end]))
		n.partial = append(n.partial[:0], n.partial[end+1:]...)
	}
	return len(p), nil
}

func (n *narrator) total() time.Duration { return time.Since(n.start) }
