// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"reflect"
	"time"

	. "github.com/onsi/gomega"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

type runtimeObject = runtime.Object

// kindName is the name of an object's Go type, which is its kind.
func kindName(o any) string { return reflect.TypeOf(o).Elem().Name() }

// edit changes an object as a person with kubectl edit does, and tries again when somebody else was faster.
func edit[T any, O interface {
	*T
	client.Object
}](f *fixture, name string, change func(O)) {
	f.t.Helper()
	f.Eventually(func(g Gomega) {
		o, err := get[T, O](f, name)
		g.Expect(err).NotTo(HaveOccurred())
		change(o)
		g.Expect(admin.Update(f.ctx, o, client.FieldOwner("kubectl-edit"))).To(Succeed())
	}).Should(Succeed())
}

// reportTime is fixed, so that reporting twice changes nothing.
var reportTime = metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))

func readyCondition(generation int64) *metav1ac.ConditionApplyConfiguration {
	return metav1ac.Condition().
		WithType(v1alpha1.ConditionReady).
		WithStatus(metav1.ConditionTrue).
		WithReason(v1alpha1.ReasonAllBackendsReady).
		WithMessage("1 of 1 backends is ready").
		WithObservedGeneration(generation).
		WithLastTransitionTime(reportTime)
}

// scale does what "kubectl scale" and a HorizontalPodAutoscaler do.
func (f *fixture) scale(deployment string, n int32) {
	f.t.Helper()
	d := &appsv1.Deployment{ObjectMeta: f.meta(deployment)}
	f.Expect(admin.SubResource("scale").Update(f.ctx, d, client.WithSubResourceBody(
		&autoscalingv1.Scale{ObjectMeta: f.meta(deployment), Spec: autoscalingv1.ScaleSpec{Replicas: n}}))).To(Succeed())
}

// replicas is how many pods a Deployment wants, or -1 if there is none.
func (f *fixture) replicas(deployment string) func() int32 {
	return func() int32 {
		d, err := get[appsv1.Deployment](f, deployment)
		if err != nil {
			return -1
		}
		return *d.Spec.Replicas
	}
}
