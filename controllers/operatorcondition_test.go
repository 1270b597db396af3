// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/types"
	apiv2 "github.com/operator-framework/api/pkg/operators/v2"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/controllers"
	"github.com/vmcp-dev/vmcp-operator/internal/olm/olmtest"
)

// Versions of the operator, by the names of their ClusterServiceVersions, and the runtimes that they bring.
const (
	oldVersion, oldRuntime = "vmcp-operator.v0.1.0", "registry.example.com/vmcp-runtime:v0.1.0"
	newVersion, newRuntime = "vmcp-operator.v0.2.0", "registry.example.com/vmcp-runtime:v0.2.0"
)

// olmFixture is a fixture whose operator was installed by OLM in a namespace that it does not watch.
type olmFixture struct {
	*fixture
	home string
	olm  client.WithWatch
}

func newOLMFixture(t *testing.T) *olmFixture {
	t.Helper()
	f := &olmFixture{fixture: newNamespace(t), home: newNamespace(t).namespace}
	scheme := runtime.NewScheme()
	f.Expect(apiv2.AddToScheme(scheme)).To(Succeed())
	var err error
	f.olm, err = client.NewWithWatch(adminConfig, client.Options{Scheme: scheme})
	f.Expect(err).NotTo(HaveOccurred())
	f.create(f.group("team"))
	return f
}

// install does what OLM does for a version of the operator: its OperatorCondition, and the right to write that one and no other.
func (f *olmFixture) install(version string) {
	f.t.Helper()
	meta := metav1.ObjectMeta{Namespace: f.home, Name: version}
	f.Expect(f.olm.Create(f.ctx, &apiv2.OperatorCondition{
		ObjectMeta: meta, Spec: apiv2.OperatorConditionSpec{Deployments: []string{"vmcp-operator"}},
	})).To(Succeed())
	f.create(
		&rbacv1.Role{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{{
			APIGroups: []string{apiv2.GroupVersion.Group}, Resources: []string{"operatorconditions"}, ResourceNames: []string{version},
			Verbs: []string{"get", "update", "patch"},
		}}},
		&rbacv1.RoleBinding{
			ObjectMeta: meta,
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: version},
			Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "vmcp-operator"}},
		},
	)
}

// run starts a version of the operator.
func (f *olmFixture) run(version, runtimeImage string) {
	f.t.Helper()
	f.startWith(func(mgr ctrl.Manager) error {
		return controllers.Setup(f.ctx, mgr, controllers.Settings{
			RuntimeImage: runtimeImage,
			OLM: &controllers.OLMSettings{
				NewFactory: olmtest.At(client.ObjectKey{Namespace: f.home, Name: version}),
				Interval:   100 * time.Millisecond,
			},
		})
	})
}

func (f *olmFixture) conditions(g Gomega, version string) []metav1.Condition {
	o := &apiv2.OperatorCondition{}
	g.Expect(f.olm.Get(f.ctx, client.ObjectKey{Namespace: f.home, Name: version}, o)).To(Succeed())
	return o.Spec.Conditions
}

// eventuallySays waits until a version of the operator says something of a type.
func (f *olmFixture) eventuallySays(version, conditionType string, status metav1.ConditionStatus, reason string, message types.GomegaMatcher) {
	f.t.Helper()
	f.Eventually(func(g Gomega) {
		said := f.conditions(g, version)
		g.Expect(said).To(haveCondition(conditionType, status, reason))
		g.Expect(meta.FindStatusCondition(said, conditionType).Message).To(message)
	}).Should(Succeed())
}

// upgradeables follows what a version says about Upgradeable, until the test ends.
func (f *olmFixture) upgradeables(version string) func() []string {
	f.t.Helper()
	w, err := f.olm.Watch(f.ctx, &apiv2.OperatorConditionList{}, client.InNamespace(f.home), client.MatchingFields{"metadata.name": version})
	f.Expect(err).NotTo(HaveOccurred())
	var mu sync.Mutex
	var seen []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e := range w.ResultChan() {
			o, ok := e.Object.(*apiv2.OperatorCondition)
			if !ok {
				continue
			}
			c := meta.FindStatusCondition(o.Spec.Conditions, apiv2.Upgradeable)
			if c == nil {
				continue
			}
			mu.Lock()
			if said := string(c.Status) + "/" + c.Reason; len(seen) == 0 || seen[len(seen)-1] != said {
				seen = append(seen, said)
			}
			mu.Unlock()
		}
	}()
	f.t.Cleanup(func() { w.Stop(); <-done })
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string(nil), seen...)
	}
}

// spoken are the requests with which the operator spoke to OLM.
func (f *olmFixture) spoken() []request {
	return f.requests.of(controllers.OperatorConditionController)
}

// written are those of them that changed something.
func (f *olmFixture) written() []request {
	var writes []request
	for _, r := range f.spoken() {
		if r.write() {
			writes = append(writes, r)
		}
	}
	return writes
}

func (f *olmFixture) image(g Gomega, server string) string {
	d, err := get[appsv1.Deployment](f.fixture, v1alpha1.OperandName(server))
	g.Expect(err).NotTo(HaveOccurred())
	return d.Spec.Template.Spec.Containers[0].Image
}

// upgraded has a gateway that the old version rolled out, and is where the new one has begun to replace its pods.
func (f *olmFixture) upgraded(beforeUpgrade func()) {
	f.t.Helper()
	f.install(oldVersion)
	f.run(oldVersion, oldRuntime)
	f.converge("gateway")
	f.eventuallySays(oldVersion, apiv2.Upgradeable, metav1.ConditionTrue, "RolledOut", Not(BeEmpty()))
	f.stop()
	if beforeUpgrade != nil {
		beforeUpgrade()
	}
	f.install(newVersion)
	f.run(newVersion, newRuntime)
	f.Eventually(func(g Gomega) { g.Expect(f.image(g, "gateway")).To(Equal(newRuntime)) }).Should(Succeed())
}

// beginRollout does what the Deployment controller does first: a pod of the new template beside that of the old.
func (f *olmFixture) beginRollout(deployment string) {
	f.t.Helper()
	f.Eventually(func(g Gomega) {
		d, err := get[appsv1.Deployment](f.fixture, deployment)
		g.Expect(err).NotTo(HaveOccurred())
		d.Status = appsv1.DeploymentStatus{
			ObservedGeneration: d.Generation, Replicas: 2, UpdatedReplicas: 1, ReadyReplicas: 1, AvailableReplicas: 1,
		}
		g.Expect(admin.Status().Update(f.ctx, d)).To(Succeed())
	}).Should(Succeed())
}

// stdio makes a backend with a bridge, and rolls it out.
func (f *olmFixture) stdio(name string) {
	f.t.Helper()
	b := f.backend(name, workload(v1alpha1.Workload{Image: "registry.example.com/filesystem-mcp:v1", Command: []string{"/server"}}))
	b.Spec.Transport = v1alpha1.TransportStdio
	f.create(b)
	f.rollsOut(name)
}

// rollsOut rolls the Deployment of a backend out, and waits until the operator has seen it.
func (f *olmFixture) rollsOut(backend string) {
	f.t.Helper()
	f.eventuallyBackend(backend, haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonProgressing))
	f.rollOut(v1alpha1.WorkloadName(backend))
	f.eventuallyBackend(backend, haveCondition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonAvailable))
}

// A version that brings another bridge replaces the pods of stdio servers, and is not upgradeable until the last of them is replaced.
func TestUpgradeableWhileBridgesAreReplaced(t *testing.T) {
	t.Parallel()
	f := newOLMFixture(t)
	f.install(oldVersion)
	f.run(oldVersion, oldRuntime)
	f.stdio("files")
	f.create(f.workloadBackend("kube"))
	f.eventuallySays(oldVersion, apiv2.Upgradeable, metav1.ConditionTrue, "RolledOut", Not(BeEmpty()))
	f.stop()
	f.install(newVersion)
	said := f.upgradeables(newVersion)
	f.run(newVersion, newRuntime)
	f.eventuallySays(newVersion, apiv2.Upgradeable, metav1.ConditionFalse, "RollingOut",
		And(ContainSubstring("1 of 1"), HaveSuffix(": MCPBackend %s/files", f.namespace)))
	d, err := get[appsv1.Deployment](f.fixture, "mcpb-files")
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(d.Spec.Template.Spec.InitContainers).To(ConsistOf(HaveField("Image", newRuntime)))
	f.beginRollout("mcpb-files")
	f.Consistently(said).Should(Equal([]string{"False/Starting", "False/RollingOut"}))

	// What it says is in the objects: a process that starts in the middle says nothing else.
	f.stop()
	f.run(newVersion, newRuntime)
	f.Consistently(said).Should(Equal([]string{"False/Starting", "False/RollingOut"}))
	f.rollOut("mcpb-files")
	f.Eventually(said).Should(Equal([]string{"False/Starting", "False/RollingOut", "True/RolledOut"}))

	// What its author changes keeps OLM from nothing, and neither does what only the author can mend.
	for _, image := range []string{"registry.example.com/filesystem-mcp:v2", "registry.example.com/filesystem-mcp:v3"} {
		edit(f.fixture, "files", func(b *v1alpha1.MCPBackend) { b.Spec.Workload.Image = image })
		f.Eventually(func(g Gomega) {
			d, err := get[appsv1.Deployment](f.fixture, "mcpb-files")
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(d.Spec.Template.Spec.Containers[0].Image).To(Equal(image))
		}).Should(Succeed())
		f.beginRollout("mcpb-files")
	}
	edit(f.fixture, "files", func(b *v1alpha1.MCPBackend) { b.Spec.GroupRef.Name = "nobody" })
	f.eventuallySays(newVersion, apiv2.Upgradeable, metav1.ConditionTrue, "RolledOut",
		HaveSuffix("not waited for: MCPBackend %s/files (GroupNotFound)", f.namespace))
	f.Consistently(said).Should(Equal([]string{"False/Starting", "False/RollingOut", "True/RolledOut"}))
}

// Which generation the pods of a stdio server have run is written once, when they do, and not on servers without a bridge.
func TestServedGeneration(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := &olmFixture{fixture: f}
	f.create(f.group("team"))
	o.stdio("files")
	served := func() map[string]string {
		d, err := get[appsv1.Deployment](f, "mcpb-files")
		f.Expect(err).NotTo(HaveOccurred())
		return d.Labels
	}
	f.Expect(served()).To(HaveKeyWithValue("vmcp.dev/served-generation", "1"))
	f.stop()
	f.requests.forget()
	f.start()
	f.Consistently(f.requests.writes).Should(BeEmpty())

	edit(f, "files", func(b *v1alpha1.MCPBackend) { b.Spec.Workload.Args = []string{"/data"} })
	f.eventuallyBackend("files", haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonProgressing))
	f.Expect(served()).To(HaveKeyWithValue("vmcp.dev/served-generation", "1"))
	o.rollsOut("files")
	f.Expect(served()).To(HaveKeyWithValue("vmcp.dev/served-generation", "2"))
}

func TestNothingIsToldWithoutOLM(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(f.group("team"))
	f.converge("gateway")
	f.Expect(f.requests.of(controllers.OperatorConditionController)).To(BeEmpty())
}

// A version that replaces pods is not upgradeable from its first word until the last of them is replaced: two upgrades back to back
// wait for each other.
func TestUpgradeableDuringAnUpgrade(t *testing.T) {
	t.Parallel()
	f := newOLMFixture(t)
	var said func() []string
	f.upgraded(func() { said = f.upgradeables(newVersion) })
	rolling := And(ContainSubstring("1 of 1"), ContainSubstring(f.namespace+"/gateway"))
	f.eventuallySays(newVersion, apiv2.Upgradeable, metav1.ConditionFalse, "RollingOut", rolling)
	f.beginRollout("vmcp-gateway")
	f.eventuallySays(newVersion, "OperandsAvailable", metav1.ConditionTrue, "AllAvailable", ContainSubstring("1 of 1"))
	f.Consistently(said).Should(Equal([]string{"False/Starting", "False/RollingOut"}))

	f.rollOut("vmcp-gateway")
	f.Eventually(said).Should(Equal([]string{"False/Starting", "False/RollingOut", "True/RolledOut"}))
	f.Expect(f.conditions(f, oldVersion)).To(haveCondition(apiv2.Upgradeable, metav1.ConditionTrue, "RolledOut"))

	// Nothing more is said while nothing changes, and nothing by a process that starts again.
	f.requests.forget()
	f.Consistently(f.spoken).Should(BeEmpty())
	f.stop()
	f.run(newVersion, newRuntime)
	f.Eventually(f.spoken).ShouldNot(BeEmpty())
	f.Consistently(f.written).Should(BeEmpty())
}

// A rollout keeps OLM waiting no longer than the progress deadline of its Deployment.
func TestUpgradeableAfterTheProgressDeadline(t *testing.T) {
	t.Parallel()
	f := newOLMFixture(t)
	f.upgraded(func() {
		edit(f.fixture, "vmcp-gateway", func(d *appsv1.Deployment) { d.Spec.ProgressDeadlineSeconds = new(int32(7)) })
		f.rollOut("vmcp-gateway")
	})
	f.beginRollout("vmcp-gateway")
	f.eventuallySays(newVersion, apiv2.Upgradeable, metav1.ConditionFalse, "RollingOut", ContainSubstring("gateway"))
	f.eventuallySays(newVersion, apiv2.Upgradeable, metav1.ConditionTrue, "RolledOut",
		HaveSuffix("not waited for: %s/gateway (ProgressDeadlineExceeded)", f.namespace))
}

// What a person changes is rolled out without keeping OLM from anything, and so is what a person has to mend.
func TestUpgradeableInSpiteOfUsers(t *testing.T) {
	t.Parallel()
	f := newOLMFixture(t)
	f.install(oldVersion)
	f.run(oldVersion, oldRuntime)
	f.eventuallySays(oldVersion, "OperandsAvailable", metav1.ConditionTrue, "NoOperands", Not(BeEmpty()))
	f.converge("gateway")
	f.eventuallySays(oldVersion, "OperandsAvailable", metav1.ConditionTrue, "AllAvailable", ContainSubstring("1 of 1"))
	said := f.upgradeables(oldVersion)

	f.create(f.server("broken", "nobody"))
	f.eventuallySays(oldVersion, apiv2.Upgradeable, metav1.ConditionTrue, "RolledOut",
		HaveSuffix("not waited for: %s/broken (GroupNotFound)", f.namespace))
	f.eventuallySays(oldVersion, "OperandsAvailable", metav1.ConditionFalse, "SomeUnavailable",
		And(ContainSubstring("1 of 2"), HaveSuffix("not: %s/broken (GroupNotFound)", f.namespace)))

	edit(f.fixture, "gateway", func(s *v1alpha1.VirtualMCPServer) {
		s.Spec.Resources = &v1alpha1.ComputeResources{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")}}
	})
	f.Eventually(func(g Gomega) {
		d, err := get[appsv1.Deployment](f.fixture, "vmcp-gateway")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(d.Generation).To(BeNumerically(">", d.Status.ObservedGeneration))
	}).Should(Succeed())
	f.beginRollout("vmcp-gateway")
	f.Consistently(said).Should(Equal([]string{"True/RolledOut"}))
}

// OLM makes the OperatorCondition and the rights on it while the operator starts already. Whichever comes first, the first word does not
// claim more than is known.
func TestOperatorConditionComesLate(t *testing.T) {
	t.Parallel()
	f := newOLMFixture(t)
	f.run(oldVersion, oldRuntime)
	f.converge("gateway")
	f.Expect(f.written()).To(BeEmpty())
	said := f.upgradeables(oldVersion)
	f.install(oldVersion)
	f.Eventually(said).Should(Equal([]string{"False/Starting", "True/RolledOut"}))
}

// Where each process ends before its verdict, what an early one said keeps OLM from the version that mends it no longer than a
// deadline: the next one takes it back before it leads.
func TestNoProcessLivesUntilItsVerdict(t *testing.T) {
	t.Parallel()
	f := newOLMFixture(t)
	f.install(oldVersion)
	o := &apiv2.OperatorCondition{}
	f.Expect(f.olm.Get(f.ctx, client.ObjectKey{Namespace: f.home, Name: oldVersion}, o)).To(Succeed())
	o.Spec.Conditions = []metav1.Condition{{
		Type: apiv2.Upgradeable, Status: metav1.ConditionFalse, Reason: "RollingOut", Message: "wait",
		LastTransitionTime: metav1.NewTime(time.Now().Add(-21 * time.Minute).Truncate(time.Second)),
	}}
	f.Expect(f.olm.Update(f.ctx, o)).To(Succeed())
	said := f.upgradeables(oldVersion)
	f.run(oldVersion, oldRuntime)
	f.Eventually(said).Should(Equal([]string{"False/RollingOut", "True/NoLeader", "True/RolledOut"}))
}

// The OperatorCondition belongs to OLM and administrators, too: what they write stays, and what they undo is said again.
func TestOperatorConditionIsShared(t *testing.T) {
	t.Parallel()
	f := newOLMFixture(t)
	f.install(oldVersion)
	f.run(oldVersion, oldRuntime)
	f.eventuallySays(oldVersion, apiv2.Upgradeable, metav1.ConditionTrue, "RolledOut", Not(BeEmpty()))
	key := client.ObjectKey{Namespace: f.home, Name: oldVersion}
	override := metav1.Condition{
		Type: apiv2.Upgradeable, Status: metav1.ConditionFalse, Reason: "Frozen", Message: "not this week",
		LastTransitionTime: metav1.NewTime(time.Now().Truncate(time.Second)),
	}
	f.Eventually(func(g Gomega) {
		o := &apiv2.OperatorCondition{}
		g.Expect(f.olm.Get(f.ctx, key, o)).To(Succeed())
		o.Spec.Overrides = []metav1.Condition{override}
		meta.RemoveStatusCondition(&o.Spec.Conditions, apiv2.Upgradeable)
		g.Expect(f.olm.Update(f.ctx, o)).To(Succeed())
	}).Should(Succeed())

	// The next change makes it look.
	f.create(f.server("broken", "nobody"))
	f.eventuallySays(oldVersion, apiv2.Upgradeable, metav1.ConditionTrue, "RolledOut", ContainSubstring("broken"))
	o := &apiv2.OperatorCondition{}
	f.Expect(f.olm.Get(f.ctx, key, o)).To(Succeed())
	f.Expect(o.Spec.Deployments).To(Equal([]string{"vmcp-operator"}))
	f.Expect(o.Spec.Overrides).To(HaveLen(1))
}
