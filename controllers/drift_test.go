// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"testing"

	. "github.com/onsi/gomega"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

func TestDriftIsRepaired(t *testing.T) {
	t.Parallel()
	key := "vmcp-gateway"
	for name, c := range map[string]struct {
		drift  func(f *fixture)
		mended func(g Gomega, f *fixture)
	}{
		"image edited": {
			func(f *fixture) {
				edit(f, key, func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "evil" })
			},
			func(g Gomega, f *fixture) {
				d, err := get[appsv1.Deployment](f, key)
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(d.Spec.Template.Spec.Containers[0].Image).To(Equal(runtimeImage))
			},
		},
		"environment variable removed": {
			func(f *fixture) {
				edit(f, key, func(d *appsv1.Deployment) {
					c := &d.Spec.Template.Spec.Containers[0]
					c.Env = c.Env[1:]
				})
			},
			func(g Gomega, f *fixture) {
				d, err := get[appsv1.Deployment](f, key)
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(d.Spec.Template.Spec.Containers[0].Env).To(ContainElement(corev1.EnvVar{Name: "VMCP_NAME", Value: "gateway"}))
			},
		},
		"our label removed, so that the cache loses sight": {
			func(f *fixture) {
				edit(f, key, func(d *appsv1.Deployment) { delete(d.Labels, v1alpha1.ManagedByLabel) })
			},
			func(g Gomega, f *fixture) {
				d, err := get[appsv1.Deployment](f, key)
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(d.Labels).To(HaveKeyWithValue(v1alpha1.ManagedByLabel, v1alpha1.ManagedByValue))
			},
		},
		"rights widened": {
			func(f *fixture) {
				edit(f, key, func(r *rbacv1.Role) {
					r.Rules = append(r.Rules, rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"get"}})
				})
			},
			func(g Gomega, f *fixture) {
				r, err := get[rbacv1.Role](f, key)
				g.Expect(err).NotTo(HaveOccurred())
				for _, rule := range r.Rules {
					g.Expect(rule.Resources).NotTo(ContainElement("secrets"))
				}
			},
		},
		"configuration edited": {
			func(f *fixture) {
				edit(f, key, func(m *corev1.ConfigMap) { m.Data[configv1alpha1.FileName] = "group: other" })
			},
			func(g Gomega, f *fixture) {
				m, err := get[corev1.ConfigMap](f, key)
				g.Expect(err).NotTo(HaveOccurred())
				_, err = configv1alpha1.Parse([]byte(m.Data[configv1alpha1.FileName]))
				g.Expect(err).NotTo(HaveOccurred())
			},
		},
		"Service deleted": {
			func(f *fixture) {
				s, err := get[corev1.Service](f, key)
				f.Expect(err).NotTo(HaveOccurred())
				f.Expect(admin.Delete(f.ctx, s)).To(Succeed())
			},
			func(g Gomega, f *fixture) { f.operand(g, "gateway") },
		},
		"Service of the pods deleted": {
			func(f *fixture) {
				s, err := get[corev1.Service](f, v1alpha1.PeersServiceName("gateway"))
				f.Expect(err).NotTo(HaveOccurred())
				f.Expect(admin.Delete(f.ctx, s)).To(Succeed())
			},
			func(g Gomega, f *fixture) { f.operand(g, "gateway") },
		},
		"Service of the pods without those that start or end": {
			func(f *fixture) {
				edit(f, v1alpha1.PeersServiceName("gateway"), func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = false })
			},
			func(g Gomega, f *fixture) {
				s, err := get[corev1.Service](f, v1alpha1.PeersServiceName("gateway"))
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(s.Spec.PublishNotReadyAddresses).To(BeTrue())
			},
		},
		"Lease relabelled": {
			func(f *fixture) {
				edit(f, key, func(l *coordinationv1.Lease) { l.Labels[v1alpha1.VirtualMCPServerLabel] = "other" })
			},
			func(g Gomega, f *fixture) {
				l, err := get[coordinationv1.Lease](f, key)
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(l.Labels).To(HaveKeyWithValue(v1alpha1.VirtualMCPServerLabel, "gateway"))
			},
		},
		"Lease deleted": {
			func(f *fixture) {
				l, err := get[coordinationv1.Lease](f, key)
				f.Expect(err).NotTo(HaveOccurred())
				f.Expect(admin.Delete(f.ctx, l)).To(Succeed())
			},
			func(g Gomega, f *fixture) { f.operand(g, "gateway") },
		},
		"status edited": {
			func(f *fixture) {
				f.Eventually(func(g Gomega) {
					s, err := get[v1alpha1.VirtualMCPServer](f, "gateway")
					g.Expect(err).NotTo(HaveOccurred())
					s.Status.URL = "http://evil.example.com"
					g.Expect(admin.Status().Update(f.ctx, s)).To(Succeed())
				}).Should(Succeed())
			},
			func(g Gomega, f *fixture) {
				s, err := get[v1alpha1.VirtualMCPServer](f, "gateway")
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(s.Status.URL).To(Equal(s.URL()))
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.create(f.group("team"))
			f.converge("gateway")
			c.drift(f)
			f.Eventually(func(g Gomega) { c.mended(g, f) }).Should(Succeed())
		})
	}
}

// What others add beside our fields stays: a sidecar injector or a person's annotation is no drift.
func TestForeignFieldsAreNoDrift(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(f.group("team"))
	f.converge("gateway")
	edit(f, "vmcp-gateway", func(d *appsv1.Deployment) {
		d.Annotations = map[string]string{"example.com/team": "platform"}
		pod := &d.Spec.Template.Spec
		pod.Containers = append([]corev1.Container{{Name: "sidecar", Image: "sidecar"}}, pod.Containers...)
	})
	d, err := get[appsv1.Deployment](f, "vmcp-gateway")
	f.Expect(err).NotTo(HaveOccurred())
	f.Consistently(func(g Gomega) {
		again, err := get[appsv1.Deployment](f, "vmcp-gateway")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(again.ResourceVersion).To(Equal(d.ResourceVersion))
	}).Should(Succeed())
}
