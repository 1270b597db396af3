// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"testing"

	. "github.com/onsi/gomega"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
