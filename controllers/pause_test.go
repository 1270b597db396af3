// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

func pause(o client.Object) {
	o.SetAnnotations(map[string]string{v1alpha1.PausedAnnotation: "true"})
}

func havePaused() OmegaMatcher {
	return haveCondition(v1alpha1.ConditionPaused, metav1.ConditionTrue, v1alpha1.ReasonAnnotationSet)
}

// unpaused is a status without the condition Paused: what a pause must not touch.
func unpaused(status v1alpha1.VirtualMCPServerStatus) v1alpha1.VirtualMCPServerStatus {
	status = *status.DeepCopy()
	meta.RemoveStatusCondition(&status.Conditions, v1alpha1.ConditionPaused)
	return status
}

// A pause is said once, with one write; nothing else changes, whatever happens to the object and to what was provisioned for it.
func TestPause(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(f.group("team"))
	f.converge("gateway")
	before, err := get[v1alpha1.VirtualMCPServer](f, "gateway")
	f.Expect(err).NotTo(HaveOccurred())
	f.requests.forget()

	edit(f, "gateway", func(s *v1alpha1.VirtualMCPServer) { pause(s) })
	s := f.eventually("gateway", havePaused())
	f.Expect(meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionPaused).Message).To(ContainSubstring(
		"remove the annotation " + v1alpha1.PausedAnnotation))
	f.Expect(unpaused(s.Status)).To(Equal(before.Status))

	edit(f, "gateway", func(s *v1alpha1.VirtualMCPServer) { s.Spec.Resources = &v1alpha1.ComputeResources{} })
	edit(f, "vmcp-gateway", func(m *corev1.ConfigMap) { m.Data[configv1alpha1.FileName] = "edited" })
	f.Consistently(func(g Gomega) {
		m, err := get[corev1.ConfigMap](f, "vmcp-gateway")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(m.Data).To(HaveKeyWithValue(configv1alpha1.FileName, "edited"))
		s, err = get[v1alpha1.VirtualMCPServer](f, "gateway")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(unpaused(s.Status)).To(Equal(before.Status))
		written := f.requests.writes()
		g.Expect(written).To(HaveLen(1))
		g.Expect(written[0].path).To(HaveSuffix("/virtualmcpservers/gateway/status"))
	}).Should(Succeed())

	edit(f, "gateway", func(s *v1alpha1.VirtualMCPServer) { s.Spec.Resources, s.Annotations = nil, nil })
	f.eventually("gateway", lackCondition(v1alpha1.ConditionPaused))
	f.Eventually(func(g Gomega) {
		m, err := get[corev1.ConfigMap](f, "vmcp-gateway")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(m.Data).NotTo(HaveKeyWithValue(configv1alpha1.FileName, "edited"))
	}).Should(Succeed())
}

// What is paused from the start gets nothing but the condition, and nothing more from an operator that restarts.
func TestPausedFromTheStart(t *testing.T) {
	t.Parallel()
	f := newNamespace(t)
	s, b, group, config := f.server("gateway", "team"), f.workloadBackend("kube"), f.group("team"), f.authConfig("grafana", "token")
	for _, o := range []client.Object{s, b, group, config} {
		pause(o)
	}
	f.create(f.credential("token"), s, b, group, config)
	f.start()
	paused := f.eventually("gateway", havePaused())
	f.Expect(unpaused(paused.Status)).To(Equal(v1alpha1.VirtualMCPServerStatus{Conditions: []metav1.Condition{}}))
	f.Eventually(func(g Gomega) {
		b, err := get[v1alpha1.MCPBackend](f, "kube")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(b.Status.Conditions).To(And(havePaused(), HaveLen(1)))
		group, err := get[v1alpha1.MCPGroup](f, "team")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(group.Status.Conditions).To(And(havePaused(), HaveLen(1)))
		g.Expect(group.Status.Backends).To(BeNil())
		config, err := get[v1alpha1.MCPExternalAuthConfig](f, "grafana")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(config.Status.Conditions).To(And(havePaused(), HaveLen(1)))
	}).Should(Succeed())

	f.requests.forget()
	f.restart()
	// An object that is not paused shows that events arrive.
	f.create(f.backend("grafana", remote("https://mcp.example.com/mcp")))
	f.eventuallyBackend("grafana", haveCondition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonNothingToProvision))
	f.expectNothingDeployed("kube")
	f.Consistently(func(g Gomega) {
		for _, r := range f.requests.writes() {
			g.Expect(r.path).To(HaveSuffix("/mcpbackends/grafana/status"))
		}
	}).Should(Succeed())

	edit(f, "team", func(g *v1alpha1.MCPGroup) { g.Annotations = nil })
	f.eventuallyCounts("team", 2, 1)
	f.eventuallyGroup("team", lackCondition(v1alpha1.ConditionPaused),
		haveCondition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonAuthRolesBound))
	edit(f, "grafana", func(c *v1alpha1.MCPExternalAuthConfig) { c.Annotations = nil })
	f.Expect(f.eventuallyUsable("grafana").Status.Conditions).To(lackCondition(v1alpha1.ConditionPaused))
	edit(f, "gateway", func(s *v1alpha1.VirtualMCPServer) {
		s.Annotations = map[string]string{v1alpha1.PausedAnnotation: "false"}
	})
	edit(f, "kube", func(b *v1alpha1.MCPBackend) { b.Annotations = nil })
	f.eventually("gateway", lackCondition(v1alpha1.ConditionPaused),
		haveCondition(v1alpha1.ConditionServiceReady, metav1.ConditionTrue, v1alpha1.ReasonAddressAssigned))
	f.eventuallyBackend("kube", lackCondition(v1alpha1.ConditionPaused),
		haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonProgressing))
}

// The status of a paused backend stays as it was.
func TestPausedBackendKeepsItsStatus(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(f.group("team"), f.backend("docs", service("docs", 80)))
	notFound := haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonServiceNotFound)
	before := f.eventuallyBackend("docs", notFound)
	edit(f, "docs", func(b *v1alpha1.MCPBackend) { pause(b) })
	f.eventuallyBackend("docs", havePaused())
	f.create(&corev1.Service{ObjectMeta: f.meta("docs"), Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}})
	f.Consistently(func(g Gomega) {
		b, err := get[v1alpha1.MCPBackend](f, "docs")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(b.Status.URL).To(Equal(before.Status.URL))
		g.Expect(b.Status.ObservedGeneration).To(Equal(before.Status.ObservedGeneration))
		meta.RemoveStatusCondition(&b.Status.Conditions, v1alpha1.ConditionPaused)
		g.Expect(b.Status.Conditions).To(Equal(before.Status.Conditions))
	}).Should(Succeed())
	edit(f, "docs", func(b *v1alpha1.MCPBackend) { b.Annotations = nil })
	f.eventuallyBackend("docs", lackCondition(v1alpha1.ConditionPaused),
		haveCondition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonServiceFound))
}

// The fields that the operator holds in the runtime's place stay its own during a pause, and a runtime that falls silent meanwhile is
// noticed after it.
func TestPauseAndTakeover(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	pending := o.reconcile()
	o.Expect(pending.Status.Phase).To(Equal(v1alpha1.PhasePending))
	edit(o.fixture, gatewayName, func(s *v1alpha1.VirtualMCPServer) { pause(s) })
	o.statusWrites()
	s := o.reconcile()
	o.Expect(s.Status.Conditions).To(havePaused())
	o.Expect(unpaused(s.Status)).To(Equal(pending.Status))
	o.Expect(o.statusWrites()).To(Equal(1))
	edit(o.fixture, gatewayName, func(s *v1alpha1.VirtualMCPServer) { s.Annotations = nil })

	reporting := o.reporting()
	o.Expect(reporting.Status.Conditions).To(lackCondition(v1alpha1.ConditionPaused))
	edit(o.fixture, gatewayName, func(s *v1alpha1.VirtualMCPServer) { pause(s) })
	o.reconcile()
	o.statusWrites()
	o.Expect(unpaused(o.wait(10 * time.Minute).Status)).To(Equal(reporting.Status))
	o.Expect(unpaused(o.reconcile().Status)).To(Equal(reporting.Status))
	o.Expect(o.statusWrites()).To(BeZero())

	edit(o.fixture, gatewayName, func(s *v1alpha1.VirtualMCPServer) { s.Annotations = nil })
	o.reconcile()
	o.Expect(o.wait(time.Minute).Status.Phase).To(Equal(v1alpha1.PhaseUnknown))
}

// Whoever removes the condition of a paused object is answered, at most once per five seconds.
func TestPauseIsSaidAgain(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.reconcile()
	edit(o.fixture, gatewayName, func(s *v1alpha1.VirtualMCPServer) { pause(s) })
	o.Expect(o.reconcile().Status.Conditions).To(havePaused())
	o.statusWrites()
	for range 10 {
		s := o.get()
		meta.RemoveStatusCondition(&s.Status.Conditions, v1alpha1.ConditionPaused)
		o.Expect(admin.Status().Update(o.ctx, s, client.FieldOwner("somebody"))).To(Succeed())
		o.reconcile()
		o.wait(time.Second)
	}
	o.Expect(o.statusWrites()).To(BeNumerically("~", 2, 1))
	o.Expect(o.wait(5 * time.Second).Status.Conditions).To(havePaused())
}

// A pause that loses a race with another writer is said with the next event, and nothing is lost.
func TestPauseIsFenced(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.reconcile()
	edit(o.fixture, gatewayName, func(s *v1alpha1.VirtualMCPServer) { pause(s) })
	stale := o.get()
	o.report(stale, stale.Generation)
	o.reconciler.Client.Client = &staleReader{Client: o.reconciler.Client.Client, server: stale}
	o.Expect(o.reconcile().Status.Conditions).To(lackCondition(v1alpha1.ConditionPaused))
	fresh := o.restarted(o.requests.wrap)
	s := fresh.reconcile()
	o.Expect(s.Status.Conditions).To(havePaused())
	o.Expect(s.Status.Phase).To(Equal(v1alpha1.PhaseReady))
}

// staleReader shows one VirtualMCPServer as it was, as a cache that lags behind does.
type staleReader struct {
	client.Client
	server *v1alpha1.VirtualMCPServer
}

func (r *staleReader) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	if s, ok := o.(*v1alpha1.VirtualMCPServer); ok {
		r.server.DeepCopyInto(s)
		return nil
	}
	return r.Client.Get(ctx, key, o, opts...)
}
