// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package status_test

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/status"
)

func TestLogReporter_LogsChangesOnly(t *testing.T) {
	var out bytes.Buffer
	r := status.NewLogReporter(slog.New(slog.NewTextHandler(&out, nil)))
	shown := []string{"level", "backend", "status", "phase"}
	lines := func() []string {
		var short []string
		for line := range strings.Lines(out.String()) {
			var words []string
			for word := range strings.FieldsSeq(line) {
				if key, value, found := strings.Cut(word, "="); found && slices.Contains(shown, key) {
					words = append(words, value)
				}
			}
			short = append(short, strings.Join(words, " "))
		}
		out.Reset()
		return short
	}
	clashing := report(ready("a"))
	clashing.Catalog.Issues = []status.Issue{issue(v1alpha1.ReasonNameConflict, "b", "x"), issue(v1alpha1.ReasonNameShadowed, "c", "x")}
	for _, c := range []struct {
		report status.Report
		want   []string
	}{
		{report(ready("a"), ready("b")), []string{"INFO a ready", "INFO b ready", "INFO Ready"}},
		{report(ready("b"), ready("a")), nil},
		{report(ready("a"), down("b")), []string{"WARN b unavailable", "WARN Degraded"}},
		{report(ready("a")), []string{"INFO b", "INFO Ready"}},
		{clashing, []string{"WARN b", "INFO c", "WARN Degraded"}},
		{clashing, nil},
		{report(ready("a")), []string{"INFO Ready"}},
	} {
		r.Report(c.report)
		if diff := cmp.Diff(c.want, lines()); diff != "" {
			t.Errorf("lines (-want +got):\n%s", diff)
		}
	}
}
