// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// counters reads the counters of a name from the registry that the operator serves, by the values of their labels: joined with
// blanks, in the order of the labels' names.
func (f *fixture) counters(name string) map[string]float64 {
	f.t.Helper()
	families, err := metrics.Registry.Gather()
	f.Expect(err).NotTo(HaveOccurred())
	found := map[string]float64{}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			var values []string
			for _, l := range m.GetLabel() {
				values = append(values, l.GetValue())
			}
			found[strings.Join(values, " ")] = m.GetCounter().GetValue()
		}
	}
	return found
}

// applies are the counters of the applies of this operator, whose client bears the name of its namespace.
func (o *operator) applies() map[string]float64 {
	o.t.Helper()
	mine := map[string]float64{}
	for labels, value := range o.counters("vmcp_operator_applies_total") {
		if rest, ok := strings.CutPrefix(labels, o.namespace+" "); ok {
			mine[rest] = value
		}
	}
	return mine
}

func TestAppliesAreCounted(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	want := map[string]float64{}
	expect := func(result string, n float64, kinds ...string) {
		t.Helper()
		for _, kind := range kinds {
			want[kind+" "+result] += n
		}
	}
	kinds := func() []string {
		all := []string{"VirtualMCPServer"}
		for kind := range operandKinds() {
			if kind == kindPeers {
				kind = "Service" // there are two
			}
			all = append(all, kind)
		}
		return all
	}()

	o.reconcile()
	expect("sent", 1, kinds...)
	o.Expect(o.applies()).To(Equal(want))
	o.reconcile()
	expect("skipped", 1, kinds...)
	o.Expect(o.applies()).To(Equal(want))

	// The API server answers a ConfigMap's next writes with what is here.
	answers := []int{http.StatusConflict, http.StatusServiceUnavailable}
	o = o.restarted(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			if req.Method != http.MethodPatch || !strings.Contains(req.URL.Path, "/configmaps/") || len(answers) == 0 {
				return next.RoundTrip(req)
			}
			code := answers[0]
			answers = answers[1:]
			return &http.Response{StatusCode: code, Body: http.NoBody, Request: req}, nil
		})
	})
	edit(o.fixture, gatewayName, func(s *v1alpha1.VirtualMCPServer) {
		s.Spec.CommonMetadata = v1alpha1.CommonMetadata{Labels: map[string]v1alpha1.LabelValue{"team": "a"}}
	})
	_, err := o.reconciler.Reconcile(o.ctx, o.requestFor(gatewayName))
	o.Expect(err).To(HaveOccurred())
	expect("conflict", 1, "ConfigMap")
	expect("failed", 1, "ConfigMap")
	expect("sent", 1, "ServiceAccount", "Role", "RoleBinding", "VirtualMCPServer")
	o.Expect(o.applies()).To(Equal(want))
}

// Not parallel, unlike its neighbours, which wait until it ends: these counters are those of the process.
func TestHandOversAreCounted(t *testing.T) {
	o := newOperator(t)
	takeovers, giveBacks := o.counters("vmcp_operator_takeovers_total"), o.counters("vmcp_operator_give_backs_total")
	o.Expect(takeovers).To(And(HaveKey(v1alpha1.ReasonHeartbeatLost), HaveKey(v1alpha1.ReasonReleased)), "from the start")
	expect := func(lost, released, given float64) {
		t.Helper()
		want := maps.Clone(takeovers)
		want[v1alpha1.ReasonHeartbeatLost] += lost
		want[v1alpha1.ReasonReleased] += released
		o.Expect(o.counters("vmcp_operator_takeovers_total")).To(Equal(want))
		o.Expect(o.counters("vmcp_operator_give_backs_total")).To(Equal(map[string]float64{"": giveBacks[""] + given}))
	}
	s := o.reporting()
	expect(0, 0, 0) // The first report takes nothing back.
	o.wait(2 * time.Minute)
	expect(1, 0, 0)
	o.hold("pod")
	o.report(s, s.Generation)
	o.reconcile()
	expect(1, 0, 1)
	o.hold("")
	o.wait(time.Minute)
	expect(1, 1, 1)

	// A new process has counted nothing of what was before it, and finds the status as it should be.
	o = o.restarted()
	o.reconcile()
	expect(1, 1, 1)
	o.report(s, s.Generation)
	o.hold("pod")
	expect(1, 1, 2)
}
