// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// Events tell what changed, conditions what is. An event is the difference between what the operator said of an object before a
// write of the status and after it, so that there is none while nothing changes, none after a restart, and none for a write that the
// API server refused.

// What an event says was done, in its field action.
const (
	actionProvision = "Provision"
	actionPause     = "Pause"
	actionResume    = "Resume"
)

// Reasons of events that are no reasons of conditions: they tell that a condition went away.
const (
	// reasonStalledResolved says that what only a person could change was changed.
	reasonStalledResolved = "StalledResolved"
	// reasonPaused says that the operator leaves the object alone from now on.
	reasonPaused = "Paused"
	// reasonResumed says that the operator no longer leaves the object alone.
	reasonResumed = "Resumed"
)

// transition is an event about an object that is yet to be recorded.
type transition struct {
	eventType string
	reason    string
	action    string
	note      string
}

// transitions are what there is to tell when the operator's conditions of an object change from have to want. A message that changes
// while its condition stays is nothing new.
func transitions(have, want []metav1ac.ConditionApplyConfiguration) []transition {
	var told []transition
	tell := func(eventType, reason, action, note string) {
		told = append(told, transition{eventType, reason, action, note})
	}
	switch before, after := verdictOf(have, v1alpha1.ConditionPaused), verdictOf(want, v1alpha1.ConditionPaused); {
	case before.status != metav1.ConditionTrue && after.status == metav1.ConditionTrue:
		tell(corev1.EventTypeNormal, reasonPaused, actionPause, after.message)
	case before.status == metav1.ConditionTrue && after.status != metav1.ConditionTrue:
		tell(corev1.EventTypeNormal, reasonResumed, actionResume, "the operator no longer leaves this object alone")
	}
	switch before, after := verdictOf(have, v1alpha1.ConditionStalled), verdictOf(want, v1alpha1.ConditionStalled); {
	case after.status == metav1.ConditionTrue && (before.status != metav1.ConditionTrue || before.reason != after.reason):
		tell(corev1.EventTypeWarning, after.reason, actionProvision, after.message)
	case before.status == metav1.ConditionTrue && after.status != metav1.ConditionTrue:
		tell(corev1.EventTypeNormal, reasonStalledResolved, actionProvision, "no longer stalled by "+before.reason)
	}
	before, reporting := verdictOf(have, v1alpha1.ConditionRuntimeReporting), verdictOf(want, v1alpha1.ConditionRuntimeReporting)
	switch h, _ := handOverOf(have, want); {
	case h == takeOver:
		tell(corev1.EventTypeWarning, reporting.reason, string(takeOver), reporting.message)
	case h == giveBack:
		tell(corev1.EventTypeNormal, reporting.reason, string(giveBack), "the runtime reports again")
	case before.status != "" && before.status != metav1.ConditionTrue && reporting.status == metav1.ConditionTrue:
		tell(corev1.EventTypeNormal, reporting.reason, actionProvision, "the runtime made its first report")
	}
	return told
}

// announce records what changed about an object with a write of its conditions. It does not wait for the API server, and an event that
// cannot be written is lost: events are a courtesy.
func (c Client) announce(o client.Object, have, want []metav1ac.ConditionApplyConfiguration) {
	c.tell(o, transitions(have, want)...)
}

func (c Client) tell(o client.Object, told ...transition) {
	if c.Events == nil {
		return
	}
	// Without a resourceVersion: events about one object are one series only if they refer to it in the same way.
	regarding := &corev1.ObjectReference{
		APIVersion: v1alpha1.GroupVersion.String(), Kind: kindOf(o), Namespace: o.GetNamespace(), Name: o.GetName(), UID: o.GetUID(),
	}
	for _, t := range told {
		c.Events.Eventf(regarding, nil, t.eventType, t.reason, t.action, "%s", t.note)
	}
}
