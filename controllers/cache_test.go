// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"testing"

	. "github.com/onsi/gomega"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// Of what belongs to others the cache keeps what the controllers ask for.
func TestCacheTrimsForeignObjects(t *testing.T) {
	t.Parallel()
	newService := func(labels map[string]string) *corev1.Service {
		return &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{
				Name: "docs", Namespace: "tools", Labels: labels,
				Annotations:   map[string]string{"example.com/note": "long"},
				ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubectl"}},
			},
			Spec: corev1.ServiceSpec{ClusterIP: "10.0.0.1", Ports: []corev1.ServicePort{{Port: 80}}},
		}
	}
	t.Run("foreign", func(t *testing.T) {
		t.Parallel()
		g := NewWithT(t)
		labels := map[string]string{"app": "docs"}
		trimmed, err := trimForeign(newService(labels))
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(trimmed).To(Equal(&corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: "docs", Namespace: "tools", Labels: labels},
			Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
		}))
	})
	t.Run("member of a group", func(t *testing.T) {
		t.Parallel()
		g := NewWithT(t)
		s := newService(map[string]string{v1alpha1.GroupLabel: "team"})
		s.Annotations[v1alpha1.PathAnnotation] = "/v1"
		s.Spec.Type = corev1.ServiceTypeExternalName
		trimmed, err := trimForeign(s)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(trimmed).To(Equal(&corev1.Service{
			ObjectMeta: metav1.ObjectMeta{
				Name: "docs", Namespace: "tools", Labels: map[string]string{v1alpha1.GroupLabel: "team"},
				Annotations: map[string]string{v1alpha1.PathAnnotation: "/v1"},
			},
			Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, Ports: []corev1.ServicePort{{Port: 80}}},
		}))
	})
	t.Run("MCPServer", func(t *testing.T) {
		t.Parallel()
		g := NewWithT(t)
		trimmed, err := trimMCPServer(&unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "mcp.x-k8s.io/v1alpha1", "kind": "MCPServer",
			"metadata": map[string]any{
				"name": "docs", "namespace": "tools", "labels": map[string]any{v1alpha1.GroupLabel: "team"},
				"annotations": map[string]any{"example.com/note": "long"},
			},
			"spec":   map[string]any{"source": map[string]any{"type": "ContainerImage"}, "config": map[string]any{"port": int64(80), "env": []any{}}},
			"status": map[string]any{"replicas": int64(1)},
		}})
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(trimmed).To(Equal(&unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "mcp.x-k8s.io/v1alpha1", "kind": "MCPServer",
			"metadata": map[string]any{"name": "docs", "namespace": "tools", "labels": map[string]any{v1alpha1.GroupLabel: "team"}},
			"spec":     map[string]any{"config": map[string]any{"port": int64(80)}},
		}}))
	})
	t.Run("ServiceAccount", func(t *testing.T) {
		t.Parallel()
		g := NewWithT(t)
		trimmed, err := trimForeign(&corev1.ServiceAccount{
			ObjectMeta: metav1.ObjectMeta{Name: "viewer"}, Secrets: []corev1.ObjectReference{{Name: "token"}},
		})
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(trimmed).To(Equal(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "viewer"}}))
	})
}
