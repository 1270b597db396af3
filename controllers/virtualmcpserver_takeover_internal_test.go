// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"testing"
	"time"

	. "github.com/onsi/gomega"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	acv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
)

func reportedServer() *v1alpha1.VirtualMCPServer {
	long := metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	return &v1alpha1.VirtualMCPServer{
		ObjectMeta: metav1.ObjectMeta{Name: "gateway", Namespace: "tools", Generation: generation},
		Spec:       v1alpha1.VirtualMCPServerSpec{GroupRef: v1alpha1.LocalReference{Name: "team"}},
		Status: v1alpha1.VirtualMCPServerStatus{
			Phase:    v1alpha1.PhaseReady,
			Backends: &v1alpha1.BackendsSummary{Total: 2, Ready: 1},
			Runtime:  &v1alpha1.RuntimeInfo{Reporter: "pod", ObservedGeneration: generation},
			DiscoveredBackends: []v1alpha1.DiscoveredBackend{
				{Kind: "MCPBackend", Name: "grafana", URL: "https://example.com", Status: v1alpha1.BackendReady, LastTransitionTime: long},
				{Kind: "MCPBackend", Name: "kube", Status: v1alpha1.BackendUnknown, Reason: "Probing", LastTransitionTime: long},
			},
		},
	}
}

// Who speaks, and what the operator says.
func TestWhoSpeaks(t *testing.T) {
	t.Parallel()
	const none = v1alpha1.Phase("")
	lost := heartbeat{lost: v1alpha1.ReasonHeartbeatLost}
	answered := heartbeat{lost: v1alpha1.ReasonHeartbeatLost, takenOver: true}
	problem := &podProblem{kind: problemImage, message: "image cannot be pulled"}
	for name, c := range map[string]struct {
		facts     virtualMCPServerFacts
		before    string // reason of RuntimeReporting
		phase     v1alpha1.Phase
		ready     string
		reporting string
		stalled   bool
		unknown   bool // of the backends nothing is known; in phase Unknown always
	}{
		"never reported": {
			facts: virtualMCPServerFacts{}, phase: v1alpha1.PhasePending, ready: "Unknown/NotYetReported", reporting: "Unknown/NotYetReported",
		},
		"never reported, and the Lease is silent": {
			facts: virtualMCPServerFacts{heartbeat: lost}, phase: v1alpha1.PhasePending, ready: "Unknown/NotYetReported", reporting: "Unknown/NotYetReported",
		},
		"never reported, pods cannot run": {
			facts: virtualMCPServerFacts{podProblem: problem}, phase: v1alpha1.PhaseFailed,
			ready: "False/PodsCannotRun", reporting: "False/PodsCannotRun", stalled: true,
		},
		"reported for the first time, the operator's fields are still there": {
			facts: virtualMCPServerFacts{reported: true, runtimeHolds: true, operatorHolds: true}, phase: none, reporting: "True/Reporting",
		},
		"reports": {
			facts: virtualMCPServerFacts{reported: true, runtimeHolds: true}, phase: none, reporting: "True/Reporting",
		},
		"reported and lost": {
			facts: virtualMCPServerFacts{reported: true, runtimeHolds: true, heartbeat: lost}, phase: v1alpha1.PhaseUnknown,
			ready: "Unknown/HeartbeatLost", reporting: "False/HeartbeatLost",
		},
		"reported and lost, pods cannot run": {
			facts: virtualMCPServerFacts{reported: true, runtimeHolds: true, heartbeat: lost, podProblem: problem}, phase: v1alpha1.PhaseFailed,
			ready: "False/PodsCannotRun", reporting: "False/HeartbeatLost", stalled: true, unknown: true,
		},
		"taken over, pods cannot run, and the operator started anew": {
			facts: virtualMCPServerFacts{reported: true, operatorHolds: true, podProblem: problem}, before: v1alpha1.ReasonReleased,
			phase: v1alpha1.PhaseFailed, ready: "False/PodsCannotRun", reporting: "False/Released", stalled: true, unknown: true,
		},
		"reported and released": {
			facts: virtualMCPServerFacts{reported: true, runtimeHolds: true, heartbeat: heartbeat{lost: v1alpha1.ReasonReleased}}, phase: v1alpha1.PhaseUnknown,
			ready: "Unknown/Released", reporting: "False/Released",
		},
		"taken over": {
			facts: virtualMCPServerFacts{reported: true, operatorHolds: true, heartbeat: answered}, phase: v1alpha1.PhaseUnknown,
			ready: "Unknown/HeartbeatLost", reporting: "False/HeartbeatLost",
		},
		"taken over, a person has edited phase": {
			facts: virtualMCPServerFacts{reported: true, heartbeat: answered}, phase: v1alpha1.PhaseUnknown,
			ready: "Unknown/HeartbeatLost", reporting: "False/HeartbeatLost",
		},
		"taken over, a process without a Lease writes all the same": {
			facts: virtualMCPServerFacts{reported: true, runtimeHolds: true, heartbeat: answered}, phase: none, reporting: "False/HeartbeatLost",
		},
		"taken over, the Lease is held again": {
			facts: virtualMCPServerFacts{reported: true, operatorHolds: true}, before: v1alpha1.ReasonReleased, phase: v1alpha1.PhaseUnknown,
			ready: "Unknown/Released", reporting: "False/Released",
		},
		"taken over, and the operator started anew": {
			facts: virtualMCPServerFacts{reported: true, operatorHolds: true}, before: v1alpha1.ReasonHeartbeatLost, phase: v1alpha1.PhaseUnknown,
			ready: "Unknown/HeartbeatLost", reporting: "False/HeartbeatLost",
		},
		"reports, a person has edited phase": {
			facts: virtualMCPServerFacts{reported: true}, phase: none, reporting: "True/Reporting",
		},
		"reported, pods are unavailable": {
			facts: virtualMCPServerFacts{reported: true, runtimeHolds: true, deployment: deploymentWith(func(d *appsv1.Deployment) { d.Status.AvailableReplicas = 0 })},
			phase: none, reporting: "True/Reporting",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			s := reportedServer()
			s.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionRuntimeReporting, Status: metav1.ConditionFalse, Reason: c.before}}
			before := s.DeepCopy()
			c.facts.groupFound = true
			status := newVirtualMCPServerStatus(s, c.facts, time.Now())

			g.Expect(s).To(Equal(before), "the object is not modified")
			g.Expect(ptr.Deref(status.Phase, none)).To(Equal(c.phase))
			got := map[string]string{}
			for _, condition := range status.Conditions {
				got[*condition.Type] = string(*condition.Status) + "/" + *condition.Reason
			}
			g.Expect(got[v1alpha1.ConditionRuntimeReporting]).To(Equal(c.reporting))
			g.Expect(got[v1alpha1.ConditionReady]).To(Equal(c.ready))
			if c.stalled {
				g.Expect(got[v1alpha1.ConditionStalled]).To(Equal("True/PodsCannotRun"))
				g.Expect(status.ObservedGeneration).To(HaveValue(BeEquivalentTo(generation)))
			} else {
				g.Expect(got).NotTo(HaveKey(v1alpha1.ConditionStalled))
			}
			g.Expect(status.Catalog).To(BeNil())
			g.Expect(status.Runtime).To(BeNil())
			if c.phase != v1alpha1.PhaseUnknown && !c.unknown {
				g.Expect(status.DiscoveredBackends).To(BeEmpty())
				g.Expect(status.Backends).To(BeNil())
				return
			}
			g.Expect(status.Message).To(HaveValue(Not(BeEmpty())))
			g.Expect(status.Backends).To(Equal(acv1alpha1.BackendsSummary().WithReady(0)), "total is the runtime's")
			g.Expect(status.DiscoveredBackends).To(HaveLen(2))
			for i, entry := range status.DiscoveredBackends {
				g.Expect(entry.Status).To(HaveValue(Equal(v1alpha1.BackendUnknown)))
				g.Expect(entry.Reason).To(HaveValue(Equal(v1alpha1.ReasonNoReport)))
				g.Expect(entry.URL).To(BeNil(), "the rest of an entry is the runtime's")
				old := before.Status.DiscoveredBackends[i]
				if old.Status == v1alpha1.BackendUnknown {
					g.Expect(*entry.LastTransitionTime).To(Equal(old.LastTransitionTime))
				} else {
					g.Expect(entry.LastTransitionTime.Time).To(BeTemporally(">", old.LastTransitionTime.Time))
				}
			}
		})
	}
}

func TestStatusWritesHealSeldom(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s, at := &v1alpha1.VirtualMCPServer{ObjectMeta: metav1.ObjectMeta{Name: "gateway", UID: "first"}}, time.Now()
	key := client.ObjectKeyFromObject(s)
	status := acv1alpha1.VirtualMCPServerStatus
	held := status().WithURL("a").WithPhase(v1alpha1.PhaseUnknown)
	w := &statusWrites{}
	g.Expect(w.notBefore(s, status(), held, true)).To(BeZero(), "the first write of a process")
	w.set(key, statusWrite{uid: s.UID, status: held, at: at})
	g.Expect(w.notBefore(s, status().WithURL("a").WithPhase(v1alpha1.PhaseUnknown), status().WithURL("b"), false)).To(BeZero(), "new facts")
	g.Expect(w.notBefore(s, status().WithURL("a"), held, false)).To(Equal(at.Add(healInterval)), "somebody took phase")
	g.Expect(w.notBefore(s, status().WithURL("a"), status().WithURL("a"), true)).To(BeZero(), "the runtime took phase: give the rest back")
	w.set(key, statusWrite{uid: s.UID, status: status().WithURL("a"), at: at})
	g.Expect(w.notBefore(s, status(), status().WithURL("a"), true)).To(Equal(at.Add(healInterval)), "somebody took url")
	s.UID = "second"
	g.Expect(w.notBefore(s, status(), status().WithURL("a"), false)).To(BeZero(), "another object of that name")
}

func waiting(reason, message string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
}

func TestPodsProblem(t *testing.T) {
	t.Parallel()
	pod := func(name string, statuses ...corev1.ContainerStatus) corev1.Pod {
		return corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.PodStatus{ContainerStatuses: statuses}}
	}
	pulling := corev1.ContainerStatus{Name: "vmcp", State: waiting("ErrImagePull", "no such image")}
	creating := corev1.ContainerStatus{Name: "vmcp", State: waiting("ContainerCreating", "")}
	crashing := corev1.ContainerStatus{
		Name: "vmcp", RestartCount: 3, State: waiting("CrashLoopBackOff", "back-off 40s"),
		LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 2, Reason: "Error", Message: "bad flag\n"}},
	}
	restarted := corev1.ContainerStatus{Name: "vmcp", RestartCount: 7, Ready: true}
	now := time.Now()
	runningFor := func(d time.Duration) corev1.ContainerStatus {
		return corev1.ContainerStatus{Name: "vmcp", RestartCount: 3, State: corev1.ContainerState{
			Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(now.Add(-d))},
		}}
	}
	crashedTwice := corev1.ContainerStatus{Name: "vmcp", RestartCount: 2, State: waiting("CrashLoopBackOff", "back-off 20s")}
	leaving := pod("leaving", creating)
	leaving.DeletionTimestamp = new(metav1.Now())
	initializing := pod("a", creating)
	initializing.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "init", State: waiting("CreateContainerConfigError", `secret "x" not found`)}}
	younger := pod("z", pulling)
	younger.CreationTimestamp = metav1.Now()
	for name, c := range map[string]struct {
		pods []corev1.Pod
		want string
	}{
		"no pods":                      {},
		"coming up":                    {[]corev1.Pod{pod("a", creating)}, ""},
		"no status yet":                {[]corev1.Pod{pod("a")}, ""},
		"restarted and well now":       {[]corev1.Pod{pod("a", restarted)}, ""},
		"restarted long ago":           {[]corev1.Pod{pod("a", runningFor(11*time.Minute))}, ""},
		"started for the third time":   {[]corev1.Pod{pod("a", runningFor(time.Second))}, "container keeps exiting: container vmcp of pod a: started again 3 times or more"},
		"two restarts":                 {[]corev1.Pod{pod("a", crashedTwice)}, ""},
		"one of two may come up":       {[]corev1.Pod{pod("a", pulling), pod("b", creating)}, ""},
		"image":                        {[]corev1.Pod{pod("a", pulling)}, "image cannot be pulled: container vmcp of pod a: ErrImagePull: no such image"},
		"a pod that leaves is no hope": {[]corev1.Pod{leaving, pod("b", pulling)}, "image cannot be pulled: container vmcp of pod b: ErrImagePull: no such image"},
		"the newest is quoted":         {[]corev1.Pod{pod("a", crashing), younger}, "image cannot be pulled: container vmcp of pod z: ErrImagePull: no such image"},
		"init container":               {[]corev1.Pod{initializing}, `container cannot be created: container init of pod a: CreateContainerConfigError: secret "x" not found`},
		"crash loop": {[]corev1.Pod{pod("a", crashing)},
			"container keeps exiting: container vmcp of pod a: started again 3 times or more; it ended with exit code 2, Error: bad flag"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			problem := podsProblem(c.pods, now)
			if c.want == "" {
				g.Expect(problem).To(BeNil())
				return
			}
			g.Expect(problem).NotTo(BeNil())
			g.Expect(problem.message).To(Equal(c.want))
		})
	}
}

// Looks follow after 5, 10, 20 … 60 s, and another wording of the same problem is no news.
func TestPodWatch(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	at := time.Now()
	w := podWatch{interval: firstPodLook}
	var intervals []time.Duration
	for range 6 {
		w = w.looked(&podProblem{pod: "a", kind: problemImage, message: at.String()}, at)
		intervals = append(intervals, w.next.Sub(at))
		at = w.next
	}
	g.Expect(intervals).To(Equal([]time.Duration{
		10 * time.Second, 20 * time.Second, 40 * time.Second, time.Minute, time.Minute, time.Minute,
	}))
	first := w.problem.message
	w = w.looked(&podProblem{pod: "a", kind: problemImage, message: "other words"}, at)
	g.Expect(w.problem.message).To(Equal(first))
	w = w.looked(&podProblem{pod: "a", kind: problemRestarts, message: "other problem"}, at)
	g.Expect(w.problem.message).To(Equal("other problem"))
	g.Expect(w.looked(nil, at).problem).To(BeNil())
}
