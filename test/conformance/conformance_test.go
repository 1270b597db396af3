// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Every row that is run has an expectation, and every expectation a row.
func TestExpectedIsComplete(t *testing.T) {
	expected, err := readExpected()
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, e := range []endpoint{
		{name: "direct, legacy server"},
		{name: "gateway, legacy server", gateway: true},
		{name: "direct, modern server", modern: true},
		{name: "gateway, modern server", gateway: true, modern: true},
	} {
		for _, s := range e.suites() {
			rows = append(rows, e.scored(s))
			if s.extras() {
				rows = append(rows, e.notScored(s))
			}
		}
		for _, c := range e.clients() {
			rows = append(rows, e.driven(c))
		}
	}
	slices.Sort(rows)
	if diff := cmp.Diff(rows, slices.Sorted(maps.Keys(expected))); diff != "" {
		t.Errorf("rows (-) and expected.yaml (+):\n%s", diff)
	}
}

const summary = `
=== Running scenario: ping ===
✓ not: 1 passed, 0 failed, for the summary has not begun

=== SUMMARY ===
✓ ping: 2 passed, 0 failed
✗ tools-list: 1 passed, 2 failed
✓ server-sse-polling: 0 passed, 0 failed
✗ tasks-lifecycle: 1 passed, 8 failed
✓ json-schema-2020-12: 8 passed, 0 failed

Total: 12 passed, 10 failed

Not scored for 2026-07-28: 2 scenario(s) run, 1 failing. These do not affect conformance.
  ✗ tasks-lifecycle (extension)
  ✓ json-schema-2020-12 (pending)
`

func TestParseSummary(t *testing.T) {
	scored, extra, err := parseSummary([]byte(summary))
	if err != nil {
		t.Fatal(err)
	}
	allow := cmp.AllowUnexported(scenario{})
	if diff := cmp.Diff([]scenario{{name: "ping", passed: true}, {name: "tools-list"}, {name: "server-sse-polling", hollow: true}}, scored, allow); diff != "" {
		t.Errorf("scored:\n%s", diff)
	}
	if diff := cmp.Diff([]scenario{{name: "json-schema-2020-12", passed: true}}, extra, allow); diff != "" {
		t.Errorf("not scored:\n%s", diff)
	}
	for _, output := range []string{"", "Error: connect ECONNREFUSED", "=== SUMMARY ===\nTotal: 0 passed, 0 failed"} {
		if _, _, err := parseSummary([]byte(output)); err == nil {
			t.Errorf("%q is no summary, and no error", output)
		}
	}
}

func TestVerdict(t *testing.T) {
	table := &table{expected: map[string]int{"a": 2, "b": 1}}
	one := []scenario{{name: "x", passed: true}, {name: "y", hollow: true}}
	table.add("b", one, nil)
	if err := table.verdict(); err != nil {
		t.Errorf("a row as expected: %v", err)
	}
	table.add("a", one, nil)
	table.add("b", nil, errors.New("no answer"))
	table.add("c", one, nil)
	if err := table.verdict(); err == nil || !strings.Contains(err.Error(), "a; b; c") {
		t.Errorf("rows with less than expected and unknown ones: %v", err)
	}
	var text strings.Builder
	table.print(&text)
	for _, want := range []string{"y (hollow)", "no answer", "NOT EXPECTED"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is not in\n%s", want, text.String())
		}
	}
}

// The first step that a client did not come to says why.
func TestComplete(t *testing.T) {
	got := complete([]scenario{{name: "connect", passed: true}}, errors.New("killed"))
	if len(got) != len(clientSteps) || got[1].why != "killed" || got[2].why != "not reached" || got[1].passed {
		t.Errorf("%+v", got)
	}
}
