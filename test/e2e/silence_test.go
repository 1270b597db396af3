//go:build e2e

// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/test/harness"
)

// Times of the design: a Lease expires after a minute, and another replica takes it a quarter of a minute before.
const (
	unknownWithin   = 65 * time.Second
	backWithin      = 5 * time.Second
	successorWithin = 50 * time.Second
)

// TestFaultPodGone takes the pod of the reporter away without a moment to release the Lease. Its successor waits until it has seen the
// Lease stay as it is. When the last renewal was long ago the operator may have to say before that nobody reports.
func TestFaultPodGone(t *testing.T) {
	for name, asleep := range map[string]bool{"awake": false, "asleep": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newSubject(t, "gone-"+name)
			pod := x.pod(t)
			if asleep {
				// It cannot even use the second that the kubelet gives it.
				process := x.process(t, pod)
				signal(t, process, syscall.SIGSTOP)
				cleanUp(t, "waking the process", func(context.Context) error { return ignoreDone(process.Signal(syscall.SIGCONT)) })
			}
			gone := time.Now()
			must(t, "delete", "pod", pod.Name, "--grace-period=0", "--force")
			held := x.awaitHolder(t, gone, startLimit, pod.Name)
			reported := x.await(t, gone, startLimit, "a report of the successor", reportedBy(ptr.Deref(held.Object.Spec.HolderIdentity, "")))
			measure(t, "pod of the reporter gone, "+name, "the successor reports", successorWithin, reported.At.Sub(gone))
			always(t, x.status, gone, func(s *v1alpha1.VirtualMCPServer) bool { return ready(s) || nothingKnown(s) == nil })
		})
	}
}

// TestFaultFrozen stops the process of a runtime that no liveness probe watches, and lets it go on.
func TestFaultFrozen(t *testing.T) {
	t.Parallel()
	x := newSubject(t, "frozen", deploymentPatch(`[{op: remove, path: /spec/template/spec/containers/0/livenessProbe}]`))
	process := x.process(t, x.pod(t))
	x.silence(t, "process frozen (SIGSTOP)", func() {
		signal(t, process, syscall.SIGSTOP)
		cleanUp(t, "waking the process", func(context.Context) error { return ignoreDone(process.Signal(syscall.SIGCONT)) })
	}, func() {
		signal(t, process, syscall.SIGCONT)
	})
}

// TestFaultCutOff keeps every packet between a runtime and the API server away, while it goes on serving.
func TestFaultCutOff(t *testing.T) {
	t.Parallel()
	x := newSubject(t, "cut-off")
	process, servers := x.process(t, x.pod(t)), apiServers(t)
	x.silence(t, "cut off from the API server", func() {
		if err := harness.Partition(t.Context(), process, servers); err != nil {
			t.Fatal(err)
		}
	}, func() {
		if err := harness.Heal(t.Context(), process); err != nil {
			t.Fatal(err)
		}
	})
}

// silence keeps a runtime from reporting until the operator has noticed, and takes a backend away meanwhile. What the runtime says
// when it is back is the truth of then.
func (x *subject) silence(t *testing.T, fault string, begin, end func()) {
	t.Helper()
	began := time.Now()
	begin()
	x.dies(t)
	unknown := x.awaitUnknown(t, began, startLimit)
	measure(t, fault, "phase and backends are unknown", unknownWithin, unknown.At.Sub(began))
	if c := findCondition(unknown.Object, v1alpha1.ConditionRuntimeReporting); c == nil || c.Reason != v1alpha1.ReasonHeartbeatLost {
		t.Errorf("condition RuntimeReporting is %+v, want reason %s", c, v1alpha1.ReasonHeartbeatLost)
	}

	ended := time.Now()
	end()
	truth := x.await(t, ended, changeLimit, "the truth about both backends", x.truth)
	measure(t, fault, "the truth is reported", backWithin, truth.At.Sub(ended))
	settled := x.await(t, truth.At, changeLimit, "the operator to see the report", func(s *v1alpha1.VirtualMCPServer) error {
		if c := findCondition(s, v1alpha1.ConditionRuntimeReporting); c == nil || c.Status != metav1.ConditionTrue {
			return fmt.Errorf("condition RuntimeReporting is %+v", c)
		}
		return x.truth(s)
	})
	disjointWriters(t, settled.Object)
	always(t, x.status, unknown.At, func(s *v1alpha1.VirtualMCPServer) bool { return nothingKnown(s) == nil || x.truth(s) == nil })
}

// truth says whether a status knows which backend lives and which is gone.
func (x *subject) truth(s *v1alpha1.VirtualMCPServer) error {
	lives, err := verdict(s, x.name+"-lives")
	if err != nil {
		return err
	}
	dies, err := verdict(s, x.name+"-dies")
	if err != nil {
		return err
	}
	if s.Status.Phase != v1alpha1.PhaseDegraded || lives.Status != v1alpha1.BackendReady || dies.Status != v1alpha1.BackendUnavailable {
		return fmt.Errorf("phase is %s, %s is %s, %s is %s", s.Status.Phase, lives.Name, lives.Status, dies.Name, dies.Status)
	}
	return nil
}

// apiServers are the addresses at which pods reach the API server: that of its Service, and those behind it.
func apiServers(t *testing.T) []netip.AddrPort {
	t.Helper()
	var found []netip.AddrPort
	add := func(address string, port int32) {
		ip, err := netip.ParseAddr(address)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, netip.AddrPortFrom(ip, uint16(port)))
	}
	service := &corev1.Service{}
	if err := kubectl.GetJSON(t.Context(), service, "--namespace=default", "service", "kubernetes"); err != nil {
		t.Fatal(err)
	}
	for _, port := range service.Spec.Ports {
		add(service.Spec.ClusterIP, port.Port)
	}
	slices := &discoveryv1.EndpointSliceList{}
	if err := kubectl.GetJSON(t.Context(), slices, "--namespace=default", "endpointslices", "--selector="+discoveryv1.LabelServiceName+"=kubernetes"); err != nil {
		t.Fatal(err)
	}
	for _, slice := range slices.Items {
		for _, endpoint := range slice.Endpoints {
			for _, address := range endpoint.Addresses {
				for _, port := range slice.Ports {
					add(address, ptr.Deref(port.Port, 0))
				}
			}
		}
	}
	return found
}
