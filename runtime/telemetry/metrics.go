// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package telemetry tells how a runtime is doing: metrics, and the endpoints of the kubelet's probes.
package telemetry

import (
	"sync"
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

// Results of looking at what the status has to say. The operator counts its applies by the same.
const (
	// ApplySent is a status that the API server took.
	ApplySent = "sent"
	// ApplySkipped is one that the object held already; nothing was sent.
	ApplySkipped = "skipped"
	// ApplyConflict is one that was decided on an object that had changed, or gone, since.
	ApplyConflict = "conflict"
	// ApplyFailed is one that the API server refused, or did not get.
	ApplyFailed = "failed"
)

// Metrics are the metrics of one runtime, on a registry of their own.
type Metrics struct {
	registry      *prometheus.Registry
	backendStatus *prometheus.GaugeVec
	transitions   *prometheus.CounterVec
	probes        *prometheus.HistogramVec
	calls         *prometheus.HistogramVec
	catalog       *prometheus.GaugeVec
	catalogTokens prometheus.Gauge
	applies       *prometheus.CounterVec
	generation    prometheus.Gauge
	refused       prometheus.Gauge
	peerRequests  *prometheus.CounterVec

	mu       sync.Mutex
	verdicts map[backendKey]v1alpha1.BackendStatus // that were recorded last
}

type backendKey struct{ kind, name string }

// NewMetrics makes the metrics of a runtime of the given version.
func NewMetrics(version string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		verdicts: map[backendKey]v1alpha1.BackendStatus{},
		backendStatus: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "vmcp_backend_status",
			Help: "Verdict on a backend: 1 for the status that it has, 0 for the others.",
		}, []string{"kind", "backend", "status"}),
		transitions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "vmcp_backend_transitions_total",
			Help: "How often the verdict on a backend became the status.",
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
		catalogTokens: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "vmcp_catalog_tokens",
			Help: "Estimate of the tokens that the definitions of all tools take in the context of a model that is given them.",
		}),
		applies: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "vmcp_status_applies_total",
			Help: "Looks at the status of the VirtualMCPServer by result: sent, skipped because it says so already, conflict, failed.",
		}, []string{"result"}),
		generation: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "vmcp_configuration_generation",
			Help: "Generation of the VirtualMCPServer whose configuration is in force.",
		}),
		refused: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "vmcp_configuration_refused",
			Help: "1 while a newer configuration is refused because it is not valid, else 0.",
		}),
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
	for _, result := range []string{ApplySent, ApplySkipped, ApplyConflict, ApplyFailed} {
		m.applies.WithLabelValues(result) // a series that begins at its first failure has no rate there
	}
	m.registry.MustRegister(m.backendStatus, m.transitions, m.probes, m.calls, m.catalog, m.catalogTokens, m.applies, m.generation, m.refused,
		m.peerRequests, info,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// BackendStatus records the verdict on a backend, and counts it if it is not the one that was recorded last.
func (m *Metrics) BackendStatus(kind, name string, status v1alpha1.BackendStatus) {
	m.mu.Lock()
	before := m.verdicts[backendKey{kind, name}]
	m.verdicts[backendKey{kind, name}] = status
	m.mu.Unlock()
	if before == status {
		return
	}
	for _, s := range statuses {
		value := gauge(s == status)
		m.backendStatus.WithLabelValues(kind, name, string(s)).Set(value)
		m.transitions.WithLabelValues(kind, name, string(s)).Add(value)
	}
}

// ForgetBackend drops what was recorded of a backend that is gone.
func (m *Metrics) ForgetBackend(kind, name string) {
	m.mu.Lock()
	delete(m.verdicts, backendKey{kind, name})
	m.mu.Unlock()
	labels := prometheus.Labels{"kind": kind, "backend": name}
	m.transitions.DeletePartialMatch(labels)
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

// Catalog records the size of the catalog that is served, tokens being an estimate for the definitions of its tools.
func (m *Metrics) Catalog(tools, prompts, resources, templates, conflicts, tokens int) {
	m.catalogTokens.Set(float64(tokens))
	for label, n := range map[string]int{"tool": tools, "prompt": prompts, "resource": resources, "template": templates, "conflict": conflicts} {
		m.catalog.WithLabelValues(label).Set(float64(n))
	}
}

// Apply records a look at the status, by one of the results above.
func (m *Metrics) Apply(result string) { m.applies.WithLabelValues(result).Inc() }

// Reporter makes known whether this replica reports, whenever the metrics are read. It is called once, before they are.
func (m *Metrics) Reporter(reporting func() bool) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "vmcp_status_reporter",
		Help: "1 in the replica that reports the status of the VirtualMCPServer, 0 in the others.",
	}, func() float64 { return gauge(reporting()) }))
}

// ConfigurationServing records the generation whose configuration is in force.
func (m *Metrics) ConfigurationServing(generation int64) { m.generation.Set(float64(generation)) }

// ConfigurationRefused records whether a newer configuration is refused.
func (m *Metrics) ConfigurationRefused(refused bool) { m.refused.Set(gauge(refused)) }

// PeerRequest records a request to another replica, by an operation and outcome of package peer.
func (m *Metrics) PeerRequest(operation, outcome string) {
	m.peerRequests.WithLabelValues(operation, outcome).Inc()
}

func gauge(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func outcome(err error) string {
	if err != nil {
		return OutcomeError
	}
	return OutcomeSuccess
}
