// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package telemetry_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/telemetry"
)

// read is what a scraper gets.
func read(t *testing.T, m *telemetry.Metrics) string {
	t.Helper()
	recorder := httptest.NewRecorder()
	telemetry.Admin(m, func() bool { return true }).ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody))
	if recorder.Code != http.StatusOK {
		t.Fatalf("/metrics answers %d: %s", recorder.Code, recorder.Body)
	}
	return recorder.Body.String()
}

func expect(t *testing.T, metrics string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(metrics, "\n"+line+"\n") {
			t.Errorf("/metrics lacks %s", line)
		}
	}
}

func TestMetrics(t *testing.T) {
	m := telemetry.NewMetrics("v1")
	reporting := false
	m.Reporter(func() bool { return reporting })
	expect(t, read(t, m),
		`vmcp_build_info{version="v1"} 1`,
		`vmcp_status_applies_total{result="sent"} 0`, `vmcp_status_applies_total{result="failed"} 0`, `vmcp_status_reporter 0`)

	// What a series says again is no transition.
	for _, s := range []v1alpha1.BackendStatus{
		v1alpha1.BackendUnknown, v1alpha1.BackendReady, v1alpha1.BackendReady, v1alpha1.BackendUnavailable, v1alpha1.BackendReady,
	} {
		m.BackendStatus("MCPBackend", "a", s)
	}
	m.BackendStatus("MCPServer", "a", v1alpha1.BackendDegraded)
	m.Probe("MCPBackend", "a", time.Second, nil)
	m.Probe("MCPBackend", "a", time.Second, errors.New("refused"))
	m.Call("MCPBackend", "a", telemetry.OutcomeFault, time.Second)
	m.Catalog(3, 2, 1, 4, 5, 600)
	m.Apply(telemetry.ApplySent)
	m.Apply(telemetry.ApplyConflict)
	m.ConfigurationServing(7)
	m.ConfigurationRefused(true)
	reporting = true
	expect(t, read(t, m),
		`vmcp_backend_status{backend="a",kind="MCPBackend",status="ready"} 1`,
		`vmcp_backend_status{backend="a",kind="MCPBackend",status="unavailable"} 0`,
		`vmcp_backend_status{backend="a",kind="MCPServer",status="degraded"} 1`,
		`vmcp_backend_transitions_total{backend="a",kind="MCPBackend",status="ready"} 2`,
		`vmcp_backend_transitions_total{backend="a",kind="MCPBackend",status="unavailable"} 1`,
		`vmcp_backend_transitions_total{backend="a",kind="MCPBackend",status="degraded"} 0`,
		`vmcp_backend_probe_duration_seconds_count{backend="a",kind="MCPBackend",outcome="success"} 1`,
		`vmcp_backend_probe_duration_seconds_count{backend="a",kind="MCPBackend",outcome="error"} 1`,
		`vmcp_backend_call_duration_seconds_count{backend="a",kind="MCPBackend",outcome="fault"} 1`,
		`vmcp_catalog_entries{type="tool"} 3`, `vmcp_catalog_entries{type="conflict"} 5`, `vmcp_catalog_tokens 600`,
		`vmcp_status_applies_total{result="sent"} 1`, `vmcp_status_applies_total{result="conflict"} 1`, `vmcp_status_reporter 1`,
		`vmcp_configuration_generation 7`, `vmcp_configuration_refused 1`)

	m.ForgetBackend("MCPBackend", "a")
	metrics := read(t, m)
	if strings.Contains(metrics, `kind="MCPBackend"`) {
		t.Error("a backend that is gone is still there")
	}
	expect(t, metrics, `vmcp_backend_status{backend="a",kind="MCPServer",status="degraded"} 1`)
}

// A backend that came back under its name is counted anew.
func TestMetrics_BackendThatCameBack(t *testing.T) {
	m := telemetry.NewMetrics("v1")
	m.BackendStatus("MCPBackend", "a", v1alpha1.BackendReady)
	m.ForgetBackend("MCPBackend", "a")
	m.BackendStatus("MCPBackend", "a", v1alpha1.BackendReady)
	expect(t, read(t, m), `vmcp_backend_transitions_total{backend="a",kind="MCPBackend",status="ready"} 1`)
}
