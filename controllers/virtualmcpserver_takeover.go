// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	acv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
)

// Phase, message, the condition Ready and the verdicts on backends are the runtime's. The operator writes them in its place as
// long as nobody has reported, and from the moment at which the reporter counts as gone until it reports again:
//
//	            first report            reporter is gone
//	operator ───────────────▶ runtime ───────────────────▶ operator
//	(Pending, Failed)                 ◀─────────────────── (Unknown, Failed)
//	                                      next report
//
// The runtime takes the fields by force. The operator lets go of them only after managedFields show that the runtime has them: a
// field that nobody applies any more vanishes.

// healInterval is the least time between two writes that put right what somebody else did to the operator's part of a status.
const healInterval = 5 * time.Second

// stopped is what is said of a runtime that stopped reporting, by reason.
var stopped = map[string]string{
	v1alpha1.ReasonHeartbeatLost: fmt.Sprintf("the runtime stopped reporting: its Lease has not been renewed for %s", heartbeatTimeout),
	v1alpha1.ReasonReleased:      "the runtime stopped reporting: it released its Lease, and no other replica took it",
}

// substitute is what the operator says while the runtime does not report.
type substitute struct {
	phase v1alpha1.Phase
	// ready is the condition Ready. Its message is also that of the status.
	ready verdict
	// reporting is the condition RuntimeReporting. Its message is also that of the backends.
	reporting verdict
	// backends says that what the runtime said of backends is no longer known.
	backends bool
}

// silence is why the operator speaks in place of the runtime, as the reason of RuntimeReporting; "": the runtime does, or no one.
func (f *virtualMCPServerFacts) silence(s *v1alpha1.VirtualMCPServer) string {
	switch {
	case !f.reported:
		return v1alpha1.ReasonNotYetReported
	case f.heartbeat.lost != "" && (!f.runtimeHolds || !f.heartbeat.takenOver):
		return f.heartbeat.lost
	case f.operatorHolds && !f.runtimeHolds:
		// Whoever has the Lease now has not reported yet.
		if reason := reasonOf(s.Status.Conditions, v1alpha1.ConditionRuntimeReporting); stopped[reason] != "" {
			return reason
		}
		return v1alpha1.ReasonHeartbeatLost
	default:
		return ""
	}
}

// substitute decides whether the operator speaks in place of the runtime, and says what; nil: the runtime does, or no one.
func (f *virtualMCPServerFacts) substitute(s *v1alpha1.VirtualMCPServer, obstacle string) *substitute {
	reason := f.silence(s)
	cannotRun := func() verdict { return isFalse(v1alpha1.ReasonPodsCannotRun, f.podProblem.message) }
	switch {
	case reason == "":
		return nil
	case reason == v1alpha1.ReasonNotYetReported && f.podProblem != nil:
		return &substitute{phase: v1alpha1.PhaseFailed, ready: cannotRun(), reporting: cannotRun()}
	case reason == v1alpha1.ReasonNotYetReported:
		awaited := isUnknown(reason, f.awaited(obstacle))
		return &substitute{phase: v1alpha1.PhasePending, ready: awaited, reporting: awaited}
	}
	t := &substitute{
		phase: v1alpha1.PhaseUnknown, ready: isUnknown(reason, stopped[reason]), reporting: isFalse(reason, stopped[reason]), backends: true,
	}
	if f.podProblem != nil {
		t.phase, t.ready = v1alpha1.PhaseFailed, cannotRun()
	}
	return t
}

func reasonOf(conditions []metav1.Condition, conditionType string) string {
	if c := meta.FindStatusCondition(conditions, conditionType); c != nil {
		return c.Reason
	}
	return ""
}

// awaited says what has to happen before the first report.
func (f *virtualMCPServerFacts) awaited(obstacle string) string {
	if obstacle != "" {
		return "not reported yet: " + obstacle
	}
	if f.deployment != nil {
		if v := deploymentVerdict(f.deployment); v.status != metav1.ConditionTrue {
			return "waiting for the runtime to start: " + v.message
		}
	}
	return "waiting for the first report of the runtime"
}

// reportingVerdict is the condition RuntimeReporting. It turns true with the first report, not with the Lease, and together with
// the give-back, so that a return costs one write.
func (f *virtualMCPServerFacts) reportingVerdict(sub *substitute) verdict {
	switch {
	case sub == nil && f.heartbeat.lost != "":
		return isFalse(f.heartbeat.lost, stopped[f.heartbeat.lost])
	case sub == nil:
		return isTrue(v1alpha1.ReasonReporting, "the runtime reports")
	default:
		return sub.reporting
	}
}

// apply adds the fields that are shared with the runtime to a status, and to the entries of backends the verdict that nobody knows. Of
// backends it touches what is there or described and nothing else.
func (t *substitute) apply(
	s *v1alpha1.VirtualMCPServer, status *acv1alpha1.VirtualMCPServerStatusApplyConfiguration, backends *entries, now time.Time,
) {
	status.WithPhase(t.phase).WithMessage(truncate(t.ready.message, maxMessage))
	if !t.backends {
		return
	}
	if s.Status.Backends != nil {
		status.WithBackends(acv1alpha1.BackendsSummary().WithReady(0))
	}
	since := map[entryKey]metav1.Time{}
	for i := range s.Status.DiscoveredBackends {
		entry := &s.Status.DiscoveredBackends[i]
		key := entryKey{entry.Kind, entry.Name}
		backends.of(key)
		if entry.Status == v1alpha1.BackendUnknown && !entry.LastTransitionTime.IsZero() {
			since[key] = entry.LastTransitionTime
		}
	}
	for _, entry := range backends.list {
		at, unchanged := since[keyOf(entry)]
		if !unchanged {
			at = metav1.NewTime(now.Truncate(time.Second))
		}
		entry.
			WithStatus(v1alpha1.BackendUnknown).
			WithReason(v1alpha1.ReasonNoReport).
			WithMessage(t.reporting.message).
			WithLastTransitionTime(at)
	}
}

// sortStatus orders the lists of a status that are maps. The order in which the API server keeps them depends on who wrote first.
func sortStatus(status *acv1alpha1.VirtualMCPServerStatusApplyConfiguration) *acv1alpha1.VirtualMCPServerStatusApplyConfiguration {
	if status == nil {
		return nil
	}
	status.Conditions = sortConditions(status.Conditions)
	slices.SortFunc(status.DiscoveredBackends, func(a, b acv1alpha1.DiscoveredBackendApplyConfiguration) int {
		return cmp.Or(cmp.Compare(ptr.Deref(a.Kind, ""), ptr.Deref(b.Kind, "")), cmp.Compare(ptr.Deref(a.Name, ""), ptr.Deref(b.Name, "")))
	})
	return status
}

// observeOwners finds out who owns the shared fields. Phase stands for all of them: each writer applies it whenever it applies any.
func (f *virtualMCPServerFacts) observeOwners(s *v1alpha1.VirtualMCPServer) error {
	ownedBy := func(manager string) (holds bool, backends []acv1alpha1.DiscoveredBackendApplyConfiguration, err error) {
		owned, err := acv1alpha1.ExtractVirtualMCPServerStatus(s, manager)
		switch {
		case err != nil:
			return false, nil, unreadable(err)
		case owned.Status == nil:
			return false, nil, nil
		default:
			return owned.Status.Phase != nil, owned.Status.DiscoveredBackends, nil
		}
	}
	var err error
	if f.operatorHolds, f.operatorEntries, err = ownedBy(v1alpha1.OperatorFieldManager); err != nil {
		return err
	}
	if f.runtimeHolds, f.runtimeEntries, err = ownedBy(v1alpha1.RuntimeFieldManager); err != nil {
		return err
	}
	f.reported = f.runtimeHolds || s.Status.Runtime != nil
	return nil
}

// observeHeartbeat judges whether the reporter is gone, if there has ever been one. It returns when to look again, zero for never.
func (r *VirtualMCPServerReconciler) observeHeartbeat(ctx context.Context, scope *virtualMCPServerScope) time.Time {
	f := &scope.facts
	if f.lease == nil {
		return time.Time{}
	}
	at, key := now(r.Now), client.ObjectKeyFromObject(f.lease)
	_, f.heartbeat = r.heartbeats.update(key, at, func(h heartbeat) heartbeat { return h.see(f.lease, at) })
	if !f.reported {
		return time.Time{}
	}
	if next := f.heartbeat.nextLook(); !next.IsZero() && !at.Before(next) {
		reading, cancel := context.WithTimeout(ctx, lookTimeout)
		lease, err := find[coordinationv1.Lease](reading, r.Client.Live, key)
		cancel()
		at = now(r.Now)
		_, f.heartbeat = r.heartbeats.update(key, at, func(h heartbeat) heartbeat {
			if err != nil || lease == nil {
				return h.blind(at)
			}
			return h.look(lease, at)
		})
		if err != nil {
			log.FromContext(ctx).Info("Could not read the Lease of the runtime; how long it has been silent is counted anew", "error", err.Error())
		}
	}
	if f.heartbeat.lost != "" {
		return time.Time{}
	}
	return f.heartbeat.nextLook()
}

// settle notes that the status says what the facts ask for.
func (r *VirtualMCPServerReconciler) settle(scope *virtualMCPServerScope, want *acv1alpha1.VirtualMCPServerStatusApplyConfiguration) {
	f := &scope.facts
	if f.lease == nil || f.heartbeat.lost == "" || want.Phase == nil {
		return
	}
	r.heartbeats.update(client.ObjectKeyFromObject(f.lease), now(r.Now), func(h heartbeat) heartbeat {
		h.takenOver = h.takenOver || h.lost != "" && h.uid == f.heartbeat.uid && h.changed.Equal(f.heartbeat.changed)
		return h
	})
}

// handOver is a change of who speaks for a runtime.
type handOver string

const (
	noHandOver handOver = ""
	// takeOver: the runtime stopped reporting, and the operator speaks in its place.
	takeOver handOver = "TakeOver"
	// giveBack: a runtime that had stopped reporting reports again.
	giveBack handOver = "GiveBack"
)

// handOverOf compares the operator's conditions before and after a write; reason is that of the condition RuntimeReporting after it.
// The operator alone owns that condition, so that what it said before is known to a new process, too.
func handOverOf(have, want []metav1ac.ConditionApplyConfiguration) (h handOver, reason string) {
	before, after := verdictOf(have, v1alpha1.ConditionRuntimeReporting), verdictOf(want, v1alpha1.ConditionRuntimeReporting)
	silent, wasSilent := stopped[after.reason] != "", stopped[before.reason] != ""
	switch {
	case silent && !wasSilent:
		return takeOver, after.reason
	case wasSilent && after.status == metav1.ConditionTrue:
		return giveBack, after.reason
	default:
		return noHandOver, after.reason
	}
}

// tellHandOver logs and counts a change of who speaks.
func tellHandOver(ctx context.Context, have, want []metav1ac.ConditionApplyConfiguration) {
	h, reason := handOverOf(have, want)
	switch h {
	case takeOver:
		log.FromContext(ctx).Info("The runtime stopped reporting: its part of the status is unknown now", "reason", reason)
	case giveBack:
		log.FromContext(ctx).Info("The runtime reports again: its part of the status is its own")
	case noHandOver:
	}
	countHandOver(h, reason)
}

// statusWrite is the last status that this process applied to an object.
type statusWrite struct {
	uid    types.UID
	status *acv1alpha1.VirtualMCPServerStatusApplyConfiguration
	at     time.Time
}

// statusWrites keeps the statusWrite of each object. The zero value is ready for use.
type statusWrites struct{ perObject[statusWrite] }

// notBefore is when want may be written, given that we own have: at once, unless somebody else has changed our last write. Then we
// heal, and another who heals the other way is not to keep us busy. A cache that lags behind our last write looks the same, and is
// worth waiting for, too. A runtime that takes back what is its own is no such case.
func (w *statusWrites) notBefore(
	s *v1alpha1.VirtualMCPServer, have, want *acv1alpha1.VirtualMCPServerStatusApplyConfiguration, runtimeHolds bool,
) time.Time {
	last, ok := w.get(client.ObjectKeyFromObject(s))
	if !ok || last.uid != s.UID || equality.Semantic.DeepEqual(have, last.status) {
		return time.Time{}
	}
	if givenBack := runtimeHolds && last.status.Phase != nil && want.Phase == nil; givenBack {
		return time.Time{}
	}
	return last.at.Add(healInterval)
}
