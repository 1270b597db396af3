// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"testing"

	. "github.com/onsi/gomega"

	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

func TestTransitions(t *testing.T) {
	t.Parallel()
	// said are conditions of a generation of their own, which is no difference that is worth an event.
	generation := int64(0)
	said := func(verdicts map[string]verdict) []metav1ac.ConditionApplyConfiguration {
		generation++
		var all []metav1ac.ConditionApplyConfiguration
		for conditionType, v := range verdicts {
			all = append(all, *metav1ac.Condition().WithType(conditionType).WithStatus(v.status).WithReason(v.reason).
				WithMessage(v.message).WithObservedGeneration(generation))
		}
		return all
	}
	stalled := func(v verdict) map[string]verdict { return map[string]verdict{v1alpha1.ConditionStalled: v} }
	reporting := func(v verdict) map[string]verdict {
		return map[string]verdict{v1alpha1.ConditionRuntimeReporting: v}
	}
	none := map[string]verdict{}
	reports := isTrue(v1alpha1.ReasonReporting, "the runtime reports")
	lost := isFalse(v1alpha1.ReasonHeartbeatLost, "lost")
	for name, test := range map[string]struct {
		have, want map[string]verdict
		told       []string
	}{
		"a new object":               {none, reporting(isUnknown(v1alpha1.ReasonNotYetReported, "")), nil},
		"stalled from the start":     {none, stalled(isTrue("GroupNotFound", "no group")), []string{"Warning GroupNotFound Provision no group"}},
		"stalled for another reason": {stalled(isTrue("GroupNotFound", "")), stalled(isTrue("NotOwned", "theirs")), []string{"Warning NotOwned Provision theirs"}},
		"stalled in other words":     {stalled(isTrue("GroupNotFound", "no group")), stalled(isTrue("GroupNotFound", "no such group")), nil},
		"no longer stalled":          {stalled(isTrue("GroupNotFound", "")), none, []string{"Normal StalledResolved Provision no longer stalled by GroupNotFound"}},
		"the first report": {
			reporting(isUnknown(v1alpha1.ReasonNotYetReported, "")), reporting(reports),
			[]string{"Normal Reporting Provision the runtime made its first report"},
		},
		"the first report of pods that could not run": {
			reporting(isFalse(v1alpha1.ReasonPodsCannotRun, "")), reporting(reports),
			[]string{"Normal Reporting Provision the runtime made its first report"},
		},
		"reports go on":                          {reporting(reports), reporting(reports), nil},
		"a status of before there was the word":  {none, reporting(reports), nil},
		"silence":                                {reporting(reports), reporting(lost), []string{"Warning HeartbeatLost TakeOver lost"}},
		"silence for another reason":             {reporting(lost), reporting(isFalse(v1alpha1.ReasonReleased, "released")), nil},
		"reports again":                          {reporting(lost), reporting(reports), []string{"Normal Reporting GiveBack the runtime reports again"}},
		"pods that could not run may run by now": {reporting(isFalse(v1alpha1.ReasonPodsCannotRun, "")), reporting(isUnknown(v1alpha1.ReasonNotYetReported, "")), nil},
	} {
		g := NewWithT(t)
		var told []string
		for _, e := range transitions(said(test.have), said(test.want)) {
			told = append(told, e.eventType+" "+e.reason+" "+e.action+" "+e.note)
		}
		g.Expect(told).To(Equal(test.told), name)
	}
}
