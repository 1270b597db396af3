//go:build e2e

// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/test/harness"
)

// Here are the faults that "make faults" checks against what DESIGN promises and that are over within half a minute; silence_test.go has
// those after which nobody reports for a minute. Where every state counts the test has the machine for itself, for the start of a dozen
// pods makes a backend slow, which is then rightly reported.

// TestFaultKilled kills the process of a runtime. The next process of the container goes on where it was: as far as the status goes,
// nothing happened.
func TestFaultKilled(t *testing.T) {
	x := newSubject(t, "killed")
	pod := x.pod(t)
	killed := time.Now()
	signal(t, x.process(t, pod), syscall.SIGKILL)

	// It keeps the name of the pod, and with it the Lease.
	renewal, err := x.lease.Await(t.Context(), killed, startLimit, "waiting for the next renewal", func(l *coordinationv1.Lease) error {
		if holder := ptr.Deref(l.Spec.HolderIdentity, ""); holder != pod.Name {
			return fmt.Errorf("the holder is %q", holder)
		}
		if l.Spec.RenewTime == nil || l.Spec.RenewTime.Time.Before(killed) {
			return errors.New("the last renewal was before the fault")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	measure(t, "process killed (-9)", "it holds its Lease again", 10*time.Second, renewal.At.Sub(killed))
	eventually(t, startLimit, "waiting for the container to be ready again", func(ctx context.Context) error {
		now := &corev1.Pod{}
		if err := kubectl.GetJSON(ctx, now, "--namespace", namespace, "pod", pod.Name); err != nil {
			return err
		}
		if c := now.Status.ContainerStatuses[0]; c.RestartCount != pod.Status.ContainerStatuses[0].RestartCount+1 || !c.Ready {
			return fmt.Errorf("restarts: %d, ready: %t", c.RestartCount, c.Ready)
		}
		return nil
	})
	measure(t, "process killed (-9)", "it serves again", 10*time.Second, time.Since(killed))
	always(t, x.status, killed, ready)
}

// TestFaultRollout changes the pods' template. One pod hands over to the other, and phase and backends stay what they are, in every
// single state of the object.
func TestFaultRollout(t *testing.T) {
	x := newSubject(t, "rollout")
	old := x.pod(t).Name
	samples := x.sample(t)
	changed := time.Now()
	x.change(t, deploymentPatch(`{spec: {template: {metadata: {annotations: {example.com/change: "1"}}}}}`))

	released, err := x.lease.Await(t.Context(), changed, startLimit, "waiting for the Lease to be released", isReleased)
	if err != nil {
		t.Fatal(err)
	}
	held := x.awaitHolder(t, released.At, startLimit, old)
	measure(t, "rollout", "the successor holds the Lease", 3*time.Second, held.At.Sub(released.At))
	reported := x.await(t, released.At, startLimit, "a report of the successor", reportedBy(ptr.Deref(held.Object.Spec.HolderIdentity, "")))
	measure(t, "rollout", "the successor reports", 3*time.Second, reported.At.Sub(released.At))
	x.await(t, released.At, startLimit, "every pod to serve the change", settled)
	always(t, x.status, changed, ready)
	read, took := always(t, samples, changed, ready), time.Since(changed)
	t.Logf("the status was read %d times in %s", len(read), took.Round(time.Millisecond))
	if at := took / (2 * sampleInterval); len(read) < int(at) {
		t.Errorf("the status was read %d times in %s, want it every %s", len(read), took, sampleInterval)
	}
}

func isReleased(l *coordinationv1.Lease) error {
	if holder := ptr.Deref(l.Spec.HolderIdentity, ""); holder != "" {
		return fmt.Errorf("the holder is %q", holder)
	}
	return nil
}

// TestFaultScaledToZero leaves nobody who could report.
func TestFaultScaledToZero(t *testing.T) {
	x := newSubject(t, "scaled")
	scaled := time.Now()
	x.change(t, replicas(0))
	released, err := x.lease.Await(t.Context(), scaled, startLimit, "waiting for the Lease to be released", isReleased)
	if err != nil {
		t.Fatal(err)
	}
	measure(t, "scaled to zero", "the Lease is released", 10*time.Second, released.At.Sub(scaled))
	unknown := x.awaitUnknown(t, scaled, startLimit)
	measure(t, "scaled to zero", "phase and backends are unknown", 20*time.Second, unknown.At.Sub(scaled))
	if c := findCondition(unknown.Object, v1alpha1.ConditionRuntimeReporting); c == nil || c.Reason != v1alpha1.ReasonReleased {
		t.Errorf("condition RuntimeReporting is %+v, want reason %s", c, v1alpha1.ReasonReleased)
	}
	x.change(t, replicas(1))
	back := x.await(t, time.Now(), startLimit, "every pod to serve the gateway again", settled)
	disjointWriters(t, back.Object)
}

// TestFaultRecreated deletes a gateway and makes it anew while the first one's pod is still there, reporting, or asleep and about to
// wake up. It is not this pod's gateway any more.
func TestFaultRecreated(t *testing.T) {
	t.Parallel()
	for name, asleep := range map[string]bool{"awake": false, "asleep": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newSubject(t, "recreated-"+name)
			pod, process := x.pod(t), x.process(t, x.pod(t))
			if asleep {
				signal(t, process, syscall.SIGSTOP)
				cleanUp(t, "waking the process", func(context.Context) error { return ignoreDone(process.Signal(syscall.SIGCONT)) })
			}
			deleted := time.Now()
			must(t, "delete", "virtualmcpserver", x.name)
			x.change(t)
			successor := x.await(t, deleted, startLimit, "the successor", func(s *v1alpha1.VirtualMCPServer) error { return nil }).Object
			if uid := must(t, "get", "pod", pod.Name, "--output=jsonpath={.metadata.uid}"); uid != string(pod.UID) {
				t.Fatalf("the first one's pod is gone already: %q", uid)
			}
			if asleep {
				signal(t, process, syscall.SIGCONT)
			}
			x.await(t, deleted, startLimit, "every pod to serve the successor", func(s *v1alpha1.VirtualMCPServer) error {
				return errors.Join(settled(s), otherThan(s, pod.Name))
			})
			for _, s := range x.status.Since(deleted) {
				if s.Object.UID != successor.UID {
					continue
				}
				if err := otherThan(s.Object, pod.Name); err != nil {
					t.Errorf("%s after the deletion: %v", s.At.Sub(deleted).Round(time.Millisecond), err)
				}
			}
		})
	}
}

// otherThan fails for a status that a pod has written to.
func otherThan(s *v1alpha1.VirtualMCPServer, pod string) error {
	if s.Status.Runtime != nil && s.Status.Runtime.Reporter == pod {
		return fmt.Errorf("the status is that of pod %s, whose gateway was deleted: phase %s, %s", pod, s.Status.Phase, s.Status.Message)
	}
	return nil
}

func signal(t *testing.T, process *os.Process, s os.Signal) {
	t.Helper()
	if err := process.Signal(s); err != nil {
		t.Fatalf("signal %s to process %d: %v", s, process.Pid, err)
	}
}

func ignoreDone(err error) error {
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// process is that of the runtime in a pod. The node is this machine.
func (x *subject) process(t *testing.T, pod *corev1.Pod) *os.Process {
	t.Helper()
	process, err := harness.PodProcess(string(pod.UID), runtimeProgram)
	if err != nil {
		t.Fatal(err)
	}
	return process
}
