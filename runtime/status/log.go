// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"log/slog"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/health"
)

// LogReporter reports changes of the phase, of backends and of the catalog's issues to a log.
type LogReporter struct {
	logger *slog.Logger

	mu       sync.Mutex
	summary  Summary
	verdicts map[backend.Key]health.Verdict
	issues   map[Issue]bool
}

// NewLogReporter makes a reporter for a runtime without a cluster.
func NewLogReporter(logger *slog.Logger) *LogReporter {
	return &LogReporter{logger: logger, verdicts: map[backend.Key]health.Verdict{}}
}

// Report implements Reporter.
func (l *LogReporter) Report(r Report) {
	l.mu.Lock()
	defer l.mu.Unlock()
	verdicts := make(map[backend.Key]health.Verdict, len(r.Backends))
	for _, b := range sorted(r.Backends) {
		verdicts[b.Target.Key] = b.Verdict
		if old, known := l.verdicts[b.Target.Key]; known && old.Status == b.Verdict.Status && old.Reason == b.Verdict.Reason {
			continue
		}
		l.logger.Log(context.Background(), level(b.Verdict.Status == v1alpha1.BackendReady), "Backend changed",
			"backend", b.Target.Name, "status", b.Verdict.Status, "reason", b.Verdict.Reason, "message", b.Verdict.Message,
			"tools", max(b.Tools, 0))
	}
	for key := range l.verdicts {
		if _, there := verdicts[key]; !there {
			l.logger.Info("Backend removed", "backend", key.Name)
		}
	}
	l.verdicts = verdicts
	issues := make(map[Issue]bool, len(r.Catalog.Issues))
	for _, i := range r.Catalog.Issues {
		issues[i] = true
		if !l.issues[i] {
			l.logger.Log(context.Background(), level(severity(i.Reason) == corev1.EventTypeNormal), "Catalog issue",
				"reason", i.Reason, "kind", i.Kind, "backend", i.Backend.Name, "name", i.Name, "message", sentence(i.Message))
		}
	}
	l.issues = issues
	if s := Summarize(r); s != l.summary {
		l.summary = s
		l.logger.Log(context.Background(), level(s.Phase == v1alpha1.PhaseReady), "Phase changed",
			"phase", s.Phase, "reason", s.Reason, "message", s.Message,
			"tools", r.Catalog.Tools, "prompts", r.Catalog.Prompts, "resources", r.Catalog.Resources)
	}
}

// Run implements Reporter.
func (l *LogReporter) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func level(good bool) slog.Level {
	if good {
		return slog.LevelInfo
	}
	return slog.LevelWarn
}
