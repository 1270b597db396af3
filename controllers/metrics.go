// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

// applyResult is what became of one thing that a controller wants of the cluster.
type applyResult string

const (
	// applySent: the API server took it.
	applySent applyResult = "sent"
	// applySkipped: it is so already, and nothing was sent.
	applySkipped applyResult = "skipped"
	// applyConflict: the object has changed, or gone, since it was decided on. What follows decides anew.
	applyConflict applyResult = "conflict"
	// applyFailed: the API server refused it or could not be reached.
	applyFailed applyResult = "failed"
)

// The operator's own metrics, beside those that controller-runtime has for every controller.
var (
	appliesTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "vmcp_operator_applies_total",
		Help: "Server-side applies by controller, kind of the object and result: sent, skipped because nothing differs, conflict, failed. " +
			"An apply of a status counts under the kind of its object.",
	}, []string{"controller", "kind", "result"})
	takeoversTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "vmcp_operator_takeovers_total",
		Help: "How often the operator began to speak in the place of a runtime that stopped reporting, by reason.",
	}, []string{"reason"})
	giveBacksTotal = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "vmcp_operator_give_backs_total",
		Help: "How often a runtime that had stopped reporting got its part of the status back.",
	})
)

func init() {
	metrics.Registry.MustRegister(appliesTotal, takeoversTotal, giveBacksTotal)
	// A series that begins at its first takeover has no rate there.
	for reason := range stopped {
		takeoversTotal.WithLabelValues(reason)
	}
}

// countApply counts what became of one apply.
func (c Client) countApply(kind string, result applyResult) {
	appliesTotal.WithLabelValues(c.Controller, kind, string(result)).Inc()
}

// resultOf is what a request that ended with err comes to.
func resultOf(err error) applyResult {
	switch {
	case err == nil:
		return applySent
	case apierrors.IsConflict(err), apierrors.IsNotFound(err):
		return applyConflict
	default:
		return applyFailed
	}
}

// countHandOver counts a change of who speaks for a runtime.
func countHandOver(h handOver, reason string) {
	switch h {
	case takeOver:
		takeoversTotal.WithLabelValues(reason).Inc()
	case giveBack:
		giveBacksTotal.Inc()
	case noHandOver:
	}
}
