// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package runtime_test

import (
	"context"
	"net/http"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime"
	"github.com/vmcp-dev/vmcp-operator/runtime/kube/kubetest"
)

// A container that is started again in a pod of dynamic mode, after the switch to static mode, finds the configuration of static mode. It
// lives and waits, reports nothing and leaves the Lease to others; when the mode is switched back it serves.
func TestCluster_HoldsWhileTheConfigurationIsForOtherPods(t *testing.T) {
	inline := configv1alpha1.RuntimeConfiguration{
		Generation: 2, Group: "team", Source: v1alpha1.OutgoingAuthSourceInline, Backends: []configv1alpha1.Backend{},
	}
	o := provision(t, inline)
	alpha := startMCPServer(t, "echo")
	o.createBackend(t, "alpha", "team", alpha)
	l := listenLoopback(t)
	admin := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	type outcome struct {
		options runtime.Options
		err     error
	}
	held := func(ctx context.Context) <-chan outcome {
		done := make(chan outcome, 1)
		go func() {
			options, err := runtime.Cluster(ctx, runtime.ClusterOptions{
				API: o.api, Name: o.name, Namespace: o.namespace, PodName: "pod-1", ConfigFile: o.file, Version: "v1", AdminListen: admin,
				Source: v1alpha1.OutgoingAuthSourceDiscovered, Logger: kubetest.Logger(t),
			})
			done <- outcome{options, err}
		}()
		return done
	}
	probes := &started{admin: "http://" + admin, http: &http.Client{Transport: &http.Transport{}}}
	defer probes.http.CloseIdleConnections()
	expectHeld := func() {
		t.Helper()
		eventually(t, soon, func() string {
			if code, body := probes.get(t, "/livez"); code != http.StatusOK {
				return "/livez: " + body
			}
			return ""
		})
		if code, _ := probes.get(t, "/readyz"); code != http.StatusServiceUnavailable {
			t.Errorf("/readyz is %d, want 503", code)
		}
	}

	// A pod that is told to stop does.
	first := held(ctx)
	expectHeld()
	cancel()
	if ended := <-first; ended.err == nil {
		t.Fatal("it goes on although nothing is its own")
	}

	second := held(t.Context())
	expectHeld()
	inline.Generation = 3
	o.configure(t, marshal(t, inline))
	o.configure(t, marshal(t, configv1alpha1.RuntimeConfiguration{Generation: 1, Group: "nobody"}))
	expectHeld()
	select {
	case <-second:
		t.Fatal("it goes on with a configuration of the other source, or an old one")
	default:
	}
	o.expect(t, func(s *v1alpha1.VirtualMCPServerStatus) string {
		if s.Phase != "" || s.Runtime != nil {
			return "something was reported"
		}
		return ""
	})
	lease := &coordinationv1.Lease{}
	if err := o.Get(t.Context(), client.ObjectKey{Namespace: o.namespace, Name: v1alpha1.OperandName(o.name)}, lease); err != nil {
		t.Fatal(err)
	}
	if lease.Spec.HolderIdentity != nil {
		t.Errorf("the Lease is held by %s", *lease.Spec.HolderIdentity)
	}

	o.configure(t, marshal(t, configv1alpha1.RuntimeConfiguration{Generation: 4, Group: "team"}))
	own := <-second
	if own.err != nil {
		t.Fatal(own.err)
	}
	r := start(t, own.options)
	if s := o.expectPhase(t, v1alpha1.PhaseReady); s.Runtime.ObservedGeneration != 4 {
		t.Errorf("generation %d is reported, want 4", s.Runtime.ObservedGeneration)
	}
	session, _ := r.connect(t)
	expectTools(t, session, soon, "alpha_echo")
}
