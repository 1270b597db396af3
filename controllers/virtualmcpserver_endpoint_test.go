// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"testing"

	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/types"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// configuration is what the runtime of a VirtualMCPServer is to serve.
func (f *fixture) configuration(g Gomega, server string) *configv1alpha1.RuntimeConfiguration {
	m, err := get[corev1.ConfigMap](f, v1alpha1.OperandName(server))
	g.Expect(err).NotTo(HaveOccurred())
	c, err := configv1alpha1.Parse([]byte(m.Data[configv1alpha1.FileName]))
	g.Expect(err).NotTo(HaveOccurred())
	return c
}

// The endpoint is what the spec says, and what it was before once the spec says nothing any more.
func TestEndpoint(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(f.group("team"))
	s := f.server("gateway", "team")
	s.Spec.Endpoint = v1alpha1.Endpoint{
		PublicURL: "https://mcp.example.com/team",
		Service: v1alpha1.EndpointService{
			Type: corev1.ServiceTypeNodePort, Port: 8080,
			Annotations: map[string]v1alpha1.AnnotationValue{"example.com/pool": "internal"},
		},
	}
	f.create(s)
	expect := func(url string, kind corev1.ServiceType, port int32, annotations types.GomegaMatcher, hosts []string) {
		t.Helper()
		f.Eventually(func(g Gomega) {
			s, err := get[v1alpha1.VirtualMCPServer](f, "gateway")
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(s.Status.URL).To(Equal(url))
			objects := f.operand(g, "gateway")
			service := objects["Service"].(*corev1.Service)
			g.Expect(service.Spec.Type).To(Equal(kind))
			g.Expect(service.Spec.Ports).To(HaveLen(1))
			g.Expect(service.Spec.Ports[0].Port).To(Equal(port))
			g.Expect(service.Annotations).To(annotations)
			g.Expect(f.configuration(g, "gateway").AllowedHosts).To(Equal(hosts))
			g.Expect(f.configuration(g, "gateway").OwnURLs).To(ContainElement(url))
			for kind, o := range objects {
				if kind != "Service" {
					g.Expect(o.GetAnnotations()).NotTo(HaveKey("example.com/pool"), kind)
				}
			}
		}).Should(Succeed())
	}
	internal := []string{
		"vmcp-gateway", "vmcp-gateway." + f.namespace, "vmcp-gateway." + f.namespace + ".svc",
		"vmcp-gateway." + f.namespace + ".svc.cluster.local",
	}
	expect("https://mcp.example.com/team", corev1.ServiceTypeNodePort, 8080,
		HaveKeyWithValue("example.com/pool", "internal"), append(internal[:4:4], "mcp.example.com"))
	edit(f, "gateway", func(s *v1alpha1.VirtualMCPServer) {
		s.Spec.Endpoint.AllowedHosts = []v1alpha1.AllowedHost{"only.example.com"}
		s.Spec.Endpoint.AllowedOrigins = []v1alpha1.AllowedOrigin{"https://app.example.com"}
	})
	expect("https://mcp.example.com/team", corev1.ServiceTypeNodePort, 8080,
		HaveKeyWithValue("example.com/pool", "internal"), []string{"only.example.com"})
	f.Expect(f.configuration(f, "gateway").AllowedOrigins).To(Equal([]string{"https://app.example.com"}))
	edit(f, "gateway", func(s *v1alpha1.VirtualMCPServer) {
		s.Spec.Endpoint.PublicURL, s.Spec.Endpoint.AllowedHosts, s.Spec.Endpoint.AllowedOrigins = "", nil, nil
	})
	expect("http://vmcp-gateway."+f.namespace+".svc:8080/mcp", corev1.ServiceTypeNodePort, 8080,
		HaveKeyWithValue("example.com/pool", "internal"), internal)
	f.Expect(f.configuration(f, "gateway").AllowedOrigins).To(BeEmpty())
	edit(f, "gateway", func(s *v1alpha1.VirtualMCPServer) { s.Spec.Endpoint = v1alpha1.Endpoint{} })
	expect("http://vmcp-gateway."+f.namespace+".svc/mcp", corev1.ServiceTypeClusterIP, 80, BeEmpty(), internal)
}

// The number of pods is that of the spec, or whatever somebody else says, and never jumps when the choice changes hands.
func TestReplicas(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(f.group("team"))
	s := f.server("gateway", "team")
	s.Spec.Replicas = new(int32(3))
	f.create(s)
	replicas := f.replicas("vmcp-gateway")
	f.Eventually(replicas).Should(BeEquivalentTo(3))
	f.scale("vmcp-gateway", 1)
	f.Eventually(replicas).Should(BeEquivalentTo(3), "the spec has the last word")

	lowest := int32(3)
	edit(f, "gateway", func(s *v1alpha1.VirtualMCPServer) { s.Spec.Replicas = nil })
	f.Eventually(func(g Gomega) {
		lowest = min(lowest, replicas())
		s, err := get[v1alpha1.VirtualMCPServer](f, "gateway")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(f.configuration(g, "gateway").Generation).To(Equal(s.Generation))
	}).Should(Succeed())
	f.Consistently(replicas).Should(BeEquivalentTo(3), "nobody has chosen another number yet")
	f.Expect(lowest).To(BeEquivalentTo(3))
	f.scale("vmcp-gateway", 5)
	f.Consistently(replicas).Should(BeEquivalentTo(5), "the operator leaves the number alone")
	edit(f, "gateway", func(s *v1alpha1.VirtualMCPServer) { s.Spec.Replicas = new(int32(0)) })
	f.Eventually(replicas).Should(BeZero())
}

// An autoscaler takes the number of pods over as it is, and leaves it as it is when it goes.
func TestAutoscaling(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(f.group("team"))
	s := f.server("gateway", "team")
	s.Spec.Replicas = new(int32(3))
	f.create(s)
	replicas := f.replicas("vmcp-gateway")
	f.Eventually(replicas).Should(BeEquivalentTo(3))

	edit(f, "gateway", func(s *v1alpha1.VirtualMCPServer) {
		s.Spec.Replicas, s.Spec.Autoscaling = nil, &v1alpha1.Autoscaling{MinReplicas: new(int32(2)), MaxReplicas: 7}
	})
	f.Eventually(func(g Gomega) {
		a, err := get[autoscalingv2.HorizontalPodAutoscaler](f, "vmcp-gateway")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(metav1.IsControlledBy(a, s)).To(BeTrue())
		g.Expect(a.Spec.ScaleTargetRef).To(Equal(autoscalingv2.CrossVersionObjectReference{
			APIVersion: "apps/v1", Kind: "Deployment", Name: "vmcp-gateway"}))
		g.Expect(a.Spec.MinReplicas).To(HaveValue(BeEquivalentTo(2)))
		g.Expect(a.Spec.MaxReplicas).To(BeEquivalentTo(7))
		g.Expect(a.Spec.Metrics).To(HaveLen(1))
		g.Expect(a.Spec.Metrics[0].Resource.Target.AverageUtilization).To(HaveValue(BeEquivalentTo(80)))
	}).Should(Succeed())
	f.Consistently(replicas).Should(BeEquivalentTo(3))
	f.requests.forget()
	f.restart()
	f.Consistently(f.requests.writes).Should(BeEmpty())

	edit(f, "gateway", func(s *v1alpha1.VirtualMCPServer) { s.Spec.Autoscaling = nil })
	f.Eventually(func() bool {
		_, err := get[autoscalingv2.HorizontalPodAutoscaler](f, "vmcp-gateway")
		return apierrors.IsNotFound(err)
	}).Should(BeTrue())
	f.Consistently(replicas).Should(BeEquivalentTo(3))
}

// An autoscaler leaves a Deployment without pods alone: it gets its least number, whoever had chosen none. Later it is for others to
// switch it off in that way.
func TestAutoscalingOfNoPods(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(f.group("team"))
	for name, scaledByHand := range map[string]bool{"spec": false, "hand": true} {
		s := f.server(name, "team")
		if !scaledByHand {
			s.Spec.Replicas = new(int32(0))
		}
		f.create(s)
		f.eventually(name, haveCondition(v1alpha1.ConditionServiceReady, metav1.ConditionTrue, v1alpha1.ReasonAddressAssigned))
		replicas := func() int32 {
			d, err := get[appsv1.Deployment](f, "vmcp-"+name)
			f.Expect(err).NotTo(HaveOccurred())
			return *d.Spec.Replicas
		}
		scaleToZero := func() {
			edit(f, "vmcp-"+name, func(d *appsv1.Deployment) { d.Spec.Replicas = new(int32(0)) })
		}
		if scaledByHand {
			scaleToZero()
		}
		f.Expect(replicas()).To(BeZero())
		edit(f, name, func(s *v1alpha1.VirtualMCPServer) {
			s.Spec.Replicas, s.Spec.Autoscaling = nil, &v1alpha1.Autoscaling{MinReplicas: new(int32(2)), MaxReplicas: 7}
		})
		f.Eventually(replicas).Should(BeEquivalentTo(2), name)
		f.Eventually(func() error {
			return f.manager.GetCache().Get(f.ctx, f.requestFor("vmcp-"+name).NamespacedName, &autoscalingv2.HorizontalPodAutoscaler{})
		}).Should(Succeed())
		scaleToZero()
		f.Consistently(replicas).Should(BeZero(), name)
	}
}
