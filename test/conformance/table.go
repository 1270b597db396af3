// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"sigs.k8s.io/yaml"
)

//go:embed expected.yaml
var expectedFile []byte

// readExpected reads how many scenarios have to pass in each row.
func readExpected() (map[string]int, error) {
	expected := map[string]int{}
	if err := yaml.UnmarshalStrict(expectedFile, &expected); err != nil {
		return nil, fmt.Errorf("reading expected.yaml: %w", err)
	}
	return expected, nil
}

// row is what came of one suite or client at one endpoint.
type row struct {
	name                   string
	scored, passed, hollow int
	failed                 []string
	expected               int
	known                  bool // it is in expected.yaml
}

func (r row) verdict() string {
	switch {
	case !r.known:
		return "NOT EXPECTED"
	case r.passed < r.expected:
		return "FAILED"
	case r.passed > r.expected:
		return "more than expected"
	default:
		return "ok"
	}
}

func (r row) bad() bool { return !r.known || r.passed < r.expected }

// table collects the rows, and says each as it comes.
type table struct {
	expected map[string]int
	rows     []row
}

// add adds a row. With an error nothing of it has passed.
func (t *table) add(name string, scenarios []scenario, err error) {
	r := row{name: name, scored: len(scenarios)}
	r.expected, r.known = t.expected[name]
	if err != nil {
		r.failed = []string{err.Error()}
	}
	for _, s := range scenarios {
		switch {
		case s.passed:
			r.passed++
		case s.hollow:
			r.hollow++
			r.failed = append(r.failed, s.name+" (hollow)")
		case s.why != "":
			r.failed = append(r.failed, s.name+" ("+oneLine(s.why)+")")
		default:
			r.failed = append(r.failed, s.name)
		}
	}
	t.rows = append(t.rows, r)
	fmt.Printf("%-60s %d of %d\n", r.name, r.passed, r.scored)
}

// print prints the table, and below it what did not pass.
func (t *table) print(w io.Writer) {
	columns := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(columns, "what | at\tscored\tpassed\thollow\texpected\tverdict")
	for _, r := range t.rows {
		fmt.Fprintf(columns, "%s\t%d\t%d\t%d\t%d\t%s\n", r.name, r.scored, r.passed, r.hollow, r.expected, r.verdict())
	}
	_ = columns.Flush() // like Fprintf
	heading := "\nnot passed:\n"
	for _, r := range t.rows {
		if len(r.failed) > 0 {
			fmt.Fprintf(w, "%s  %s: %s\n", heading, r.name, strings.Join(r.failed, ", "))
			heading = ""
		}
	}
}

// verdict is an error that names the rows in which less passed than expected.
func (t *table) verdict() error {
	var names []string
	for _, r := range t.rows {
		if r.bad() {
			names = append(names, r.name)
		}
	}
	switch {
	case len(t.rows) == 0:
		return errors.New("no row was run")
	case len(names) > 0:
		return fmt.Errorf("less than expected.yaml asks for: %s", strings.Join(names, "; "))
	default:
		return nil
	}
}

// oneLine shortens an error to what fits into a list.
func oneLine(text string) string {
	const length = 160
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > length {
		text = text[:length] + "…"
	}
	return text
}
