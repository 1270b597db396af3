// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package packaging_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
)

var (
	// metricInRule is a metric of ours in an expression, metricInCode one that a program registers.
	metricInRule = regexp.MustCompile(`vmcp_[a-z_]+`)
	metricInCode = regexp.MustCompile(`Name:\s+"(vmcp_[a-z_]+)"`)
	// ofHistogram is what a histogram adds to its name.
	ofHistogram = regexp.MustCompile(`_(count|sum|bucket)$`)
)

// Each alert is of metrics that there are, is critical only where a gateway serves nothing, and has a procedure in the documentation to
// which it links.
func TestAlerts(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	registered := map[string]bool{}
	for _, file := range []string{"controllers/metrics.go", "runtime/telemetry/metrics.go"} {
		code, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(file)))
		g.Expect(err).NotTo(HaveOccurred())
		for _, m := range metricInCode.FindAllStringSubmatch(string(code), -1) {
			registered[m[1]] = true
		}
	}
	page, err := os.ReadFile(filepath.Join(root, "docs", "operations", "alerts.md"))
	g.Expect(err).NotTo(HaveOccurred())

	rule := struct {
		Spec struct {
			Groups []struct {
				Name  string `json:"name"`
				Rules []struct {
					Alert       string            `json:"alert"`
					Expr        string            `json:"expr"`
					For         string            `json:"for"`
					Labels      map[string]string `json:"labels"`
					Annotations map[string]string `json:"annotations"`
				} `json:"rules"`
			} `json:"groups"`
		} `json:"spec"`
	}{}
	readYAML(g, &rule, "config", "components", "prometheus", "alerts.yaml")
	severities := map[string]int{}
	for _, group := range rule.Spec.Groups {
		for _, alert := range group.Rules {
			for _, metric := range metricInRule.FindAllString(alert.Expr, -1) {
				g.Expect(registered).To(HaveKey(ofHistogram.ReplaceAllString(metric, "")), alert.Alert)
			}
			severities[alert.Labels["severity"]]++
			g.Expect(alert.For).NotTo(BeEmpty(), alert.Alert)
			g.Expect(alert.Annotations).To(And(HaveKey("summary"), HaveKey("description")), alert.Alert)
			g.Expect(alert.Annotations["runbook_url"]).To(HaveSuffix("docs/operations/alerts.md#"+strings.ToLower(alert.Alert)), alert.Alert)
			g.Expect(string(page)).To(ContainSubstring("\n## "+alert.Alert+"\n"), "no procedure")
		}
	}
	g.Expect(severities).To(And(HaveLen(2), HaveKeyWithValue("critical", 2), HaveKey("warning")))
}
