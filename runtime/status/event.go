// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/time/rate"
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
	actionBackends  = "ReportBackends"
	actionCatalog   = "ReportCatalog"

	reasonBackendUnavailable = "BackendUnavailable"
	reasonBackendReady       = "BackendReady"
	reasonCatalogChanged     = "CatalogChanged"

	// eventBurst events may come at once, and one each eventRefill after them: a backend that flaps for days fills nobody's etcd. Kubernetes' own
	// recorder is as sparing.
	eventBurst  = 25
	eventRefill = 30 * time.Second
)

// newEventLimit is that of one reporter.
func newEventLimit() *rate.Limiter { return rate.NewLimiter(rate.Every(eventRefill), eventBurst) }

// record makes the events of a write of the status. They are a courtesy: one that is lost is not repeated, for the status tells the same.
func (k *KubeReporter) record(ctx context.Context, before, after *v1alpha1.VirtualMCPServer) {
	for _, event := range eventsOf(before, after) {
		if !k.eventLimit.Allow() {
			k.leftOut++
			continue
		}
		if k.leftOut > 0 {
			event.Note = cut(fmt.Sprintf("(%d events were left out before this one.) %s", k.leftOut, event.Note), maxNote)
			k.leftOut = 0
		}
		event.EventTime, event.ReportingInstance = metav1.NowMicro(), k.identity.Reporter
		if _, err := k.clients.Events.Create(ctx, event, metav1.CreateOptions{}); err != nil && ctx.Err() == nil {
			k.logger.Warn("Could not record an event", "virtualMCPServer", k.name, "error", err)
		}
	}
}

// eventsOf tell what changed from one status to the next: the phase, which backends are served, how much is offered, and new issues of the
// catalog. Of each kind there is one, whatever number of backends or issues it is about.
func eventsOf(before, after *v1alpha1.VirtualMCPServer) []*eventsv1.Event {
	var events []*eventsv1.Event
	tell := func(action, reason, severity, note string) {
		event := newEvent(after, action)
		event.Reason, event.Type, event.Note = reason, severity, cut(note, maxNote)
		events = append(events, event)
	}
	if before.Status.Phase != after.Status.Phase {
		events = append(events, transitionEvent(after))
	}
	lost, found := transitions(before.Status.DiscoveredBackends, after.Status.DiscoveredBackends)
	if len(lost) > 0 {
		tell(actionBackends, reasonBackendUnavailable, corev1.EventTypeWarning, describeLost(lost))
	}
	if len(found) > 0 {
		tell(actionBackends, reasonBackendReady, corev1.EventTypeNormal, describeFound(found))
	}
	if note := describeCatalog(before.Status.Catalog, after.Status.Catalog); note != "" {
		tell(actionCatalog, reasonCatalogChanged, corev1.EventTypeNormal, note)
	}
	reasons, issues := newIssues(before.Status.Catalog, after.Status.Catalog)
	for _, reason := range reasons {
		tell(actionCatalog, reason, severity(reason), describeIssues(issues[reason]))
	}
	return events
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

func describeIssues(issues []v1alpha1.CatalogIssue) string {
	messages := make([]string, len(issues))
	for i := range issues {
		messages[i] = issues[i].Message
	}
	return named(messages, " ")
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
