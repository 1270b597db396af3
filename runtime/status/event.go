// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

const (
	// maxNote is the most characters that the API server takes in the note of an event.
	maxNote = 1024
	// eventController and eventAction say in an event who reports, and about what.
	eventController = "vmcp.dev/runtime"
	eventAction     = "ReportPhase"
)

// recordTransition makes an event of the phase that the object has now. Events are a courtesy: one that is lost is not repeated, for
// the status tells the same.
func (k *KubeReporter) recordTransition(ctx context.Context, object *v1alpha1.VirtualMCPServer) {
	_, err := k.clients.Events.Create(ctx, transitionEvent(object, k.identity.Reporter, metav1.NowMicro()), metav1.CreateOptions{})
	if err != nil && ctx.Err() == nil {
		k.logger.Warn("Could not record an event", "virtualMCPServer", k.name, "error", err)
	}
}

// transitionEvent is the event that tells of the object's phase; its reason and note are those of the status.
func transitionEvent(object *v1alpha1.VirtualMCPServer, reporter string, now metav1.MicroTime) *eventsv1.Event {
	event := &eventsv1.Event{
		ObjectMeta:          metav1.ObjectMeta{GenerateName: object.Name + "-", Namespace: object.Namespace},
		EventTime:           now,
		ReportingController: eventController,
		ReportingInstance:   reporter,
		Action:              eventAction,
		Reason:              string(object.Status.Phase),
		Regarding: corev1.ObjectReference{
			APIVersion: v1alpha1.GroupVersion.String(), Kind: "VirtualMCPServer",
			Namespace: object.Namespace, Name: object.Name, UID: object.UID, ResourceVersion: object.ResourceVersion,
		},
		Note: cut(object.Status.Message, maxNote),
		Type: corev1.EventTypeNormal,
	}
	if ready := meta.FindStatusCondition(object.Status.Conditions, v1alpha1.ConditionReady); ready != nil {
		event.Reason = ready.Reason
	}
	if object.Status.Phase != v1alpha1.PhaseReady {
		event.Type = corev1.EventTypeWarning
	}
	return event
}
