// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package status_test

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/kube/kubetest"
)

// olderCRD is the CRD of a VirtualMCPServer before some fields, a verdict and longer messages came to it.
func olderCRD(crd map[string]any) {
	if kind, _, _ := unstructured.NestedString(crd, "spec", "names", "kind"); kind != "VirtualMCPServer" {
		return
	}
	versions, _, _ := unstructured.NestedSlice(crd, "spec", "versions")
	for _, version := range versions {
		version, _ := version.(map[string]any)
		path := []string{"schema", "openAPIV3Schema", "properties", "status", "properties"}
		status, _, _ := unstructured.NestedMap(version, path...)
		unstructured.RemoveNestedField(status, "runtime", "properties", "version")
		unstructured.RemoveNestedField(status, "backends")
		backend := []string{"discoveredBackends", "items", "properties"}
		for _, field := range []string{"protocolVersion", "tools"} {
			unstructured.RemoveNestedField(status, append(backend, field)...)
		}
		_ = unstructured.SetNestedStringSlice(status, []string{"ready", "unavailable", "unknown"}, append(backend, "status", "enum")...)
		_ = unstructured.SetNestedField(status, float64(20), append(backend, "message", "maxLength")...)
		_ = unstructured.SetNestedField(status, float64(3), "discoveredBackends", "maxItems")
		_ = unstructured.SetNestedMap(version, status, path...)
	}
	_ = unstructured.SetNestedSlice(crd, versions, "spec", "versions")
}

func TestKubeReporter_LeavesOutWhatAnOlderCRDRefuses(t *testing.T) {
	s := newServerAt(t, kubetest.OwnServer(t, olderCRD))
	r := s.reporter(t, "pod-1")
	long := down("b")
	long.Verdict.Message = strings.Repeat("long ", 20)
	r.Report(report(ready("a"), long, slow("c"), ready("d")))
	s.expectPhase(t, v1alpha1.PhaseDegraded)
	got := s.get(t).Status
	if got.Runtime == nil || got.Runtime.Reporter != "pod-1" || got.Runtime.Version != "" || got.Catalog == nil || len(got.Conditions) != 3 || got.Backends != nil {
		t.Errorf("status is %+v", got)
	}
	if len(got.DiscoveredBackends) != 3 {
		t.Fatalf("%d backends are listed, want the first 3", len(got.DiscoveredBackends))
	}
	for i, want := range []struct {
		name    string
		status  v1alpha1.BackendStatus
		message string
	}{
		{"a", v1alpha1.BackendReady, "A cause."},
		{"b", v1alpha1.BackendUnavailable, ""},
		{"c", "", "A cause."},
	} {
		if b := got.DiscoveredBackends[i]; b.Name != want.name || b.Status != want.status || b.Message != want.message ||
			b.URL == "" || b.Reason == "" || b.Tools != nil || b.ProtocolVersion != "" {
			t.Errorf("entry %d is %+v, want %+v and what the CRD knows", i, b, want)
		}
	}

	// What is known to be refused is not sent again.
	<-r.accepted // which is after what it wrote is seen
	tries := r.writes.Load()
	r.Report(report(ready("a"), ready("b"), ready("d")))
	s.expectPhase(t, v1alpha1.PhaseReady)
	r.expectWrites(t, tries+1)
	consistently(t, 6*time.Second, func() string {
		if r.writes.Load() != tries+1 {
			return "the reporter goes on trying"
		}
		return ""
	})
}
