// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"slices"
	"testing"

	. "github.com/onsi/gomega"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/controllers"
)

func TestProvisioning(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.server("gateway", "team")
	f.create(f.group("team"), s)

	status := f.eventually("gateway",
		haveCondition(v1alpha1.ConditionGroupRefValid, metav1.ConditionTrue, v1alpha1.ReasonGroupFound),
		haveCondition(v1alpha1.ConditionOperandRendered, metav1.ConditionTrue, v1alpha1.ReasonRendered),
		haveCondition(v1alpha1.ConditionRBACReady, metav1.ConditionTrue, v1alpha1.ReasonApplied),
		haveCondition(v1alpha1.ConditionConfigReady, metav1.ConditionTrue, v1alpha1.ReasonApplied),
		haveCondition(v1alpha1.ConditionDeploymentReady, metav1.ConditionFalse, v1alpha1.ReasonProgressing),
		haveCondition(v1alpha1.ConditionServiceReady, metav1.ConditionTrue, v1alpha1.ReasonAddressAssigned),
		lackCondition(v1alpha1.ConditionStalled),
	).Status
	f.Expect(status.URL).To(Equal("http://vmcp-gateway." + f.namespace + ".svc/mcp"))
	f.Expect(status.Phase).To(Equal(v1alpha1.PhasePending), "nobody has reported yet")
	f.Expect(status.ObservedGeneration).To(BeZero(), "no pod serves the generation yet")

	objects := f.operand(f, "gateway")
	for kind, o := range objects {
		f.Expect(metav1.IsControlledBy(o, s)).To(BeTrue(), kind)
		f.Expect(o.GetLabels()).To(HaveKeyWithValue(v1alpha1.VirtualMCPServerLabel, "gateway"), kind)
	}
	configuration, err := configv1alpha1.Parse([]byte(objects["ConfigMap"].(*corev1.ConfigMap).Data[configv1alpha1.FileName]))
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(configuration.Group).To(Equal("team"))
	f.Expect(configuration.Generation).To(Equal(s.Generation))
	container := objects["Deployment"].(*appsv1.Deployment).Spec.Template.Spec.Containers[0]
	f.Expect(container.Image).To(Equal(runtimeImage))
	f.Expect(container.Env).To(ContainElements(
		corev1.EnvVar{Name: "VMCP_NAME", Value: "gateway"},
		corev1.EnvVar{Name: "VMCP_NAMESPACE", Value: f.namespace},
		corev1.EnvVar{Name: "NO_PROXY", Value: ".svc"},
	))
	f.Expect(objects["Lease"].(*coordinationv1.Lease).Spec.HolderIdentity).To(BeNil())

	// The runtime's word alone is not enough, nor is the Deployment's.
	f.report(s, s.Generation)
	f.Consistently(func() int64 {
		s, err := get[v1alpha1.VirtualMCPServer](f, "gateway")
		f.Expect(err).NotTo(HaveOccurred())
		return s.Status.ObservedGeneration
	}).Should(BeZero())
	f.rollOut("vmcp-gateway")
	s = f.eventually("gateway", haveCondition(v1alpha1.ConditionDeploymentReady, metav1.ConditionTrue, v1alpha1.ReasonAvailable))
	f.Expect(s.Status.ObservedGeneration).To(Equal(s.Generation))
	// A cache that lags behind on a busy machine costs refused attempts, which are not what this is about.
	requests := slices.DeleteFunc(f.requests.of(controllers.VirtualMCPServerController), func(r request) bool { return r.conflict })
	f.Expect(len(requests)).To(BeNumerically("<=", 14), "requests for one VirtualMCPServer: %v", requests)
}

// A change of the spec that concerns the configuration alone changes no pod.
func TestConfigurationChangeRestartsNoPod(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(f.group("team"))
	f.converge("gateway")
	before, err := get[appsv1.Deployment](f, "vmcp-gateway")
	f.Expect(err).NotTo(HaveOccurred())

	s, err := get[v1alpha1.VirtualMCPServer](f, "gateway")
	f.Expect(err).NotTo(HaveOccurred())
	base := s.DeepCopy()
	s.Spec.Aggregation.ConflictResolution.PrefixFormat = "{backend}."
	f.Expect(admin.Patch(f.ctx, s, client.MergeFrom(base))).To(Succeed())

	f.Eventually(func(g Gomega) {
		m, err := get[corev1.ConfigMap](f, "vmcp-gateway")
		g.Expect(err).NotTo(HaveOccurred())
		c, err := configv1alpha1.Parse([]byte(m.Data[configv1alpha1.FileName]))
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(c.Generation).To(Equal(s.Generation))
		g.Expect(c.Aggregation.ConflictResolution.PrefixFormat).To(Equal("{backend}."))
	}).Should(Succeed())
	f.Consistently(func(g Gomega) {
		s, err := get[v1alpha1.VirtualMCPServer](f, "gateway")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(s.Status.ObservedGeneration).To(Equal(s.Generation-1), "the runtime does not serve it yet")
	}).Should(Succeed())
	f.report(s, s.Generation)
	f.Eventually(func(g Gomega) {
		s, err := get[v1alpha1.VirtualMCPServer](f, "gateway")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(s.Status.ObservedGeneration).To(Equal(s.Generation))
	}).Should(Succeed())
	after, err := get[appsv1.Deployment](f, "vmcp-gateway")
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(after.ResourceVersion).To(Equal(before.ResourceVersion))
}

func TestUnknownGroup(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.server("gateway", "missing")
	f.create(s)

	s = f.eventually("gateway",
		haveCondition(v1alpha1.ConditionGroupRefValid, metav1.ConditionFalse, v1alpha1.ReasonGroupNotFound),
		haveCondition(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonGroupNotFound),
		haveCondition(v1alpha1.ConditionDeploymentReady, metav1.ConditionFalse, v1alpha1.ReasonBlocked),
	)
	f.Expect(s.Status.ObservedGeneration).To(Equal(s.Generation), "the verdict on the generation is the operator's own")
	f.Consistently(func(g Gomega) {
		for kind, o := range operandKinds() {
			key := client.ObjectKey{Namespace: f.namespace, Name: nameOf(kind, "gateway")}
			g.Expect(client.IgnoreNotFound(admin.Get(f.ctx, key, o))).To(Succeed())
			g.Expect(o.GetUID()).To(BeEmpty(), "%s was created", kind)
		}
	}).Should(Succeed())

	f.create(f.group("missing"))
	f.eventually("gateway",
		haveCondition(v1alpha1.ConditionGroupRefValid, metav1.ConditionTrue, v1alpha1.ReasonGroupFound),
		lackCondition(v1alpha1.ConditionStalled),
	)
	f.Eventually(func(g Gomega) { f.operand(g, "gateway") }).Should(Succeed())
}

// A group that is deleted stops nothing that runs.
func TestDeletedGroupKeepsWhatRuns(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(f.group("team"))
	f.converge("gateway")
	before := f.operand(f, "gateway")

	f.Expect(admin.Delete(f.ctx, f.group("team"))).To(Succeed())
	f.eventually("gateway",
		haveCondition(v1alpha1.ConditionGroupRefValid, metav1.ConditionFalse, v1alpha1.ReasonGroupNotFound),
		haveCondition(v1alpha1.ConditionDeploymentReady, metav1.ConditionTrue, v1alpha1.ReasonAvailable),
		haveCondition(v1alpha1.ConditionServiceReady, metav1.ConditionTrue, v1alpha1.ReasonAddressAssigned),
	)
	for kind, o := range f.operand(f, "gateway") {
		f.Expect(o.GetResourceVersion()).To(Equal(before[kind].GetResourceVersion()), kind)
	}
}

// In dynamic mode the controller makes no request and no cache read for backends, auth configs or Secrets, whatever happens to them.
func TestVirtualMCPServerControllerNeverLooksAtBackends(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(f.group("team"))
	f.converge("gateway")
	f.create(
		f.backend("grafana", remote("https://mcp.example.com/mcp")),
		&corev1.Secret{ObjectMeta: f.meta("token")},
		&v1alpha1.MCPExternalAuthConfig{ObjectMeta: f.meta("token"), Spec: v1alpha1.MCPExternalAuthConfigSpec{
			Type: "headerInjection", HeaderInjection: &v1alpha1.HeaderInjection{
				HeaderName: "Authorization", SecretRef: v1alpha1.SecretKeyReference{Name: "token", Key: "token"},
			},
		}},
	)
	f.eventuallyBackend("grafana", haveCondition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonNothingToProvision))

	forbidden := Or(ContainSubstring("mcpbackends"), ContainSubstring("mcpexternalauthconfigs"), ContainSubstring("secrets"))
	mine := f.requests.of(controllers.VirtualMCPServerController)
	f.Expect(mine).NotTo(BeEmpty())
	for _, r := range mine {
		f.Expect(r.path).NotTo(forbidden)
	}

	c, err := controllers.NewClient(f.manager, controllers.VirtualMCPServerController)
	f.Expect(err).NotTo(HaveOccurred())
	reads := &readRecorder{Client: c.Client}
	r := &controllers.VirtualMCPServerReconciler{Client: controllers.Client{Client: reads, Live: reads.alsoLive(c.Live)}, RuntimeImage: runtimeImage}
	_, err = r.Reconcile(f.ctx, f.requestFor("gateway"))
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(reads.kinds).To(ContainElements("VirtualMCPServer", "MCPGroup", "Deployment"))
	f.Expect(reads.kinds).NotTo(ContainElement(Or(
		HavePrefix("MCPBackend"), HavePrefix("MCPExternalAuthConfig"), HavePrefix("Secret"),
		And(HaveSuffix("List"), Not(Equal("RoleBindingList"))))))
}

// alsoLive is a reader of the API server that keeps the kinds, too.
func (r *readRecorder) alsoLive(live client.Reader) client.Reader {
	return liveRecorder{live, r}
}

type liveRecorder struct {
	client.Reader
	*readRecorder
}

func (r liveRecorder) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	r.kinds = append(r.kinds, kindName(o))
	return r.Reader.Get(ctx, key, o, opts...)
}

func (r liveRecorder) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	r.kinds = append(r.kinds, kindName(list))
	return r.Reader.List(ctx, list, opts...)
}

// readRecorder keeps the kinds that are read through a client.
type readRecorder struct {
	client.Client
	kinds []string
}

func (r *readRecorder) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	r.kinds = append(r.kinds, kindName(o))
	return r.Client.Get(ctx, key, o, opts...)
}

func (r *readRecorder) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	r.kinds = append(r.kinds, kindName(list))
	return r.Client.List(ctx, list, opts...)
}
