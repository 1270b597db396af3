// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/vmcp-dev/vmcp-operator/test/process"
)

const suiteTimeout = 5 * time.Minute

// suite is a public conformance suite for servers.
type suite struct {
	// name is that of the rows.
	name string
	// pkg is the folder of its package in package.json, args what selects the scenarios.
	pkg  string
	args []string
}

var (
	suiteOld    = suite{name: "suite 0.1.16", pkg: "conformance-0.1", args: []string{"--suite", "all"}}
	suiteLegacy = suite{name: "suite 2025-11-25", pkg: "conformance-0.2", args: []string{"--requirements", "2025-11-25"}}
	suiteModern = suite{name: "suite 2026-07-28", pkg: "conformance-0.2", args: []string{"--requirements", "2026-07-28"}}
)

// extras says whether the suite runs scenarios that it does not score.
func (s suite) extras() bool { return s.pkg == "conformance-0.2" }

// run runs a suite against an endpoint, keeps what it says about each scenario below dir, and returns the scenarios that are
// scored and the others that every server should pass.
func (s suite) run(ctx context.Context, n node, name, url, dir string) (scored, extra []scenario, err error) {
	ctx, cancel := context.WithTimeout(ctx, suiteTimeout)
	defer cancel()
	p, err := process.Start(process.Options{
		Name: name, Dir: dir, Program: n.program(), Env: []string{"NO_COLOR=1"},
		Args: append([]string{n.path("node_modules", s.pkg, "dist", "index.js"), "server", "--url", url, "-o", dir + "/" + name}, s.args...),
	})
	if err != nil {
		return nil, nil, err
	}
	output, err := p.Wait(ctx)
	if ctx.Err() != nil || len(output) == 0 {
		return nil, nil, err
	}
	scored, extra, parseErr := parseSummary(output)
	if parseErr != nil {
		return nil, nil, errors.Join(parseErr, err) // a suite with failures exits with 1, which alone is no error
	}
	return scored, extra, nil
}

// scenario is a scenario of a suite, or a step of a client, and what came of it.
type scenario struct {
	name string
	// passed and hollow exclude each other. Hollow is one whose checks were all skipped: it says nothing.
	passed, hollow bool
	// why says why it failed, where the runner knows.
	why string
}

var (
	summaryLine   = regexp.MustCompile(`^([✓✗]) (\S+): (\d+) passed, (\d+) failed`)
	notScoredLine = regexp.MustCompile(`^\s+[✓✗] (\S+) \((.+)\)`)
)

// parseSummary reads the end of a suite's output: a line for each scenario, and after "Not scored for" the names of those that do
// not count for the revision, with the reason. Scenarios of extensions are left out: the gateway offers none.
func parseSummary(output []byte) (scored, extra []scenario, err error) {
	_, summary, found := bytes.Cut(output, []byte("=== SUMMARY ==="))
	if !found {
		return nil, nil, fmt.Errorf("the suite printed no summary: %s", lastLines(output))
	}
	var all []scenario
	reasons := map[string]string{}
	beyond := false
	for lines := bufio.NewScanner(bytes.NewReader(summary)); lines.Scan(); {
		line := lines.Text()
		beyond = beyond || strings.HasPrefix(line, "Not scored for")
		if m := notScoredLine.FindStringSubmatch(line); beyond && m != nil {
			reasons[m[1]] = m[2]
			continue
		}
		m := summaryLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		passed, _ := strconv.Atoi(m[3]) // digits, by the pattern
		failed, _ := strconv.Atoi(m[4])
		all = append(all, scenario{name: m[2], passed: m[1] == "✓" && passed > 0 && failed == 0, hollow: passed == 0 && failed == 0})
	}
	for _, s := range all {
		switch reason, apart := reasons[s.name]; {
		case !apart:
			scored = append(scored, s)
		case reason != "extension":
			extra = append(extra, s)
		}
	}
	if len(scored) == 0 {
		return nil, nil, fmt.Errorf("the suite's summary names no scenario: %s", lastLines(output))
	}
	return scored, extra, nil
}

func lastLines(output []byte) string {
	const length = 400
	return strings.TrimSpace(string(output[max(0, len(output)-length):]))
}
