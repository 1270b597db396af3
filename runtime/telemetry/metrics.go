// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package telemetry tells how a runtime is doing: metrics, and the endpoints of the kubelet's probes.
package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// Outcomes of a call to a backend.
const (
	// OutcomeSuccess is a result.
	OutcomeSuccess = "success"
	// OutcomeError is an MCP error that the backend answered with.
	OutcomeError = "error"
	// OutcomeFault is a backend that could not be reached or did not speak MCP.
	OutcomeFault = "fault"
	// OutcomeCancelled is a call that its caller gave up.
	OutcomeCancelled = "cancelled"
	// OutcomeNotServed is a call for a backend that is not served.
	OutcomeNotServed = "not_served"
)

var statuses = []v1alpha1.BackendStatus{
	v1alpha1.BackendReady, v1alpha1.BackendDegraded, v1alpha1.BackendUnauthenticated, v1alpha1.BackendUnavailable, v1alpha1.BackendUnknown,
}

// Metrics are the metrics of one runtime, on a registry of their own.
type Metrics struct {
	registry      *prometheus.Registry
	backendStatus *prometheus.GaugeVec
	probes        *prometheus.HistogramVec
	calls         *prometheus.HistogramVec
	catalog       *prometheus.GaugeVec
	statusWrites  *prometheus.CounterVec
	peerRequests  *prometheus.CounterVec
}

// NewMetrics makes the metrics of a runtime of the given version.
func NewMetrics(version string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		backendStatus: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "vmcp_backend_status",
			Help: "Verdict on a backend: 1 for the status that it has, 0 for the others.",
		}, []string{"kind", "backend", "status"}),
		probes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "vmcp_backend_probe_duration_seconds",
			Help:    "Time from a health probe to its answer or end.",
			Buckets: []float64{.001, .005, .025, .1, .5, 2, 12},
		}, []string{"kind", "backend", "outcome"}),
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "vmcp_backend_call_duration_seconds",
			Help:    "Time of a call to a backend, by outcome: success, error (an MCP error), fault (not reached, or no MCP), cancelled, not_served.",
			Buckets: []float64{.001, .005, .025, .1, .5, 2, 10, 60},
		}, []string{"kind", "backend", "outcome"}),
		catalog: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "vmcp_catalog_entries",
			Help: "Entries of the catalog that is served: tool, prompt, resource, template; and conflict, a name that is not offered because another backend has it.",
		}, []string{"type"}),
		statusWrites: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "vmcp_status_writes_total",
			Help: "Writes of the status of the VirtualMCPServer, by outcome: success or error.",
		}, []string{"outcome"}),
		peerRequests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "vmcp_peer_requests_total",
			Help: "Requests to other replicas of the gateway, by operation: forward (a stream), send (to the one that owns something), tell and ask " +
				"(to all); and outcome: success, refused, gone (no answer within a second, or another process).",
		}, []string{"operation", "outcome"}),
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "vmcp_build_info", Help: "Always 1; the label says the version.", ConstLabels: prometheus.Labels{"version": version},
	})
	info.Set(1)
	m.registry.MustRegister(m.backendStatus, m.probes, m.calls, m.catalog, m.statusWrites, m.peerRequests, info,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// BackendStatus records the verdict on a backend.
func (m *Metrics) BackendStatus(kind, name string, status v1alpha1.BackendStatus) {
	for _, s := range statuses {
		value := 0.0
		if s == status {
			value = 1
		}
		m.backendStatus.WithLabelValues(kind, name, string(s)).Set(value)
	}
}

// ForgetBackend drops what was recorded of a backend that is gone.
func (m *Metrics) ForgetBackend(kind, name string) {
	labels := prometheus.Labels{"kind": kind, "backend": name}
	m.backendStatus.DeletePartialMatch(labels)
	m.probes.DeletePartialMatch(labels)
	m.calls.DeletePartialMatch(labels)
}

// Probe records a probe; err is nil when it was answered.
func (m *Metrics) Probe(kind, name string, took time.Duration, err error) {
	m.probes.WithLabelValues(kind, name, outcome(err)).Observe(took.Seconds())
}

// Call records a call to a backend, by one of the outcomes above.
func (m *Metrics) Call(kind, name, outcome string, took time.Duration) {
	m.calls.WithLabelValues(kind, name, outcome).Observe(took.Seconds())
}

// Catalog records the size of the catalog that is served.
func (m *Metrics) Catalog(tools, prompts, resources, templates, conflicts int) {
	for label, n := range map[string]int{"tool": tools, "prompt": prompts, "resource": resources, "template": templates, "conflict": conflicts} {
		m.catalog.WithLabelValues(label).Set(float64(n))
	}
}

// StatusWrite records a write of the status; err is nil when it was taken.
func (m *Metrics) StatusWrite(err error) { m.statusWrites.WithLabelValues(outcome(err)).Inc() }

// PeerRequest records a request to another replica, by an operation and outcome of package peer.
func (m *Metrics) PeerRequest(operation, outcome string) {
	m.peerRequests.WithLabelValues(operation, outcome).Inc()
}

func outcome(err error) string {
	if err != nil {
		return OutcomeError
	}
	return OutcomeSuccess
}
