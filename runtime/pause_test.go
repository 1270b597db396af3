// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package runtime_test

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/client"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	vmcpac "github.com/vmcp-dev/vmcp-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/kube/kubetest"
)

// history are the states of a VirtualMCPServer, none left out.
type history struct {
	mu     sync.Mutex
	states []v1alpha1.VirtualMCPServer
}

// record follows the VirtualMCPServer from its present state on.
func (o *operand) record(t *testing.T) *history {
	t.Helper()
	h := &history{}
	// The test's own context ends before what it started does.
	watching, err := kubetest.Clients(t, o.namespace, o.name).VirtualMCPServers.Watch(context.WithoutCancel(t.Context()), metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("metadata.name", o.name).String(),
	})
	if err != nil {
		t.Fatal(err)
	}
	kubetest.Start(t, func(ctx context.Context) {
		defer watching.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case event, open := <-watching.ResultChan():
				if !open {
					t.Error("the watch ended")
					return
				}
				if object, is := event.Object.(*v1alpha1.VirtualMCPServer); is {
					h.mu.Lock()
					h.states = append(h.states, *object)
					h.mu.Unlock()
				}
			}
		}
	})
	return h
}

func (h *history) all() []v1alpha1.VirtualMCPServer {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.states)
}

func (o *operand) lease(t *testing.T) *coordinationv1.Lease {
	t.Helper()
	lease := &coordinationv1.Lease{}
	if err := o.Get(t.Context(), client.ObjectKey{Namespace: o.namespace, Name: v1alpha1.OperandName(o.name)}, lease); err != nil {
		t.Fatal(err)
	}
	return lease
}

// takeOver writes what the operator does when a runtime stopped reporting.
func (o *operand) takeOver(t *testing.T) metav1.Time {
	t.Helper()
	now := metav1.NewTime(time.Now()).Rfc3339Copy()
	status := vmcpac.VirtualMCPServerStatus().WithPhase(v1alpha1.PhaseUnknown).WithMessage("The runtime stopped reporting.").
		WithBackends(vmcpac.BackendsSummary().WithReady(0))
	object := &v1alpha1.VirtualMCPServer{}
	if err := o.Get(t.Context(), client.ObjectKey{Namespace: o.namespace, Name: o.name}, object); err != nil {
		t.Fatal(err)
	}
	for i := range object.Status.DiscoveredBackends {
		b := &object.Status.DiscoveredBackends[i]
		status.WithDiscoveredBackends(vmcpac.DiscoveredBackend().WithKind(b.Kind).WithName(b.Name).
			WithStatus(v1alpha1.BackendUnknown).WithReason(v1alpha1.ReasonNoReport).WithLastTransitionTime(now))
	}
	_, err := kubetest.Clients(t, o.namespace, o.name).VirtualMCPServers.ApplyStatus(t.Context(),
		vmcpac.VirtualMCPServer(o.name, o.namespace).WithStatus(status), metav1.ApplyOptions{FieldManager: v1alpha1.OperatorFieldManager, Force: true})
	if err != nil {
		t.Fatal(err)
	}
	return now
}

func statusesOf(s *v1alpha1.VirtualMCPServerStatus) map[string]v1alpha1.BackendStatus {
	all := map[string]v1alpha1.BackendStatus{}
	for i := range s.DiscoveredBackends {
		all[s.DiscoveredBackends[i].Name] = s.DiscoveredBackends[i].Status
	}
	return all
}

// A process that was frozen for longer than its Lease lasts comes back with nothing but the truth.
func TestProcess_FrozenForLongerThanItsLease(t *testing.T) {
	alpha, beta := startMCPServer(t, "echo"), startMCPServer(t, "echo")
	o := provision(t, configv1alpha1.RuntimeConfiguration{Generation: 1, Group: "team"})
	o.createBackend(t, "alpha", "team", alpha)
	o.createBackend(t, "beta", "team", beta)
	p := o.startProcess(t, "pod-1")
	o.expectPhase(t, v1alpha1.PhaseReady)
	session, _ := p.connect(t)
	expectTools(t, session, soon, "alpha_echo", "beta_echo")

	p.signal(t, syscall.SIGSTOP)
	beta.stop()
	renewed := o.lease(t).Spec.RenewTime
	kubetest.Eventually(t, func() string {
		if time.Since(renewed.Time) < quickLease.Duration+time.Second {
			return "the Lease has not expired"
		}
		return ""
	})
	unknownSince := o.takeOver(t)
	h := o.record(t)
	thawed := time.Now()
	p.signal(t, syscall.SIGCONT)

	o.expectPhase(t, v1alpha1.PhaseDegraded)
	back := time.Since(thawed)
	t.Logf("back %s after the thaw", back.Round(10*time.Millisecond))
	expectTools(t, session, soon, "alpha_echo")
	kubetest.Eventually(t, func() string {
		if states := h.all(); states[len(states)-1].Status.Phase != v1alpha1.PhaseDegraded {
			return "the watch lags behind"
		}
		return ""
	})
	reported := false
	for _, state := range h.all() {
		if state.Status.Phase == v1alpha1.PhaseUnknown {
			continue
		}
		reported = true
		all := statusesOf(&state.Status)
		if state.Status.Phase != v1alpha1.PhaseDegraded || all["alpha"] != v1alpha1.BackendReady || all["beta"] != v1alpha1.BackendUnavailable {
			t.Errorf("after the thaw was reported: %s, %v", state.Status.Phase, all)
		}
		for i := range state.Status.DiscoveredBackends {
			if b := &state.Status.DiscoveredBackends[i]; b.LastTransitionTime.Before(&unknownSince) {
				t.Errorf("%s was unknown at %s, and is said to be %s since %s", b.Name, unknownSince, b.Status, b.LastTransitionTime)
			}
		}
	}
	if !reported {
		t.Error("nothing was recorded")
	}
	if at := o.lease(t).Spec.RenewTime; at.Time.Before(thawed) {
		t.Error("the status was reported without a renewal of the Lease")
	}
}

// A freeze of which nobody else notices anything must cost neither tools nor writes.
func TestProcess_FrozenForAMomentChangesNothing(t *testing.T) {
	alpha := startMCPServer(t, "echo")
	o := provision(t, configv1alpha1.RuntimeConfiguration{Generation: 1, Group: "team"})
	o.createBackend(t, "alpha", "team", alpha)
	p := o.startProcess(t, "pod-1")
	o.expectPhase(t, v1alpha1.PhaseReady)
	session, changed := p.connect(t)
	expectTools(t, session, soon, "alpha_echo")
	h := o.record(t)

	p.signal(t, syscall.SIGSTOP)
	frozen := time.Now()
	renewed := o.lease(t).Spec.RenewTime
	kubetest.Eventually(t, func() string {
		if time.Since(frozen) < 6*time.Second {
			return "the pause is too short to be noticed"
		}
		return ""
	})
	p.signal(t, syscall.SIGCONT)
	for range 20 {
		list, err := session.ListTools(t.Context(), nil)
		if err != nil || len(list.Tools) != 1 {
			t.Fatalf("tools after the thaw are %v, %v", list, err)
		}
	}
	eventually(t, soon, func() string {
		if at := o.lease(t).Spec.RenewTime; !at.After(renewed.Time) {
			return "the Lease was not renewed after the thaw"
		}
		return ""
	})
	// The next change is reported, so that what came before it is known.
	alpha.stop()
	o.expectPhase(t, v1alpha1.PhaseFailed)
	expectTools(t, session, soon)
	eventually(t, soon, func() string {
		if states := h.all(); states[len(states)-1].Status.Phase != v1alpha1.PhaseFailed {
			return "the watch lags behind"
		}
		return ""
	})
	for _, state := range h.all() {
		if s := statusesOf(&state.Status)["alpha"]; s == v1alpha1.BackendUnknown {
			t.Errorf("the pause was reported: %s", state.Status.Message)
		}
	}
	announced := 0
	for len(changed) > 0 {
		<-changed
		announced++
	}
	if announced > 1 {
		t.Errorf("%d changes of the tools were announced, want the one at the end", announced)
	}
}

// A rollout hands over within moments, and nobody who looks at the status sees more of it than the name of the pod.
func TestProcess_HandsOverWithoutAFlicker(t *testing.T) {
	alpha, beta := startMCPServer(t, "echo"), startMCPServer(t, "echo")
	beta.stop()
	o := provision(t, configv1alpha1.RuntimeConfiguration{Generation: 1, Group: "team"})
	o.createBackend(t, "alpha", "team", alpha)
	o.createBackend(t, "beta", "team", beta)
	first := o.startProcess(t, "pod-1")
	before := o.expectPhase(t, v1alpha1.PhaseDegraded).DeepCopy()
	second := o.startProcess(t, "pod-2")
	eventually(t, soon, func() string {
		if code, body := second.get(t, "/readyz"); code != http.StatusOK {
			return "/readyz of the second pod answers " + body
		}
		return ""
	})
	h := o.record(t)
	asked := time.Now()
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	after := o.expect(t, func(s *v1alpha1.VirtualMCPServerStatus) string {
		if s.Runtime.Reporter != "pod-2" {
			return "the reporter is " + s.Runtime.Reporter
		}
		return ""
	})
	t.Logf("handed over in %s", time.Since(asked).Round(10*time.Millisecond))
	for _, state := range h.all() {
		if s := &state.Status; s.Phase != before.Phase || s.Message != before.Message {
			t.Errorf("phase was %s (%s) in the meantime", s.Phase, s.Message)
		}
	}
	for i := range before.DiscoveredBackends {
		a, b := before.DiscoveredBackends[i], after.DiscoveredBackends[i]
		if a.Status != b.Status || a.Reason != b.Reason || !a.LastTransitionTime.Equal(&b.LastTransitionTime) {
			t.Errorf("an entry was %+v and is %+v", a, b)
		}
	}
}
