// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	acv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
)

// virtualMCPServerFacts are what one reconciliation found out. The phases of the controller fill it in; the status is computed
// from nothing else but it and the object.
type virtualMCPServerFacts struct {
	// invalid are the mistakes of the spec; with any of them nothing else was tried.
	invalid field.ErrorList
	// groupFound says whether the MCPGroup exists; without it nothing further was tried.
	groupFound bool
	// renderErr says why the objects could not be rendered; then nothing was applied.
	renderErr error
	// failed is the condition of the step that could not be done, and failedErr says why; the steps after it were not tried.
	failed    string
	failedErr error
	// unbound are the MCPExternalAuthConfigs whose Roles could not be bound or unbound. That stops nothing.
	unbound []authFailure
	// deployment and service are the live objects, as far as they are there and ours.
	deployment *appsv1.Deployment
	service    *corev1.Service
	// lease is the live Lease, if it is there and ours, and heartbeat what is known of it.
	lease     *coordinationv1.Lease
	heartbeat heartbeat
	// reported says that the runtime has made a report, ever.
	reported bool
	// resolved are the backends of a gateway in static mode.
	resolved []configv1alpha1.Backend
	// operatorEntries and runtimeEntries are the parts of status.discoveredBackends that each of them owns.
	operatorEntries, runtimeEntries []acv1alpha1.DiscoveredBackendApplyConfiguration
	// operatorHolds and runtimeHolds say who owns phase, and the other shared fields with it: one of them, both, or neither.
	operatorHolds, runtimeHolds bool
	// podProblem is why the pods cannot run; nil if they can, or if that is not examined.
	podProblem *podProblem
}

// steps are the conditions of what is applied, in that order.
var steps = []string{
	v1alpha1.ConditionRBACReady,
	v1alpha1.ConditionConfigReady,
	v1alpha1.ConditionDeploymentReady,
	v1alpha1.ConditionServiceReady,
}

// newVirtualMCPServerStatus is all that the operator owns of a status, whole: what it leaves out is deleted. phase, message, the
// verdicts in discoveredBackends and the rest are the runtime's and appear here only while it does not report (see substitute).
func newVirtualMCPServerStatus(
	s *v1alpha1.VirtualMCPServer, f virtualMCPServerFacts, now time.Time,
) *acv1alpha1.VirtualMCPServerStatusApplyConfiguration {
	c := conditions{old: s.Status.Conditions, generation: s.Generation, now: now}
	obstacle, stalled := f.obstacle(s)

	c.add(v1alpha1.ConditionGroupRefValid, f.groupVerdict(s))
	c.add(v1alpha1.ConditionOperandRendered, f.renderVerdict(obstacle))
	for _, step := range steps {
		c.add(step, f.stepVerdict(step, obstacle))
	}
	if stalled != "" {
		c.add(v1alpha1.ConditionStalled, isTrue(stalled, obstacle))
	}
	instead := f.substitute(s, obstacle)
	c.add(v1alpha1.ConditionRuntimeReporting, f.reportingVerdict(instead))
	if instead != nil {
		c.add(v1alpha1.ConditionReady, instead.ready)
	}
	status := acv1alpha1.VirtualMCPServerStatus().WithURL(s.URL()).WithConditions(c.built...)
	if g := f.observedGeneration(s, stalled != ""); g > 0 {
		status.WithObservedGeneration(g)
	}
	backends := f.describedBackends(s)
	if instead != nil {
		instead.apply(s, status, backends, now)
	}
	return status.WithDiscoveredBackends(backends.list...)
}

// obstacle is what is in the way of the present generation, in a sentence, or "". If only a person can remove it, stalled is the
// reason in a word.
func (f *virtualMCPServerFacts) obstacle(s *v1alpha1.VirtualMCPServer) (message, stalled string) {
	switch {
	case len(f.invalid) > 0:
		return f.invalid.ToAggregate().Error(), v1alpha1.ReasonInvalidSpec
	case !f.groupFound:
		return f.groupVerdict(s).message, v1alpha1.ReasonGroupNotFound
	case f.renderErr != nil:
		return f.renderErr.Error(), v1alpha1.ReasonRenderFailed
	case f.failedErr != nil:
		v := failure(f.failedErr)
		if needsPerson(f.failedErr) {
			stalled = v.reason
		}
		return v.message, stalled
	}
	if f.podProblem != nil {
		return f.podProblem.message, v1alpha1.ReasonPodsCannotRun
	}
	if f.deployment != nil {
		if v := deploymentVerdict(f.deployment); v.reason == v1alpha1.ReasonProgressDeadlineExceeded {
			return v.message, v.reason
		}
	}
	return "", ""
}

func (f *virtualMCPServerFacts) groupVerdict(s *v1alpha1.VirtualMCPServer) verdict {
	name := s.Spec.GroupRef.Name
	switch {
	case len(f.invalid) > 0:
		return blocked("the spec is invalid")
	case !f.groupFound:
		return isFalse(v1alpha1.ReasonGroupNotFound,
			fmt.Sprintf("MCPGroup %q does not exist in namespace %q; what runs already goes on unchanged", name, s.Namespace))
	default:
		return isTrue(v1alpha1.ReasonGroupFound, fmt.Sprintf("MCPGroup %q exists", name))
	}
}

func (f *virtualMCPServerFacts) renderVerdict(obstacle string) verdict {
	switch {
	case len(f.invalid) > 0:
		return isFalse(v1alpha1.ReasonInvalidSpec, obstacle)
	case !f.groupFound:
		return blocked(obstacle)
	case f.renderErr != nil:
		return isFalse(v1alpha1.ReasonRenderFailed, obstacle)
	default:
		return isTrue(v1alpha1.ReasonRendered, "the objects to provision were rendered")
	}
}

// stepVerdict judges one of steps. A Deployment and a Service that are there are judged by themselves, whatever stands in the way
// of the present generation: what runs goes on.
func (f *virtualMCPServerFacts) stepVerdict(step, obstacle string) verdict {
	if step == f.failed {
		return failure(f.failedErr)
	}
	switch {
	case step == v1alpha1.ConditionDeploymentReady && f.deployment != nil:
		return deploymentVerdict(f.deployment)
	case step == v1alpha1.ConditionServiceReady && f.service != nil:
		return serviceVerdict(f.service)
	case !f.applied(step) && step == v1alpha1.ConditionDeploymentReady:
		return isFalse(v1alpha1.ReasonBlocked, "there is no Deployment: "+obstacle)
	case !f.applied(step) && step == v1alpha1.ConditionServiceReady:
		return isFalse(v1alpha1.ReasonBlocked, "there is no Service: "+obstacle)
	case !f.applied(step):
		return blocked(obstacle)
	case step == v1alpha1.ConditionRBACReady && authVerdict(f.unbound).reason != "":
		return authVerdict(f.unbound)
	default:
		return isTrue(v1alpha1.ReasonApplied, "the objects are as rendered")
	}
}

// applied says whether the step was done.
func (f *virtualMCPServerFacts) applied(step string) bool {
	if len(f.invalid) > 0 || !f.groupFound || f.renderErr != nil {
		return false
	}
	for _, s := range steps {
		if s == f.failed {
			return false
		}
		if s == step {
			return true
		}
	}
	return false
}

// observedGeneration rises to the present generation when every pod serves it, by the runtime's own word, or when the operator's
// verdict is that it cannot be served. It never falls.
func (f *virtualMCPServerFacts) observedGeneration(s *v1alpha1.VirtualMCPServer, stalled bool) int64 {
	served := f.applied(v1alpha1.ConditionServiceReady) && f.deployment != nil &&
		deploymentVerdict(f.deployment).status == metav1.ConditionTrue &&
		s.Status.Runtime != nil && s.Status.Runtime.ObservedGeneration >= s.Generation
	if served || stalled {
		return s.Generation
	}
	return s.Status.ObservedGeneration
}

func serviceVerdict(s *corev1.Service) verdict {
	if s.Spec.ClusterIP == "" {
		return isFalse(v1alpha1.ReasonNoAddress, "the Service has no cluster address yet")
	}
	return isTrue(v1alpha1.ReasonAddressAssigned, "the Service has the cluster address "+s.Spec.ClusterIP)
}
