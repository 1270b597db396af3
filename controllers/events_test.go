// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"testing"
	"time"

	. "github.com/onsi/gomega"

	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/controllers"
)

// events are those about an object, "type reason", by how often each was told.
func (f *fixture) events(g Gomega, about client.Object) map[string]int {
	list := &eventsv1.EventList{}
	g.Expect(admin.List(f.ctx, list, client.InNamespace(f.namespace))).To(Succeed())
	told := map[string]int{}
	for _, e := range list.Items {
		if e.Regarding.UID != about.GetUID() {
			continue
		}
		g.Expect(e.Regarding.ResourceVersion).To(BeEmpty(), "it would keep equal events from becoming a series")
		g.Expect(e.Regarding.APIVersion).To(Equal(v1alpha1.GroupVersion.String()))
		g.Expect(e.Regarding.Name).To(Equal(about.GetName()))
		g.Expect(e.Action).NotTo(BeEmpty())
		g.Expect(e.Note).NotTo(BeEmpty())
		g.Expect(e.ReportingController).To(HavePrefix(controllers.UserAgentPrefix))
		told[e.Type+" "+e.Reason]++
		if e.Series != nil {
			told[e.Type+" "+e.Reason] += int(e.Series.Count) - 1
		}
	}
	return told
}

// What the operator may do as the user of these tests is what its generated role lets it do, events included.
func TestEventsTellTransitions(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s, b := f.server("gateway", "team"), f.backend("grafana", remote("https://mcp.example.com/mcp"))
	f.create(s, b)
	stalled := map[string]int{"Warning GroupNotFound": 1}
	f.Eventually(func(g Gomega) {
		g.Expect(f.events(g, s)).To(Equal(stalled))
		g.Expect(f.events(g, b)).To(Equal(stalled))
	}).Should(Succeed())

	f.create(f.group("team"))
	f.Eventually(func(g Gomega) { f.operand(g, "gateway") }).Should(Succeed())
	f.rollOut(v1alpha1.OperandName("gateway"))
	f.report(s, s.Generation)
	f.eventually("gateway", haveCondition(v1alpha1.ConditionRuntimeReporting, metav1.ConditionTrue, v1alpha1.ReasonReporting))
	edit(f, "grafana", func(b *v1alpha1.MCPBackend) { pause(b) })
	f.eventuallyBackend("grafana", havePaused())
	edit(f, "grafana", func(b *v1alpha1.MCPBackend) { b.Annotations = nil })
	f.eventuallyBackend("grafana", lackCondition(v1alpha1.ConditionPaused))
	settled := func(g Gomega) {
		g.Expect(f.events(g, s)).To(Equal(map[string]int{
			"Warning GroupNotFound": 1, "Normal StalledResolved": 1, "Normal Reporting": 1,
		}))
		g.Expect(f.events(g, b)).To(Equal(map[string]int{
			"Warning GroupNotFound": 1, "Normal StalledResolved": 1, "Normal Paused": 1, "Normal Resumed": 1,
		}))
	}
	f.Eventually(settled).Should(Succeed())

	// Neither a change that is no transition nor a new process has anything to tell.
	f.restart()
	edit(f, "grafana", func(b *v1alpha1.MCPBackend) { b.Spec.Remote.URL = "https://other.example.com/mcp" })
	f.Eventually(func(g Gomega) {
		b, err := get[v1alpha1.MCPBackend](f, "grafana")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(b.Status.ObservedGeneration).To(Equal(b.Generation))
	}).Should(Succeed())
	f.Consistently(settled).Should(Succeed())
}

func TestEventsTellHandOvers(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	recorded := events.NewFakeRecorder(100)
	o.reconciler.Client.Events = recorded
	told := func() (all []string) {
		for {
			select {
			case e := <-recorded.Events:
				all = append(all, e)
			default:
				return all
			}
		}
	}
	s := o.reporting()
	o.Expect(told()).To(Equal([]string{"Normal Reporting the runtime made its first report"}))
	o.live(5 * time.Minute)
	o.Expect(told()).To(BeEmpty())

	o.wait(time.Hour)
	o.Expect(told()).To(ConsistOf(HavePrefix("Warning HeartbeatLost the runtime stopped reporting")), "once")
	o = o.restarted()
	o.reconciler.Client.Events = recorded
	o.reconcile()
	o.wait(time.Hour)
	o.Expect(told()).To(BeEmpty(), "nothing is new to a new process")

	o.hold("pod")
	o.report(s, s.Generation)
	o.reconcile()
	o.Expect(told()).To(Equal([]string{"Normal Reporting the runtime reports again"}))
	o.hold("")
	o.wait(time.Minute)
	o.Expect(told()).To(ConsistOf(HavePrefix("Warning Released the runtime stopped reporting")))
}
