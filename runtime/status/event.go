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
	// eventController says in an event who reports, the actions about what.
	eventController = "vmcp.dev/runtime"
	actionPhase     = "ReportPhase"
	actionCatalog   = "ReportCatalog"
)

// record makes events of what a write of the status changed: of another phase, and of new issues of the catalog, one for each reason. Events
// are a courtesy: one that is lost is not repeated, for the status tells the same.
func (k *KubeReporter) record(ctx context.Context, before, after *v1alpha1.VirtualMCPServer) {
	var events []*eventsv1.Event
	if before.Status.Phase != after.Status.Phase {
		events = append(events, transitionEvent(after))
	}
	reasons, issues := newIssues(before.Status.Catalog, after.Status.Catalog)
	for _, reason := range reasons {
		events = append(events, issuesEvent(after, reason, issues[reason]))
	}
	for _, event := range events {
		event.EventTime, event.ReportingInstance = metav1.NowMicro(), k.identity.Reporter
		if _, err := k.clients.Events.Create(ctx, event, metav1.CreateOptions{}); err != nil && ctx.Err() == nil {
			k.logger.Warn("Could not record an event", "virtualMCPServer", k.name, "error", err)
		}
	}
}

// transitionEvent is the event that tells of the object's phase; its reason and note are those of the status.
func transitionEvent(object *v1alpha1.VirtualMCPServer) *eventsv1.Event {
	event := newEvent(object, actionPhase)
	event.Reason, event.Note, event.Type = string(object.Status.Phase), cut(object.Status.Message, maxNote), corev1.EventTypeNormal
	if ready := meta.FindStatusCondition(object.Status.Conditions, v1alpha1.ConditionReady); ready != nil {
		event.Reason = ready.Reason
	}
	if object.Status.Phase != v1alpha1.PhaseReady {
		event.Type = corev1.EventTypeWarning
	}
	return event
}

// issuesEvent is the event that tells of new issues of one reason.
func issuesEvent(object *v1alpha1.VirtualMCPServer, reason string, issues []v1alpha1.CatalogIssue) *eventsv1.Event {
	event := newEvent(object, actionCatalog)
	messages := make([]string, len(issues))
	for i := range issues {
		messages[i] = issues[i].Message
	}
	event.Reason, event.Note, event.Type = reason, cut(named(messages, " "), maxNote), severity(reason)
	return event
}

func newEvent(object *v1alpha1.VirtualMCPServer, action string) *eventsv1.Event {
	return &eventsv1.Event{
		ObjectMeta:          metav1.ObjectMeta{GenerateName: object.Name + "-", Namespace: object.Namespace},
		ReportingController: eventController,
		Action:              action,
		Regarding: corev1.ObjectReference{
			APIVersion: v1alpha1.GroupVersion.String(), Kind: "VirtualMCPServer",
			Namespace: object.Namespace, Name: object.Name, UID: object.UID, ResourceVersion: object.ResourceVersion,
		},
	}
}
