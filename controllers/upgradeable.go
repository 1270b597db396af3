// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// What the operator says to OLM about itself. None of it is a condition of one of our own kinds.
const (
	// reasonStarting says that no leader of this version has looked yet at what it has to roll out.
	reasonStarting = "Starting"
	// reasonNoLeader says that none came to a verdict within progressDeadline.
	reasonNoLeader = "NoLeader"
	// reasonRollingOut says that pods are being replaced because this version provisions them in another way.
	reasonRollingOut = "RollingOut"
	// reasonRolledOut says that none are.
	reasonRolledOut = "RolledOut"
	// reasonNotExamined is why an object is not waited for that could not be reconciled within progressDeadline.
	reasonNotExamined = "NotExamined"

	reasonAllAvailable    = "AllAvailable"
	reasonSomeUnavailable = "SomeUnavailable"
	reasonNoOperands      = "NoOperands"
)

const (
	// progressDeadline is the longest time for which one cause keeps OLM from upgrading the operator: that of
	// spec.progressDeadlineSeconds where a Deployment does not say. One that says less is waited for less.
	progressDeadline = 10 * time.Minute
	// namedAtMost is how many objects a message names.
	namedAtMost = 5
)

// operandState is what is known, when the operator judges itself, of one object whose pods run what this version brings: a
// VirtualMCPServer, or an MCPBackend with a bridge in its pods.
type operandState struct {
	object client.Object
	// deployment is that of its pods, or nil.
	deployment *appsv1.Deployment
	// examined says that this process has provisioned what the object asks for, or cannot, and that deployment shows it.
	examined bool
	// stalled is the reason for which only a person can help the object, or "".
	stalled string
}

func (o operandState) name() string {
	name := o.object.GetNamespace() + "/" + o.object.GetName()
	if _, server := o.object.(*v1alpha1.VirtualMCPServer); server {
		return name
	}
	return kindOf(o.object) + " " + name
}

// served says whether every pod ran the present generation of the spec at some time.
func (o operandState) served() bool {
	switch object := o.object.(type) {
	case *v1alpha1.VirtualMCPServer:
		return object.Status.ObservedGeneration >= object.Generation
	case *v1alpha1.MCPBackend:
		return servesGeneration(o.deployment, object.Generation)
	default:
		return false
	}
}

func (o operandState) failing(reason string) string { return o.name() + " (" + reason + ")" }

// rollout says whether pods of an earlier template are being replaced because the operator provisions them in another way,
// and until when that may last. It is not what a person is the cause of: a generation of the object that was never served before, and
// a template that somebody else had the last word on, "kubectl rollout restart" for example.
func (o operandState) rollout() (deadline time.Time, rolling bool) {
	d := o.deployment
	if d == nil || !o.served() {
		return time.Time{}, false
	}
	// Until the Deployment controller has seen a change, its status is about what was before.
	unseen := d.Status.ObservedGeneration < d.Generation && d.Status.Replicas > 0
	if !unseen && d.Status.Replicas <= d.Status.UpdatedReplicas {
		return time.Time{}, false
	}
	since, ours := templateChange(d)
	if !ours {
		return time.Time{}, false
	}
	// A patch may set a deadline of years, and one gateway must not keep the operator of all of them back for as long.
	patience := progressDeadline
	if seconds := d.Spec.ProgressDeadlineSeconds; seconds != nil {
		patience = min(patience, time.Duration(*seconds)*time.Second)
	}
	return since.Add(patience), true
}

// templateChange finds the newest entry of managedFields that holds something of the pod template: its time, and whether it is the
// operator's. Of entries of the same second the operator's counts. The Deployment controller and autoscalers write subresources.
func templateChange(d *appsv1.Deployment) (at time.Time, ours bool) {
	for i := range d.ManagedFields {
		e := &d.ManagedFields[i]
		if e.Subresource != "" || e.Time == nil || !holdsTemplate(e.FieldsV1) {
			continue
		}
		operator := e.Manager == v1alpha1.OperatorFieldManager
		if e.Time.After(at) || (operator && e.Time.Time.Equal(at)) {
			at, ours = e.Time.Time, operator
		}
	}
	return at, ours
}

func holdsTemplate(fields *metav1.FieldsV1) bool {
	if fields == nil {
		return false
	}
	set := &fieldpath.Set{}
	if err := set.FromJSON(bytes.NewReader(fields.GetRawBytes())); err != nil {
		return false
	}
	spec, template := "spec", "template"
	return !set.WithPrefix(fieldpath.PathElement{FieldName: &spec}).WithPrefix(fieldpath.PathElement{FieldName: &template}).Empty()
}

// upgradeable judges whether OLM may replace this version of the operator: not while pods are replaced on its account, for one
// replacement at a time is enough. What fails for a reason of its own is named and not waited for, and neither is anything longer
// than its progress deadline, or ours. A leader that started at a time and has not examined everything yet has no verdict, unless it
// knows of a rollout: what was said before stands. The second result is when the verdict changes by time alone, or zero.
func upgradeable(operands []operandState, started, now time.Time) (verdict, time.Time) {
	var rolling, failing []string
	var again time.Time
	unexamined := 0
	waits := now.Before(started.Add(progressDeadline))
	for _, o := range operands {
		deadline, replaced := o.rollout()
		switch {
		case !o.examined && waits:
			unexamined++
			again = earliest(again, started.Add(progressDeadline))
		case o.stalled != "":
			failing = append(failing, o.failing(o.stalled))
		case !o.examined:
			failing = append(failing, o.failing(reasonNotExamined))
		case replaced && now.Before(deadline):
			rolling = append(rolling, o.name())
			again = earliest(again, deadline)
		case replaced:
			failing = append(failing, o.failing(v1alpha1.ReasonProgressDeadlineExceeded))
		}
	}
	aside := ""
	if len(failing) > 0 {
		aside = "; not waited for: " + few(failing)
	}
	switch {
	case len(rolling) > 0:
		return isFalse(reasonRollingOut, fmt.Sprintf("this version replaces the pods of %d of %d VirtualMCPServers and stdio MCPBackends: %s%s",
			len(rolling), len(operands), few(rolling), aside)), again
	case unexamined > 0:
		return verdict{}, again
	default:
		return isTrue(reasonRolledOut, "this version replaces no pods of VirtualMCPServers or stdio MCPBackends"+aside), again
	}
}

// operandsAvailable sums up what the operator says of its VirtualMCPServers in their conditions: whether each is provisioned as its spec asks,
// has pods that are available and a runtime that reports. Whether backends work is for the runtimes to say, each in its own status.
func operandsAvailable(operands []operandState) verdict {
	var failing []string
	for _, o := range operands {
		if reason := o.unavailable(); reason != "" {
			failing = append(failing, o.failing(reason))
		}
	}
	switch n := len(operands); {
	case n == 0:
		return isTrue(reasonNoOperands, "there are no VirtualMCPServers")
	case len(failing) == 0:
		return isTrue(reasonAllAvailable, fmt.Sprintf("%d of %d VirtualMCPServers are available", n, n))
	default:
		return isFalse(reasonSomeUnavailable, fmt.Sprintf("%d of %d VirtualMCPServers are available; not: %s",
			n-len(failing), n, few(failing)))
	}
}

// unavailable is why a VirtualMCPServer does not count as available, in a word, or "". One that was scaled to zero is as it should be.
func (o operandState) unavailable() string {
	switch {
	case o.stalled != "":
		return o.stalled
	case o.deployment == nil:
		return v1alpha1.ReasonProgressing
	case ptr.Deref(o.deployment.Spec.Replicas, 1) == 0:
		return ""
	case o.deployment.Status.AvailableReplicas == 0:
		return v1alpha1.ReasonProgressing
	}
	reporting := meta.FindStatusCondition(conditionsOf(o.object), v1alpha1.ConditionRuntimeReporting)
	switch {
	case reporting == nil:
		return v1alpha1.ReasonNotYetReported
	case reporting.Status != metav1.ConditionTrue:
		return reporting.Reason
	default:
		return ""
	}
}

// few names the first of some, in their order, and counts the rest.
func few(names []string) string {
	names = slices.Sorted(slices.Values(names))
	if rest := len(names) - namedAtMost; rest > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:namedAtMost], ", "), rest)
	}
	return strings.Join(names, ", ")
}

// earliest is the earlier of two times; a zero time is none.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}
