// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	apiv2 "github.com/operator-framework/api/pkg/operators/v2"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/internal/olm"
	"github.com/vmcp-dev/vmcp-operator/internal/olm/olmtest"
)

// noon is when the tests of this file judge, and anHourAgo when the operator began to lead if a test says nothing else.
var (
	noon      = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	anHourAgo = noon.Add(-time.Hour)
)

const (
	templateFields = `{"f:spec":{"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"vmcp\"}":{"f:image":{}}}}}}}`
	otherFields    = `{"f:metadata":{"f:annotations":{"f:team":{}}},"f:spec":{"f:replicas":{}}}`
)

// entry is one of managedFields, of so long ago.
func entry(manager, subresource, fields string, ago time.Duration) metav1.ManagedFieldsEntry {
	at := metav1.NewTime(noon.Add(-ago))
	e := metav1.ManagedFieldsEntry{Manager: manager, Subresource: subresource, Time: &at, FieldsV1: &metav1.FieldsV1{}}
	e.FieldsV1.SetRawBytes([]byte(fields))
	return e
}

// operandAt is a server that is served as its spec asks, after the change; its template is the operator's, of a minute ago.
func operandAt(name string, changes ...func(*operandState)) operandState {
	o := operandState{
		object: &v1alpha1.VirtualMCPServer{
			ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name, Generation: 3},
			Status: v1alpha1.VirtualMCPServerStatus{
				ObservedGeneration: 3,
				Conditions: []metav1.Condition{{
					Type: v1alpha1.ConditionRuntimeReporting, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonReporting,
				}},
			},
		},
		deployment: &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{
				Generation: 7,
				ManagedFields: []metav1.ManagedFieldsEntry{
					entry(v1alpha1.OperatorFieldManager, "", templateFields, time.Minute),
					entry("kube-controller-manager", "status", `{"f:status":{}}`, time.Second),
				},
			},
			Spec:   appsv1.DeploymentSpec{Replicas: new(int32(2))},
			Status: appsv1.DeploymentStatus{ObservedGeneration: 7, Replicas: 2, UpdatedReplicas: 2, AvailableReplicas: 2},
		},
		examined: true,
	}
	for _, change := range changes {
		change(&o)
	}
	return o
}

// bridgedAt is a backend with a bridge whose pods run what its spec asks for, after the change, and otherwise like operandAt.
func bridgedAt(name string, changes ...func(*operandState)) operandState {
	o := operandAt(name)
	o.object = &v1alpha1.MCPBackend{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name, Generation: 3},
		Status:     v1alpha1.MCPBackendStatus{ObservedGeneration: 3},
	}
	serving("3")(&o)
	for _, change := range changes {
		change(&o)
	}
	return o
}

// serving is what the Deployment says of the generation that its pods have run.
func serving(generation string) func(*operandState) {
	return func(o *operandState) {
		o.deployment.Labels = map[string]string{servedGenerationLabel: generation}
	}
}

// midway is a rollout that has replaced one pod of two.
func midway(o *operandState) {
	o.deployment.Status.Replicas, o.deployment.Status.UpdatedReplicas = 3, 1
}

func unexamined(o *operandState) { o.examined = false }

func stalledBy(reason string) func(*operandState) {
	return func(o *operandState) { o.stalled = reason }
}

func managedBy(entries ...metav1.ManagedFieldsEntry) func(*operandState) {
	return func(o *operandState) { o.deployment.ManagedFields = entries }
}

func TestUpgradeable(t *testing.T) {
	t.Parallel()
	rollingOut := func(message string) verdict { return isFalse(reasonRollingOut, message) }
	oneRolls := rollingOut("this version replaces the pods of 1 of 1 VirtualMCPServers and stdio MCPBackends: team/a")
	rolledOut := isTrue(reasonRolledOut, "this version replaces no pods of VirtualMCPServers or stdio MCPBackends")
	notWaitedFor := func(names string) verdict {
		return isTrue(reasonRolledOut, "this version replaces no pods of VirtualMCPServers or stdio MCPBackends; not waited for: "+names)
	}
	for name, c := range map[string]struct {
		operands []operandState
		started  time.Time
		want     verdict
		// again is how long after noon the verdict changes by time alone; zero means never.
		again time.Duration
	}{
		"nothing to provision": {want: rolledOut},
		"all is rolled out":    {operands: []operandState{operandAt("a")}, want: rolledOut},
		"pods of an earlier template still run": {
			operands: []operandState{operandAt("a", midway)}, want: oneRolls, again: 9 * time.Minute,
		},
		"the Deployment controller has not seen the change yet": {
			operands: []operandState{operandAt("a", func(o *operandState) { o.deployment.Status.ObservedGeneration = 6 })},
			want:     oneRolls, again: 9 * time.Minute,
		},
		"a first Deployment that was not seen yet replaces nothing": {
			operands: []operandState{operandAt("a", func(o *operandState) { o.deployment.Status = appsv1.DeploymentStatus{} })},
			want:     rolledOut,
		},
		"no Deployment": {
			operands: []operandState{operandAt("a", func(o *operandState) { o.deployment = nil })}, want: rolledOut,
		},
		"a rollout for a new generation of the spec is its author's": {
			operands: []operandState{operandAt("a", midway, func(o *operandState) { o.object.SetGeneration(4) })}, want: rolledOut,
		},
		"pods with a bridge of an earlier version still run": {
			operands: []operandState{operandAt("a"), bridgedAt("a", midway)},
			want:     rollingOut("this version replaces the pods of 1 of 2 VirtualMCPServers and stdio MCPBackends: MCPBackend team/a"),
			again:    9 * time.Minute,
		},
		"pods with a bridge are rolled out": {operands: []operandState{bridgedAt("a")}, want: rolledOut},
		"a rollout for a new generation of a stdio server is its author's": {
			operands: []operandState{bridgedAt("a", midway, func(o *operandState) {
				o.object = &v1alpha1.MCPBackend{
					ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "a", Generation: 4},
					Status:     v1alpha1.MCPBackendStatus{ObservedGeneration: 4}, // as soon as it is provisioned
				}
			})},
			want: rolledOut,
		},
		"a stdio server that never ran is its author's": {
			operands: []operandState{bridgedAt("a", midway, func(o *operandState) { o.deployment.Labels = nil })}, want: rolledOut,
		},
		"a stdio server was restarted by somebody else": {
			operands: []operandState{bridgedAt("a", midway, managedBy(
				entry(v1alpha1.OperatorFieldManager, "", templateFields, time.Minute),
				entry("kubectl-rollout", "", templateFields, 59*time.Second),
			))},
			want: rolledOut,
		},
		"the deadline of a stdio server has passed": {
			operands: []operandState{bridgedAt("a", midway, managedBy(
				entry(v1alpha1.OperatorFieldManager, "", templateFields, progressDeadline)))},
			want: notWaitedFor("MCPBackend team/a (ProgressDeadlineExceeded)"),
		},
		"a stdio server that is stalled is named and not waited for": {
			operands: []operandState{bridgedAt("a", midway, stalledBy(v1alpha1.ReasonSecretNotFound)), operandAt("b", midway)},
			want: rollingOut("this version replaces the pods of 1 of 2 VirtualMCPServers and stdio MCPBackends: team/b; " +
				"not waited for: MCPBackend team/a (SecretNotFound)"),
			again: 9 * time.Minute,
		},
		"no verdict before every stdio server was examined": {
			operands: []operandState{operandAt("a"), bridgedAt("a", unexamined)}, started: noon.Add(-time.Minute),
			want: verdict{}, again: 9 * time.Minute,
		},
		"somebody else changed the template last": {
			operands: []operandState{operandAt("a", midway, managedBy(
				entry(v1alpha1.OperatorFieldManager, "", templateFields, time.Minute),
				entry("kubectl-rollout", "", templateFields, 59*time.Second),
			))},
			want: rolledOut,
		},
		"the operator changed it back in the same second": {
			operands: []operandState{operandAt("a", midway, managedBy(
				entry(v1alpha1.OperatorFieldManager, "", templateFields, time.Minute),
				entry("kubectl-edit", "", templateFields, time.Minute),
			))},
			want: oneRolls, again: 9 * time.Minute,
		},
		"somebody else changed something but the template last": {
			operands: []operandState{operandAt("a", midway, managedBy(
				entry("kubectl-annotate", "", otherFields, time.Second),
				entry("horizontal-pod-autoscaler", "scale", templateFields, time.Second),
				entry(v1alpha1.OperatorFieldManager, "", templateFields, time.Minute),
			))},
			want: oneRolls, again: 9 * time.Minute,
		},
		"nobody says who changed the template": {
			operands: []operandState{operandAt("a", midway, managedBy())}, want: rolledOut,
		},
		"the deadline has passed": {
			operands: []operandState{operandAt("a", midway, managedBy(
				entry(v1alpha1.OperatorFieldManager, "", templateFields, progressDeadline)))},
			want: notWaitedFor("team/a (ProgressDeadlineExceeded)"),
		},
		"the Deployment's own deadline has passed": {
			operands: []operandState{operandAt("a", midway, func(o *operandState) {
				o.deployment.Spec.ProgressDeadlineSeconds = new(int32(60))
			})},
			want: notWaitedFor("team/a (ProgressDeadlineExceeded)"),
		},
		"a Deployment's own deadline is longer than anybody is kept waiting": {
			operands: []operandState{operandAt("a", midway, func(o *operandState) {
				o.deployment.Spec.ProgressDeadlineSeconds = new(int32(math.MaxInt32))
			})},
			want: oneRolls, again: 9 * time.Minute,
		},
		"a server that is stalled is named and not waited for": {
			operands: []operandState{operandAt("a", midway, stalledBy(v1alpha1.ReasonPodsCannotRun)), operandAt("b")},
			want:     notWaitedFor("team/a (PodsCannotRun)"),
		},
		"one rolls, one is stalled": {
			operands: []operandState{operandAt("b", stalledBy(v1alpha1.ReasonRenderFailed)), operandAt("a", midway), operandAt("c")},
			want: rollingOut("this version replaces the pods of 1 of 3 VirtualMCPServers and stdio MCPBackends: team/a; " +
				"not waited for: team/b (RenderFailed)"),
			again: 9 * time.Minute,
		},
		"the next deadline counts": {
			operands: []operandState{
				operandAt("a", midway),
				operandAt("b", midway, managedBy(entry(v1alpha1.OperatorFieldManager, "", templateFields, 4*time.Minute))),
			},
			want:  rollingOut("this version replaces the pods of 2 of 2 VirtualMCPServers and stdio MCPBackends: team/a, team/b"),
			again: 6 * time.Minute,
		},
		"no verdict before everything was examined": {
			operands: []operandState{operandAt("a"), operandAt("b", unexamined)}, started: noon.Add(-time.Minute),
			want: verdict{}, again: 9 * time.Minute,
		},
		"that a server was stalled before does not say that it still is": {
			operands: []operandState{operandAt("a", unexamined, stalledBy(v1alpha1.ReasonRenderFailed))}, started: noon.Add(-time.Minute),
			want: verdict{}, again: 9 * time.Minute,
		},
		"one rollout is verdict enough": {
			operands: []operandState{operandAt("b", unexamined), operandAt("a", midway)}, started: noon.Add(-3 * time.Minute),
			want:  rollingOut("this version replaces the pods of 1 of 2 VirtualMCPServers and stdio MCPBackends: team/a"),
			again: 7 * time.Minute,
		},
		"what cannot be examined keeps nobody waiting for ever": {
			operands: []operandState{operandAt("a", unexamined)}, started: noon.Add(-progressDeadline),
			want: notWaitedFor("team/a (NotExamined)"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			if c.started.IsZero() {
				c.started = anHourAgo
			}
			got, again := upgradeable(c.operands, c.started, noon)
			g.Expect(got).To(Equal(c.want))
			if c.again == 0 {
				g.Expect(again).To(BeZero())
			} else {
				g.Expect(again.Sub(noon)).To(Equal(c.again))
			}
		})
	}
}

// The first word is watched over until this process has said a verdict, and no longer.
func TestFirstVerdict(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	scheme, err := NewScheme()
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(apiv2.AddToScheme(scheme)).To(Succeed())
	s := operandAt("a").object
	s.SetUID("server")
	b := &v1alpha1.MCPBackend{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "b", UID: "backend"},
		Spec:       v1alpha1.MCPBackendSpec{Transport: v1alpha1.TransportStdio, Workload: &v1alpha1.Workload{}},
	}
	remote := &v1alpha1.MCPBackend{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "remote"},
		Spec:       v1alpha1.MCPBackendSpec{Remote: &v1alpha1.RemoteBackend{}},
	}
	own := &apiv2.OperatorCondition{ObjectMeta: metav1.ObjectMeta{Namespace: "operators", Name: "vmcp-operator.v0.2.0"}}
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(s, b, remote, own).Build()
	judged := 0
	r := &operatorConditionReconciler{
		reader: c, condition: olm.NewWithClient(c, olmtest.At(client.ObjectKeyFromObject(own))), announced: func() bool { return true },
		servers: &examinations{}, backends: &examinations{}, interval: statementInterval, judged: func() { judged++ }, started: time.Now(),
	}
	_, err = r.Reconcile(t.Context(), reconcile.Request{})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(judged).To(BeZero(), "a server was not examined")

	r.servers.note(s, nil, "", nil)
	_, err = r.Reconcile(t.Context(), reconcile.Request{})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(judged).To(BeZero(), "a stdio server was not examined")

	r.backends.note(b, nil, "", nil)
	_, err = r.Reconcile(t.Context(), reconcile.Request{})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(judged).To(Equal(1))
	g.Expect(c.Get(t.Context(), client.ObjectKeyFromObject(own), own)).To(Succeed())
	g.Expect(meta.IsStatusConditionTrue(own.Spec.Conditions, apiv2.Upgradeable)).To(BeTrue())
}

func TestUpgradeableNamesFew(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	var operands []operandState
	for i := range 9 {
		operands = append(operands, operandAt(fmt.Sprintf("s%d", 9-i), midway))
	}
	got, _ := upgradeable(operands, anHourAgo, noon)
	g.Expect(got.message).To(Equal("this version replaces the pods of 9 of 9 VirtualMCPServers and stdio MCPBackends: " +
		"team/s1, team/s2, team/s3, team/s4, team/s5 and 4 more"))
}

func TestOperandsAvailable(t *testing.T) {
	t.Parallel()
	deployment := func(change func(*appsv1.Deployment)) func(*operandState) {
		return func(o *operandState) { change(o.deployment) }
	}
	reporting := func(conditions ...metav1.Condition) func(*operandState) {
		return func(o *operandState) {
			if s, ok := o.object.(*v1alpha1.VirtualMCPServer); ok {
				s.Status.Conditions = conditions
			}
		}
	}
	silent := metav1.Condition{
		Type: v1alpha1.ConditionRuntimeReporting, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonHeartbeatLost,
	}
	unavailable := deployment(func(d *appsv1.Deployment) { d.Status.AvailableReplicas = 0 })
	for name, c := range map[string]struct {
		operands []operandState
		want     verdict
	}{
		"none": {want: isTrue(reasonNoOperands, "there are no VirtualMCPServers")},
		"all":  {[]operandState{operandAt("a"), operandAt("b")}, isTrue(reasonAllAvailable, "2 of 2 VirtualMCPServers are available")},
		"while pods are replaced": {
			[]operandState{operandAt("a", midway)}, isTrue(reasonAllAvailable, "1 of 1 VirtualMCPServers are available"),
		},
		"scaled to zero": {
			[]operandState{operandAt("a", unavailable, reporting(silent), deployment(func(d *appsv1.Deployment) { *d.Spec.Replicas = 0 }))},
			isTrue(reasonAllAvailable, "1 of 1 VirtualMCPServers are available"),
		},
		"each for its own reason": {
			[]operandState{
				operandAt("a"),
				operandAt("b", unavailable),
				operandAt("c", reporting(silent)),
				operandAt("d", reporting()),
				operandAt("e", stalledBy(v1alpha1.ReasonRenderFailed)),
				operandAt("f", func(o *operandState) { o.deployment = nil }),
			},
			isFalse(reasonSomeUnavailable, "1 of 6 VirtualMCPServers are available; not: team/b (Progressing), "+
				"team/c (HeartbeatLost), team/d (NotYetReported), team/e (RenderFailed), team/f (Progressing)"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			NewWithT(t).Expect(operandsAvailable(c.operands)).To(Equal(c.want))
		})
	}
}

// What one controller has found out about a server counts only as long as the other sees the same objects.
func TestExaminations(t *testing.T) {
	t.Parallel()
	stalled := metav1.Condition{Type: v1alpha1.ConditionStalled, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonRenderFailed}
	examined := func(change func(*v1alpha1.VirtualMCPServer, *virtualMCPServerFacts)) *examinations {
		s := &v1alpha1.VirtualMCPServer{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "a", UID: "server"}}
		f := &virtualMCPServerFacts{
			groupFound: true, deployment: &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{UID: "deployment", Generation: 7}},
		}
		if change != nil {
			change(s, f)
		}
		e := &examinations{}
		_, reason := f.obstacle(s)
		e.note(s, f.deployment, reason, f.failedErr)
		return e
	}
	failed := func(err error) *examinations {
		return examined(func(_ *v1alpha1.VirtualMCPServer, f *virtualMCPServerFacts) {
			f.failed, f.failedErr = v1alpha1.ConditionDeploymentReady, err
		})
	}
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "deployments"}, "vmcp-a", errors.New("quota"))
	for name, c := range map[string]struct {
		known      *examinations
		generation int64
		stalled    []metav1.Condition
		paused     bool

		wantExamined bool
		wantStalled  string
	}{
		"never":                        {known: &examinations{}, generation: 7},
		"never, and stalled before":    {known: &examinations{}, generation: 7, stalled: []metav1.Condition{stalled}, wantStalled: "RenderFailed"},
		"never, for it is paused":      {known: &examinations{}, generation: 7, paused: true, wantExamined: true},
		"done":                         {known: examined(nil), generation: 7, wantExamined: true},
		"done, and changed since":      {known: examined(nil), generation: 8, wantExamined: true},
		"the cache is behind":          {known: examined(nil), generation: 6},
		"its own word beats the cache": {known: examined(nil), generation: 7, stalled: []metav1.Condition{stalled}, wantExamined: true},
		"tried again at once":          {known: failed(errors.New("timeout")), generation: 7},
		"a person has to help":         {known: failed(forbidden), generation: 7, wantExamined: true, wantStalled: "ApplyFailed"},
		"of a predecessor of the same name": {
			known: examined(func(s *v1alpha1.VirtualMCPServer, _ *virtualMCPServerFacts) { s.UID = "predecessor" }), generation: 7,
		},
		"of an earlier Deployment": {
			known:      examined(func(_ *v1alpha1.VirtualMCPServer, f *virtualMCPServerFacts) { f.deployment.UID = "earlier" }),
			generation: 1, wantExamined: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			s := &v1alpha1.VirtualMCPServer{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "a", UID: "server"}}
			s.Status.Conditions = c.stalled
			if c.paused {
				s.Annotations = map[string]string{v1alpha1.PausedAnnotation: "true"}
			}
			d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{UID: "deployment", Generation: c.generation}}
			got := c.known.state(s, d)
			g.Expect(got.examined).To(Equal(c.wantExamined))
			g.Expect(got.stalled).To(Equal(c.wantStalled))
			c.known.gone(client.ObjectKeyFromObject(s))
			g.Expect(c.known.state(s, d).examined).To(Equal(c.paused))
		})
	}
}
