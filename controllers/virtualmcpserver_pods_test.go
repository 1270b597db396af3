// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/controllers"
)

// A reporter that is alive says itself what it cannot do. That its pods are not ready concerns DeploymentReady alone.
func TestUnavailablePodsOfALiveReporter(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.reporting()
	o.live(time.Minute)
	o.unavailable()
	o.pod("vmcp-gateway-1", cannotPull)
	o.Expect(o.reconcile().Status.Conditions).To(haveCondition(v1alpha1.ConditionDeploymentReady, metav1.ConditionFalse, v1alpha1.ReasonProgressing))
	o.Expect(o.statusWrites()).To(Equal(1))
	o.live(10 * time.Minute)
	o.expectReporting(o.reconcile())
	o.Expect(o.podLooks()).To(BeZero())
	o.Expect(o.statusWrites()).To(BeZero())
}

// pod makes a pod of the gateway's Deployment, or changes it.
func (o *operator) pod(name string, state corev1.ContainerStatus) {
	o.t.Helper()
	d, err := get[appsv1.Deployment](o.fixture, v1alpha1.OperandName(gatewayName))
	o.Expect(err).NotTo(HaveOccurred())
	pod, err := get[corev1.Pod](o.fixture, name)
	if client.IgnoreNotFound(err) == nil && err != nil {
		pod = &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: o.namespace, Name: name, Labels: d.Spec.Selector.MatchLabels},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "vmcp", Image: runtimeImage}}},
		}
		o.create(pod)
	}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{state}
	o.Expect(admin.Status().Update(o.ctx, pod)).To(Succeed())
}

// podLooks counts how often the operator has listed pods since the status writes were last counted.
func (o *operator) podLooks() int {
	n := 0
	for _, r := range o.requests.of(controllers.VirtualMCPServerController) {
		if strings.HasSuffix(r.path, "/pods") {
			n++
		}
	}
	return n
}

var (
	cannotPull = corev1.ContainerStatus{
		Name: "vmcp", Image: runtimeImage, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{
			Reason: "ErrImagePull", Message: "registry.example.com/vmcp-runtime:test: not found",
		}},
	}
	crashes = corev1.ContainerStatus{
		Name: "vmcp", Image: runtimeImage, RestartCount: 3,
		State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "back-off 40s"}},
		LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: 2, Reason: "Error", Message: "unknown flag: --confg",
		}},
	}
	starts = corev1.ContainerStatus{
		Name: "vmcp", Image: runtimeImage, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
	}
)

func TestPodsThatCannotRun(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		state  corev1.ContainerStatus
		quoted string
	}{
		"image cannot be pulled":  {cannotPull, "registry.example.com/vmcp-runtime:test: not found"},
		"container keeps exiting": {crashes, "unknown flag: --confg"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOperator(t)
			o.reconcile()
			o.pod("vmcp-gateway-1", c.state)
			o.Expect(o.wait(4 * time.Second).Status.Phase).To(Equal(v1alpha1.PhasePending))
			o.Expect(o.podLooks()).To(BeZero())

			s := o.wait(time.Second)
			o.Expect(s.Status.Phase).To(Equal(v1alpha1.PhaseFailed))
			o.Expect(s.Status.Message).To(And(ContainSubstring(name), ContainSubstring(c.quoted)))
			o.Expect(s.Status.Conditions).To(And(
				haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonPodsCannotRun),
				haveCondition(v1alpha1.ConditionRuntimeReporting, metav1.ConditionFalse, v1alpha1.ReasonPodsCannotRun),
				haveCondition(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonPodsCannotRun),
			))
			o.Expect(s.Status.ObservedGeneration).To(Equal(s.Generation), "the verdict on the generation is the operator's own")

			// After 5 s it has looked, then after 10, 20, 40, and every 60 s; the status stays as it is, whatever comes to wake it.
			o.statusWrites()
			for range 60 {
				o.wait(5 * time.Second)
				o.reconcile()
			}
			o.Expect(o.podLooks()).To(Equal(6))
			o.Expect(o.statusWrites()).To(BeZero())
			o.restarted(o.requests.wrap).reconcile()
			o.Expect(o.statusWrites()).To(BeZero(), "a new operator says the same")

			o.pod("vmcp-gateway-1", starts)
			s = o.wait(time.Minute)
			o.Expect(s.Status.Phase).To(Equal(v1alpha1.PhasePending))
			o.Expect(s.Status.Conditions).To(lackCondition(v1alpha1.ConditionStalled))
			o.rollOut(v1alpha1.OperandName(gatewayName))
			o.hold("vmcp-gateway-1")
			o.report(s, s.Generation)
			o.expectReporting(o.reconcile())
		})
	}
}

// A reporter that is gone and whose pods cannot run is more than silent: somebody has to do something, and it is said what. It is
// back with its next report, whatever the pods were called meanwhile.
func TestLostReporterWhosePodsCannotRun(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.reporting()
	o.live(time.Minute)
	o.unavailable()
	o.pod("vmcp-gateway-1", crashes)
	o.reconcile()
	o.statusWrites()

	o.expectReporting(o.wait(59 * time.Second))
	o.Expect(o.podLooks()).To(BeZero(), "while it counts as alive")
	s := o.wait(2 * time.Second)
	o.Expect(s.Status.Phase).To(Equal(v1alpha1.PhaseFailed))
	o.Expect(s.Status.Message).To(ContainSubstring("unknown flag: --confg"))
	o.Expect(s.Status.Conditions).To(And(
		haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonPodsCannotRun),
		haveCondition(v1alpha1.ConditionRuntimeReporting, metav1.ConditionFalse, v1alpha1.ReasonHeartbeatLost),
		haveCondition(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonPodsCannotRun),
	))
	o.Expect(s.Status.Backends).To(Equal(&v1alpha1.BackendsSummary{Total: 1, Ready: 0}))
	o.Expect(s.Status.DiscoveredBackends[0].Status).To(Equal(v1alpha1.BackendUnknown))
	o.Expect(s.Status.DiscoveredBackends[0].Reason).To(Equal(v1alpha1.ReasonNoReport))
	o.Expect(o.statusWrites()).To(Equal(1))

	// It starts again and again: each time it takes the Lease, and each time the operator is told.
	for range 5 {
		o.hold("pod")
		o.wait(2 * time.Minute)
	}
	o.restarted(o.requests.wrap).reconcile()
	o.Expect(o.get().Status.Phase).To(Equal(v1alpha1.PhaseFailed))
	o.Expect(o.statusWrites()).To(BeZero())

	o.pod("vmcp-gateway-1", starts)
	o.expectTakenOver(o.wait(time.Minute), v1alpha1.ReasonHeartbeatLost)
	o.rollOut(v1alpha1.OperandName(gatewayName))
	o.hold("pod")
	o.report(s, s.Generation)
	o.expectReporting(o.reconcile())
}

// unavailable does what the Deployment controller does when no pod is ready.
func (o *operator) unavailable() {
	o.t.Helper()
	d, err := get[appsv1.Deployment](o.fixture, v1alpha1.OperandName(gatewayName))
	o.Expect(err).NotTo(HaveOccurred())
	d.Status.ReadyReplicas, d.Status.AvailableReplicas = 0, 0
	o.Expect(admin.Status().Update(o.ctx, d)).To(Succeed())
}
