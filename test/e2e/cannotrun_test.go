//go:build e2e

// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/test/harness"
)

// TestFaultCannotRun is about runtimes that never come to report: the operator says why in their place, and nobody has to delete a pod
// once the cause is gone.
func TestFaultCannotRun(t *testing.T) {
	t.Run("the container dies again and again", func(t *testing.T) {
		x := newObserved(t, "crashes", memoryLimit("10Mi"))
		began := time.Now()
		s := x.awaitFailed(t, began)
		if restarts := x.pod(t).Status.ContainerStatuses[0].RestartCount; restarts > 3 {
			t.Errorf("the container was restarted %d times before the status said Failed", restarts)
		}
		measure(t, "runtime that crashes", "phase Failed", startLimit, s.At.Sub(began))
		fixed := time.Now()
		x.change(t)
		x.await(t, fixed, startLimit, "the gateway to be served after all", settled)
	})
	t.Run("the image does not exist", func(t *testing.T) {
		image := operatorEnv(t, "RELATED_IMAGE_RUNTIME")
		absent := image[:strings.LastIndex(image, ":")] + ":absent"
		setOperatorEnv(t, "RELATED_IMAGE_RUNTIME="+absent)
		cleanUp(t, "giving the operator its image back", func(ctx context.Context) error {
			return tryOperatorEnv(ctx, "RELATED_IMAGE_RUNTIME="+image)
		})
		x := newObserved(t, "unpullable")
		began := time.Now()
		s := x.awaitFailed(t, began)
		if message := s.Object.Status.Message; !strings.Contains(message, absent) {
			t.Errorf("the message does not name the image: %s", message)
		}
		measure(t, "image that does not exist", "phase Failed", startLimit, s.At.Sub(began))

		// What runs already is left alone meanwhile: its new pods cannot run either, and the old ones serve.
		demo, err := getGateway(t.Context(), gateway)
		if err != nil {
			t.Fatal(err)
		}
		if demo.Status.Phase != v1alpha1.PhaseReady {
			t.Errorf("phase of a gateway that ran before is %s: %s", demo.Status.Phase, demo.Status.Message)
		}
		fixed := time.Now()
		setOperatorEnv(t, "RELATED_IMAGE_RUNTIME="+image)
		x.await(t, fixed, startLimit, "the gateway to be served after all", settled)
	})
}

// awaitFailed waits until the operator says that the pods cannot run.
func (x *subject) awaitFailed(t *testing.T, from time.Time) harness.State[v1alpha1.VirtualMCPServer] {
	t.Helper()
	return x.await(t, from, startLimit, "phase Failed", func(s *v1alpha1.VirtualMCPServer) error {
		reporting, stalled := findCondition(s, v1alpha1.ConditionRuntimeReporting), findCondition(s, v1alpha1.ConditionStalled)
		switch {
		case s.Status.Phase != v1alpha1.PhaseFailed:
			return fmt.Errorf("phase is %q: %s", s.Status.Phase, s.Status.Message)
		case reporting == nil || reporting.Reason != v1alpha1.ReasonPodsCannotRun:
			return fmt.Errorf("condition RuntimeReporting is %+v", reporting)
		case stalled == nil || stalled.Status != metav1.ConditionTrue || stalled.Reason != v1alpha1.ReasonPodsCannotRun:
			return fmt.Errorf("condition Stalled is %+v", stalled)
		default:
			return nil
		}
	})
}

// memoryLimit bounds the memory of the runtime's container.
func memoryLimit(limit string) edit {
	return func(spec *v1alpha1.VirtualMCPServerSpec) {
		memory := corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(limit)}
		spec.Resources = &v1alpha1.ComputeResources{Limits: memory, Requests: memory}
	}
}

func operatorEnv(t *testing.T, name string) string {
	t.Helper()
	value, err := kubectl.Run(t.Context(), "--namespace", operatorNamespace, "get", "deployment", "vmcp-operator",
		"--output=jsonpath={.spec.template.spec.containers[0].env[?(@.name=='"+name+"')].value}")
	if err != nil || value == "" {
		t.Fatalf("variable %s of the operator is %q: %v", name, value, err)
	}
	return value
}

func setOperatorEnv(t *testing.T, assignment string) {
	t.Helper()
	if err := tryOperatorEnv(t.Context(), assignment); err != nil {
		t.Fatal(err)
	}
}

func tryOperatorEnv(ctx context.Context, assignment string) error {
	if _, err := kubectl.Run(ctx, "--namespace", operatorNamespace, "set", "env", "deployment/vmcp-operator", assignment); err != nil {
		return err
	}
	_, err := kubectl.Run(ctx, "--namespace", operatorNamespace, "rollout", "status", "deployment/vmcp-operator", "--timeout=1m")
	return err
}
