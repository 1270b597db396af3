// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	acv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/controllers"
)

func (o *operator) expectTakenOver(s *v1alpha1.VirtualMCPServer, reason string) {
	o.t.Helper()
	o.Expect(s.Status.Phase).To(Equal(v1alpha1.PhaseUnknown))
	o.Expect(s.Status.Message).To(ContainSubstring("stopped reporting"))
	o.Expect(s.Status.Conditions).To(And(
		haveCondition(v1alpha1.ConditionReady, metav1.ConditionUnknown, reason),
		haveCondition(v1alpha1.ConditionRuntimeReporting, metav1.ConditionFalse, reason),
		lackCondition(v1alpha1.ConditionStalled),
	))
	o.Expect(s.Status.Backends).To(Equal(&v1alpha1.BackendsSummary{Total: 1, Ready: 0}))
	o.Expect(s.Status.DiscoveredBackends).To(HaveLen(1))
	entry := s.Status.DiscoveredBackends[0]
	o.Expect(entry.Name).To(Equal("grafana"))
	o.Expect(entry.Status).To(Equal(v1alpha1.BackendUnknown))
	o.Expect(entry.Reason).To(Equal(v1alpha1.ReasonNoReport))
	o.Expect(entry.LastTransitionTime.Time).To(BeTemporally(">", reportTime.Time))
	o.Expect(s.Status.Catalog).NotTo(BeNil(), "the rest stays as the runtime left it")
	o.Expect(s.Status.Runtime).NotTo(BeNil())
}

func (o *operator) expectReporting(s *v1alpha1.VirtualMCPServer) {
	o.t.Helper()
	o.Expect(s.Status.Phase).To(Equal(v1alpha1.PhaseReady))
	o.Expect(s.Status.DiscoveredBackends[0].Status).To(Equal(v1alpha1.BackendReady))
	o.Expect(s.Status.Backends).To(Equal(&v1alpha1.BackendsSummary{Total: 1, Ready: 1}))
	o.Expect(s.Status.Conditions).To(And(
		haveCondition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonAllBackendsReady),
		haveCondition(v1alpha1.ConditionRuntimeReporting, metav1.ConditionTrue, v1alpha1.ReasonReporting),
	))
	expectDisjoint(o, s)
}

func TestTakeoverAndGiveBack(t *testing.T) {
	t.Parallel()
	o := newOperator(t)

	s := o.reconcile()
	o.Expect(s.Status.Phase).To(Equal(v1alpha1.PhasePending))
	o.Expect(s.Status.Message).To(ContainSubstring("waiting for the runtime to start"))
	o.Expect(s.Status.Conditions).To(And(
		haveCondition(v1alpha1.ConditionReady, metav1.ConditionUnknown, v1alpha1.ReasonNotYetReported),
		haveCondition(v1alpha1.ConditionRuntimeReporting, metav1.ConditionUnknown, v1alpha1.ReasonNotYetReported),
	))
	o.rollOut(v1alpha1.OperandName(gatewayName))
	o.Expect(o.reconcile().Status.Message).To(ContainSubstring("waiting for the first report"))
	o.hold("pod")
	o.Expect(o.wait(10*time.Minute).Status.Phase).To(Equal(v1alpha1.PhasePending), "a Lease is no report, nor is its loss the loss of one")

	// The first report.
	o.hold("pod")
	o.statusWrites()
	o.report(s, s.Generation)
	o.expectReporting(o.reconcile())
	o.Expect(o.statusWrites()).To(Equal(1))
	o.live(10 * time.Minute)
	o.Expect(o.statusWrites()).To(BeZero())

	// Silence.
	o.expectReporting(o.wait(59 * time.Second))
	o.Expect(o.statusWrites()).To(BeZero())
	o.expectTakenOver(o.wait(2*time.Second), v1alpha1.ReasonHeartbeatLost)
	o.Expect(o.statusWrites()).To(Equal(1))
	o.wait(time.Hour)
	o.expectTakenOver(o.reconcile(), v1alpha1.ReasonHeartbeatLost)
	o.Expect(o.statusWrites()).To(BeZero())

	// The Lease is held again: nothing is known yet.
	o.hold("pod")
	o.expectTakenOver(o.wait(10*time.Second), v1alpha1.ReasonHeartbeatLost)
	o.Expect(o.statusWrites()).To(BeZero())

	// The next report.
	o.report(s, s.Generation)
	o.expectReporting(o.reconcile())
	o.Expect(o.statusWrites()).To(Equal(1))
	before := o.get().ResourceVersion
	o.report(s, s.Generation)
	o.live(time.Minute)
	o.expectReporting(o.reconcile())
	o.Expect(o.statusWrites()).To(BeZero())
	o.Expect(o.get().ResourceVersion).To(Equal(before), "neither writer answers the other")
}

// The operator drops its word only when the runtime's is there: the other way round there would be a moment without a phase. That the Lease
// is held again, that the runtime owns something of the status, or that somebody else wrote a phase, is not the runtime's word.
func TestNoGiveBackBeforeTakeBack(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	s := o.reporting()
	o.expectTakenOver(o.wait(2*time.Minute), v1alpha1.ReasonHeartbeatLost)
	phase := fieldpath.MakePathOrDie("status", "phase")
	// What everybody sees after each write of the operator.
	o = o.restarted(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			res, err := next.RoundTrip(req)
			if err == nil && req.Method == http.MethodPatch && strings.HasSuffix(req.URL.Path, "/status") {
				written := o.get()
				o.Expect(written.Status.Phase).NotTo(BeEmpty())
				owned := statusFields(o, written, v1alpha1.OperatorFieldManager).Has(phase) ||
					statusFields(o, written, v1alpha1.RuntimeFieldManager).Has(phase)
				o.Expect(owned).To(BeTrue(), "one of the two writers stands for the phase")
			}
			return res, err
		})
	}, o.requests.wrap)
	o.reconcile()
	o.expectTakenOver(o.wait(2*time.Minute), v1alpha1.ReasonHeartbeatLost)
	o.statusWrites()

	o.hold("pod")
	o.expectTakenOver(o.wait(10*time.Second), v1alpha1.ReasonHeartbeatLost)
	o.Expect(o.statusWrites()).To(BeZero(), "a Lease is no report")

	// A runtime in the middle of something, or an older one: it owns a part of the status, and not the phase.
	partly := acv1alpha1.VirtualMCPServer(s.Name, s.Namespace).WithStatus(acv1alpha1.VirtualMCPServerStatus().
		WithBackends(acv1alpha1.BackendsSummary().WithTotal(1)).
		WithCatalog(acv1alpha1.CatalogSummary().WithTools(3).WithPrompts(0).WithResources(0).WithConflicts(0)).
		WithRuntime(acv1alpha1.RuntimeInfo().WithReporter("pod").WithObservedGeneration(s.Generation)).
		WithDiscoveredBackends(acv1alpha1.DiscoveredBackend().WithKind("MCPBackend").WithName("grafana")))
	o.Expect(admin.Status().Apply(o.ctx, partly, client.FieldOwner(v1alpha1.RuntimeFieldManager), client.ForceOwnership)).To(Succeed())
	o.hold("pod")
	o.expectTakenOver(o.wait(10*time.Second), v1alpha1.ReasonHeartbeatLost)
	o.Expect(statusFields(o, o.get(), v1alpha1.OperatorFieldManager).Has(phase)).To(BeTrue())

	o.statusWrites()
	o.report(s, s.Generation)
	o.hold("pod")
	o.expectReporting(o.get())
	o.Expect(o.statusWrites()).To(Equal(1))
}

func TestReleasedLease(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.reporting()
	o.live(2 * time.Minute)

	// A successor in time, as in a rollout.
	o.hold("")
	o.expectReporting(o.wait(9 * time.Second))
	o.hold("successor")
	o.expectReporting(o.wait(50 * time.Second))
	o.Expect(o.statusWrites()).To(BeZero())

	// None, as after a scale to zero.
	o.hold("")
	o.expectReporting(o.wait(9 * time.Second))
	o.expectTakenOver(o.wait(2*time.Second), v1alpha1.ReasonReleased)
	o.Expect(o.statusWrites()).To(Equal(1))
}

// The same with everything that is real but the clock: what the watch shows is what counts.
func TestTakeoverThroughWatches(t *testing.T) {
	t.Parallel()
	f := newNamespace(t)
	var ahead atomic.Int64
	clock := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	f.startWith(func(mgr ctrl.Manager) error {
		if err := controllers.SetupIndexes(f.ctx, mgr.GetFieldIndexer()); err != nil {
			return err
		}
		c, err := controllers.NewClient(mgr, controllers.VirtualMCPServerController)
		if err != nil {
			return err
		}
		return (&controllers.VirtualMCPServerReconciler{Client: c, RuntimeImage: runtimeImage, Now: clock}).SetupWithManager(mgr)
	})
	f.create(f.group("team"))
	o := &operator{fixture: f}
	s := f.serve(gatewayName)
	reporting := haveCondition(v1alpha1.ConditionRuntimeReporting, metav1.ConditionTrue, v1alpha1.ReasonReporting)
	o.expectReporting(f.eventually(gatewayName, reporting))

	renew := func() {
		edit(f, v1alpha1.OperandName(gatewayName), func(l *coordinationv1.Lease) {
			l.Spec.HolderIdentity, l.Spec.RenewTime = new("pod"), new(metav1.NewMicroTime(clock()))
		})
	}
	// untilLook lets time pass, ten times as fast, until the operator has looked at the Lease, which it does when it is woken.
	untilLook := func() {
		looks := f.leaseLooks()
		f.Eventually(func() int {
			ahead.Add(int64(time.Second))
			edit(f, v1alpha1.OperandName(gatewayName), func(d *appsv1.Deployment) {
				metav1.SetMetaDataAnnotation(&d.ObjectMeta, "example.com/wake", time.Now().String())
			})
			return f.leaseLooks()
		}).WithPolling(100 * time.Millisecond).Should(BeNumerically(">", looks))
	}
	renew()
	renewed := clock()
	untilLook()
	f.Expect(clock()).To(BeTemporally(">", renewed.Add(30*time.Second)))
	o.expectReporting(o.get())
	for range 3 {
		untilLook()
	}
	f.eventually(gatewayName, haveCondition(v1alpha1.ConditionRuntimeReporting, metav1.ConditionFalse, v1alpha1.ReasonHeartbeatLost))
	o.expectTakenOver(o.get(), v1alpha1.ReasonHeartbeatLost)

	renew()
	f.report(s, s.Generation)
	o.expectReporting(f.eventually(gatewayName, reporting))
	before := o.get().ResourceVersion
	f.Consistently(func() string { return o.get().ResourceVersion }).Should(Equal(before))
}

// leaseLooks counts how often the operator has read the Lease from the API server.
func (f *fixture) leaseLooks() int {
	n := 0
	for _, r := range f.requests.of(controllers.VirtualMCPServerController) {
		if !r.write() && strings.HasSuffix(r.path, "/leases/"+v1alpha1.OperandName(gatewayName)) {
			n++
		}
	}
	return n
}

// A Lease that somebody deletes and the operator makes anew has had no holder. The runtime has reported nevertheless.
func TestDeletedLease(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.reporting()
	o.live(2 * time.Minute)
	l, err := get[coordinationv1.Lease](o.fixture, v1alpha1.OperandName(gatewayName))
	o.Expect(err).NotTo(HaveOccurred())
	o.Expect(admin.Delete(o.ctx, l)).To(Succeed())
	o.expectReporting(o.reconcile())
	o.expectReporting(o.wait(9 * time.Second))
	o.expectTakenOver(o.wait(2*time.Second), v1alpha1.ReasonReleased)
}

// A process that has lost the Lease should not write. If it does, it is not answered, or two writers would keep each other busy.
func TestOneTakeoverForEachLoss(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	s := o.reporting()
	o.expectTakenOver(o.wait(2*time.Minute), v1alpha1.ReasonHeartbeatLost)
	o.statusWrites()
	for i := range 5 {
		o.report(s, s.Generation+int64(i))
		o.wait(time.Minute)
		s := o.reconcile()
		o.Expect(s.Status.Phase).To(Equal(v1alpha1.PhaseReady))
		o.Expect(s.Status.Conditions).To(haveCondition(v1alpha1.ConditionRuntimeReporting, metav1.ConditionFalse, v1alpha1.ReasonHeartbeatLost))
	}
	o.Expect(o.statusWrites()).To(Equal(1), "the give-back")

	// The next loss is another one.
	o.hold("pod")
	o.expectReporting(o.reconcile())
	o.expectTakenOver(o.wait(2*time.Minute), v1alpha1.ReasonHeartbeatLost)
}

func TestOperatorRestarts(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.reporting()
	o.wait(55 * time.Second)

	// It cannot know for how long the runtime has been silent.
	o = o.restarted(o.requests.wrap)
	o.expectReporting(o.reconcile())
	o.expectReporting(o.wait(59 * time.Second))
	o.Expect(o.statusWrites()).To(BeZero())
	o.expectTakenOver(o.wait(2*time.Second), v1alpha1.ReasonHeartbeatLost)
	o.Expect(o.statusWrites()).To(Equal(1))

	// What it took over before stays taken over.
	o = o.restarted(o.requests.wrap)
	o.expectTakenOver(o.reconcile(), v1alpha1.ReasonHeartbeatLost)
	o.wait(5 * time.Minute)
	o.expectTakenOver(o.reconcile(), v1alpha1.ReasonHeartbeatLost)
	o.hold("pod")
	o = o.restarted(o.requests.wrap)
	o.expectTakenOver(o.reconcile(), v1alpha1.ReasonHeartbeatLost)
	o.Expect(o.statusWrites()).To(BeZero())
}

// Between the decision and its arrival at the API server the runtime comes back. The takeover is refused, and decided anew on what
// is true then.
func TestDelayedTakeoverLoses(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	s := o.reporting()
	var refused int
	meanwhile := sync.OnceFunc(func() {
		l, err := get[coordinationv1.Lease](o.fixture, v1alpha1.OperandName(gatewayName))
		o.Expect(err).NotTo(HaveOccurred())
		l.Spec.RenewTime = &metav1.MicroTime{Time: l.Spec.RenewTime.Add(time.Hour)}
		o.Expect(admin.Update(o.ctx, l)).To(Succeed())
		o.report(s, s.Generation+1)
	})
	o = o.restarted(o.requests.wrap, func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			if !takesOver(o, req) {
				return next.RoundTrip(req)
			}
			meanwhile()
			answer, err := next.RoundTrip(req)
			if err == nil && answer.StatusCode == http.StatusConflict {
				refused++
			}
			return answer, err
		})
	})
	o.reconcile()
	o.expectReporting(o.wait(61 * time.Second))
	o.Expect(refused).To(Equal(1))
	o.Expect(o.statusWrites()).To(Equal(1), "nothing but the write that was refused")

	// The watch of the test shows nothing: from the renewal, which the operator saw when it was refused, it counts again.
	o.expectReporting(o.wait(58 * time.Second))
	o.expectTakenOver(o.wait(2*time.Second), v1alpha1.ReasonHeartbeatLost)
	o.Expect(refused).To(Equal(1))
}

// takesOver recognizes the write of a takeover.
func takesOver(g Gomega, req *http.Request) bool {
	if req.Method != http.MethodPatch || !strings.HasSuffix(req.URL.Path, "/status") {
		return false
	}
	body, err := io.ReadAll(req.Body)
	g.Expect(err).NotTo(HaveOccurred())
	req.Body = io.NopCloser(bytes.NewReader(body))
	return bytes.Contains(body, []byte(v1alpha1.ReasonNoReport))
}

// While the Lease cannot be read, and for a full duration after, silence proves nothing.
func TestUnreadableLeaseIsNotLost(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.reporting()
	away := false
	o = o.restarted(o.requests.wrap, func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			if away && strings.Contains(req.URL.Path, "/leases/") {
				return &http.Response{StatusCode: http.StatusInternalServerError, Body: http.NoBody, Request: req}, nil
			}
			return next.RoundTrip(req)
		})
	})
	o.reconcile()
	o.wait(29 * time.Second)
	// The cache of the operator goes on showing what it had.
	cached := &frozenLease{Client: o.reconciler.Client.Client}
	lease, err := get[coordinationv1.Lease](o.fixture, v1alpha1.OperandName(gatewayName))
	o.Expect(err).NotTo(HaveOccurred())
	cached.lease = lease
	o.reconciler.Client.Client = cached
	away = true
	o.expectReporting(o.wait(2 * time.Minute))
	away = false
	o.expectReporting(o.wait(50 * time.Second))
	o.Expect(o.statusWrites()).To(BeZero())
	o.expectTakenOver(o.wait(11*time.Second), v1alpha1.ReasonHeartbeatLost)
}

// frozenLease is a cache whose watch of Leases is broken: it shows what it had.
type frozenLease struct {
	client.Client
	lease *coordinationv1.Lease
}

func (c *frozenLease) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	if l, ok := o.(*coordinationv1.Lease); ok {
		c.lease.DeepCopyInto(l)
		return nil
	}
	return c.Client.Get(ctx, key, o, opts...)
}

func TestForeignEditsAreHealedSeldom(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.reporting()
	o.expectTakenOver(o.wait(2*time.Minute), v1alpha1.ReasonHeartbeatLost)
	o.wait(time.Minute)
	o.statusWrites()
	for range 100 {
		edited := o.get()
		patch := client.RawPatch(types.MergePatchType, []byte(`{"status":{"phase":"Ready","message":"all is well","url":"http://evil.example.com"}}`))
		o.Expect(admin.Status().Patch(o.ctx, edited, patch, client.FieldOwner("kubectl-edit"))).To(Succeed())
		o.reconcile()
		o.wait(100 * time.Millisecond)
	}
	o.Expect(o.statusWrites()).To(BeNumerically("~", 2, 1), "in ten seconds")
	s := o.wait(5 * time.Second)
	o.expectTakenOver(s, v1alpha1.ReasonHeartbeatLost)
	o.Expect(s.Status.URL).To(Equal(s.URL()))
}

// Without a group nothing is started, and the phase says what is missing.
func TestPendingNamesTheObstacle(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.Expect(admin.Delete(o.ctx, o.group("team"))).To(Succeed())
	s := o.reconcile()
	o.Expect(s.Status.Phase).To(Equal(v1alpha1.PhasePending))
	o.Expect(s.Status.Message).To(ContainSubstring(`MCPGroup "team" does not exist`))
	o.Expect(meta.IsStatusConditionTrue(s.Status.Conditions, v1alpha1.ConditionStalled)).To(BeTrue())
}
