// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package alerts asks Prometheus what it makes of our alerts: a rule that it cannot load is none. It is a module of its own, so that nothing
// of Prometheus is among what the operator is built of.
package alerts

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"sigs.k8s.io/yaml"
)

// load has Prometheus load the groups of a PrometheusRule, as "promtool check rules" does: expressions, durations, labels and the templates
// in annotations.
func load(rule []byte) (*rulefmt.RuleGroups, []error) {
	var document struct {
		Spec any `json:"spec"`
	}
	if err := yaml.Unmarshal(rule, &document); err != nil {
		return nil, []error{err}
	}
	groups, err := yaml.Marshal(document.Spec)
	if err != nil {
		return nil, []error{err}
	}
	return rulefmt.Parse(groups, false, model.UTF8Validation, parser.NewParser(parser.Options{}))
}

func readRule(t *testing.T) string {
	t.Helper()
	rule, err := os.ReadFile(filepath.Join("..", "..", "config", "components", "prometheus", "alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return string(rule)
}

func TestPrometheusLoadsTheAlerts(t *testing.T) {
	t.Parallel()
	groups, errs := load([]byte(readRule(t)))
	for _, err := range errs {
		t.Error(err)
	}
	if groups == nil || len(groups.Groups) == 0 {
		t.Fatal("there are no groups")
	}
	for _, group := range groups.Groups {
		if len(group.Rules) == 0 {
			t.Errorf("the group %s has no rules", group.Name)
		}
	}
}

// What is wrong in a rule is found, each of these in a rule of ours.
func TestPrometheusRefusesMistakes(t *testing.T) {
	t.Parallel()
	for name, mistake := range map[string]struct{ from, to string }{
		"an expression without its end": {`{job="vmcp-gateway"}) == 0`, `{job="vmcp-gateway"} == 0`},
		"a duration without a unit":     {"for: 2m", "for: two"},
		"an unknown field":              {"severity: critical\n      annotations:", "severity: critical\n      annotation:"},
		"a template without its end":    {"{{ $labels.namespace }}", "{{ $labels.namespace"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rule := readRule(t)
			changed := strings.Replace(rule, mistake.from, mistake.to, 1)
			if changed == rule {
				t.Fatalf("there is no %q", mistake.from)
			}
			if _, errs := load([]byte(changed)); len(errs) == 0 {
				t.Error("Prometheus loads it")
			}
		})
	}
}
