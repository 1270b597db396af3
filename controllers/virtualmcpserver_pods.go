// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// While the runtime does not report the operator looks at the pods of a Deployment that is unavailable, at intervals that double from
// firstPodLook to maxPodLook. Pods are in no cache: there are too many of them, and they change too often.
const (
	firstPodLook = 5 * time.Second
	maxPodLook   = time.Minute
	// tooManyRestarts is how often a container may be started again before its pod counts as one that cannot run.
	tooManyRestarts = 3
	// restartsForgiven is how long a container has to run until its restarts no longer count. The kubelet forgets its back-off then,
	// too. A process that is merely frozen, after a crash long ago, is not one that cannot run.
	restartsForgiven = 10 * time.Minute
	// maxQuote is the most bytes that are quoted of a message of the kubelet or of a container's last words.
	maxQuote = 512
)

// podProblem is why a pod cannot run.
type podProblem struct {
	pod, container string
	// kind is one of the three: problemImage, problemCreate, problemRestarts.
	kind    string
	message string
}

const (
	problemImage    = "image cannot be pulled"
	problemCreate   = "container cannot be created"
	problemRestarts = "container keeps exiting"
)

// waitingProblems are the reasons of the kubelet for a container that waits in vain (k8s.io/kubernetes/pkg/kubelet/images,
// pkg/kubelet/kuberuntime and k8s.io/cri-api/pkg/errors name them). CrashLoopBackOff is not among them: restarts are counted.
var waitingProblems = map[string]string{
	"ErrImagePull":               problemImage,
	"ImagePullBackOff":           problemImage,
	"ErrImageNeverPull":          problemImage,
	"InvalidImageName":           problemImage,
	"ImageInspectError":          problemImage,
	"RegistryUnavailable":        problemImage,
	"SignatureValidationFailed":  problemImage,
	"CreateContainerConfigError": problemCreate,
	"CreateContainerError":       problemCreate,
	"PreCreateHookError":         problemCreate,
	"PreStartHookError":          problemCreate,
	"RunContainerError":          problemCreate,
}

// podsProblem is why the pods cannot run, or nil if one of them may still come up, or there is none.
func podsProblem(pods []corev1.Pod, now time.Time) *podProblem {
	// The newest first: it is the one that a person is about to look at.
	pods = slices.SortedFunc(slices.Values(pods), func(a, b corev1.Pod) int {
		if c := b.CreationTimestamp.Compare(a.CreationTimestamp.Time); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	var first *podProblem
	for i := range pods {
		if !pods[i].DeletionTimestamp.IsZero() {
			continue
		}
		problem := problemOf(&pods[i], now)
		if problem == nil {
			return nil
		}
		if first == nil {
			first = problem
		}
	}
	return first
}

func problemOf(pod *corev1.Pod, now time.Time) *podProblem {
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range list {
			c := &list[i]
			kind, why := containerProblem(c, now)
			if kind == "" {
				continue
			}
			return &podProblem{
				pod: pod.Name, container: c.Name, kind: kind,
				message: fmt.Sprintf("%s: container %s of pod %s: %s", kind, c.Name, pod.Name, why),
			}
		}
	}
	return nil
}

func containerProblem(c *corev1.ContainerStatus, now time.Time) (kind, why string) {
	if w := c.State.Waiting; w != nil && waitingProblems[w.Reason] != "" {
		return waitingProblems[w.Reason], quote(w.Reason, w.Message)
	}
	if c.RestartCount < tooManyRestarts || c.Ready {
		return "", ""
	}
	if r := c.State.Running; r != nil && !r.StartedAt.IsZero() && now.Sub(r.StartedAt.Time) > restartsForgiven {
		return "", ""
	}
	last := c.LastTerminationState.Terminated
	if c.State.Terminated != nil {
		last = c.State.Terminated
	}
	why = fmt.Sprintf("started again %d times or more", tooManyRestarts)
	if last != nil {
		why += fmt.Sprintf("; it ended with exit code %d, %s", last.ExitCode, quote(last.Reason, last.Message))
	}
	return problemRestarts, why
}

func quote(reason, message string) string {
	if message = strings.TrimSpace(message); message == "" {
		return reason
	}
	return reason + ": " + truncate(message, maxQuote)
}

// podWatch is when to look at the pods of a Deployment again, and what the last look showed.
type podWatch struct {
	uid        types.UID
	generation int64
	next       time.Time
	interval   time.Duration
	problem    *podProblem
}

// looked is the watch after a look. Of one problem the first wording is kept: the kubelet words it anew every time, and each
// wording would be a write.
func (w podWatch) looked(problem *podProblem, now time.Time) podWatch {
	if old := w.problem; old == nil || problem == nil ||
		old.pod != problem.pod || old.container != problem.container || old.kind != problem.kind {
		w.problem = problem
	}
	w.interval = min(2*w.interval, maxPodLook)
	w.next = now.Add(w.interval)
	return w
}

// observePods finds out whether the pods can run, as long as nobody reports and the Deployment is unavailable. It returns when to look
// again, zero for never.
func (r *VirtualMCPServerReconciler) observePods(ctx context.Context, scope *virtualMCPServerScope) time.Time {
	f, key := &scope.facts, client.ObjectKeyFromObject(scope.server)
	d := f.deployment
	if f.silence(scope.server) == "" || d == nil || deploymentVerdict(d).status == metav1.ConditionTrue {
		r.pods.forget(key)
		return time.Time{}
	}
	at := now(r.Now)
	w, _ := r.pods.get(key)
	if w.uid != d.UID || w.generation != d.Generation {
		w = podWatch{uid: d.UID, generation: d.Generation, next: at.Add(firstPodLook), interval: firstPodLook}
		if f.reported || saidThatPodsCannotRun(scope.server) {
			// A reporter counts as lost only after a minute. An operator that has just started says the same again, or not, but never both.
			w.next = at
		}
	}
	if !at.Before(w.next) {
		problem := w.problem
		if pods, err := r.listPods(ctx, d.Namespace, d.Spec.Selector); err == nil {
			problem = podsProblem(pods, at)
		} else {
			log.FromContext(ctx).Error(err, "Looking why the runtime does not report; what the last look showed is reported")
		}
		w = w.looked(problem, at)
	}
	r.pods.set(key, w)
	f.podProblem = w.problem
	return w.next
}

func saidThatPodsCannotRun(s *v1alpha1.VirtualMCPServer) bool {
	c := meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionRuntimeReporting)
	return c != nil && c.Reason == v1alpha1.ReasonPodsCannotRun && c.ObservedGeneration == s.Generation
}

func (r *VirtualMCPServerReconciler) listPods(ctx context.Context, namespace string, selector *metav1.LabelSelector) ([]corev1.Pod, error) {
	labels, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return nil, fmt.Errorf("reading the selector of the Deployment: %w", err)
	}
	list := &corev1.PodList{}
	if err := r.Client.Live.List(ctx, list, client.InNamespace(namespace), client.MatchingLabelsSelector{Selector: labels}); err != nil {
		return nil, fmt.Errorf("listing the pods of the runtime: %w", err)
	}
	return list.Items, nil
}
