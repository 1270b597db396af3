// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	acv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
)

// mcpBackendFacts are what one reconciliation of an MCPBackend found out.
type mcpBackendFacts struct {
	// invalid are the mistakes of the spec; with any of them nothing else was tried.
	invalid field.ErrorList
	// groupFound says whether the MCPGroup exists; without it nothing new is deployed.
	groupFound bool
	// credentials are the Secrets that the workload names.
	credentials credentials
	// refusal says why the ServiceAccount or a Secret of the workload may not be used; its zero value says that they may.
	refusal verdict
	// failedErr says why something could not be provisioned.
	failedErr error
	// deployment is the live Deployment of a workload, if there is one and it is ours.
	deployment *appsv1.Deployment
	// service is the live Service that a service backend names, if there is one.
	service *corev1.Service
}

// newMCPBackendStatus is the whole status of an MCPBackend; the operator is its only writer.
func newMCPBackendStatus(
	b *v1alpha1.MCPBackend, f mcpBackendFacts, now time.Time,
) *acv1alpha1.MCPBackendStatusApplyConfiguration {
	c := conditions{old: b.Status.Conditions, generation: b.Generation, now: now}
	c.add(v1alpha1.ConditionGroupRefValid, f.groupVerdict(b))
	ready := f.readyVerdict(b)
	c.add(v1alpha1.ConditionReady, ready)
	if reason, message := f.stalled(b, ready); reason != "" {
		c.add(v1alpha1.ConditionStalled, isTrue(reason, message))
	}
	status := acv1alpha1.MCPBackendStatus().WithObservedGeneration(b.Generation).WithConditions(c.built...)
	if url := b.URL(); url != "" && len(f.invalid) == 0 {
		status.WithURL(url)
	}
	return status
}

func (f *mcpBackendFacts) groupVerdict(b *v1alpha1.MCPBackend) verdict {
	name := b.Spec.GroupRef.Name
	switch {
	case len(f.invalid) > 0:
		return blocked("the spec is invalid")
	case !f.groupFound:
		return isFalse(v1alpha1.ReasonGroupNotFound, fmt.Sprintf("MCPGroup %q does not exist in namespace %q", name, b.Namespace))
	default:
		return isTrue(v1alpha1.ReasonGroupFound, fmt.Sprintf("MCPGroup %q exists", name))
	}
}

// readyVerdict says whether what the operator provisions or looks for is there.
func (f *mcpBackendFacts) readyVerdict(b *v1alpha1.MCPBackend) verdict {
	switch {
	case len(f.invalid) > 0:
		return isFalse(v1alpha1.ReasonInvalidSpec, f.invalid.ToAggregate().Error())
	case f.refusal.reason != "":
		return f.refusal
	case f.failedErr != nil:
		return failure(f.failedErr)
	}
	switch b.Source() {
	case v1alpha1.BackendSourceRemote:
		return isTrue(v1alpha1.ReasonNothingToProvision, "a remote backend needs nothing in the cluster")
	case v1alpha1.BackendSourceService:
		return f.serviceVerdict(b)
	default:
		if f.deployment == nil {
			return isFalse(v1alpha1.ReasonBlocked, "there is no Deployment: "+f.groupVerdict(b).message)
		}
		return deploymentVerdict(f.deployment)
	}
}

func (f *mcpBackendFacts) serviceVerdict(b *v1alpha1.MCPBackend) verdict {
	want := b.Spec.Service
	if f.service == nil {
		return isFalse(v1alpha1.ReasonServiceNotFound, fmt.Sprintf("Service %q does not exist in namespace %q", want.Name, b.Namespace))
	}
	for _, p := range f.service.Spec.Ports {
		if p.Port == want.Port && (p.Protocol == corev1.ProtocolTCP || p.Protocol == "") {
			return isTrue(v1alpha1.ReasonServiceFound, fmt.Sprintf("Service %q has the port %d", want.Name, want.Port))
		}
	}
	return isFalse(v1alpha1.ReasonPortNotFound, fmt.Sprintf("Service %q has no TCP port %d", want.Name, want.Port))
}

// stalled says whether a person has to do something. A Service that is not there yet is not such a case: whoever deploys it may be
// about to, and a watch tells.
func (f *mcpBackendFacts) stalled(b *v1alpha1.MCPBackend, ready verdict) (reason, message string) {
	switch {
	case len(f.invalid) > 0, f.refusal.reason != "":
		return ready.reason, ready.message
	case !f.groupFound:
		v := f.groupVerdict(b)
		return v.reason, v.message
	case f.failedErr != nil && needsPerson(f.failedErr):
		return ready.reason, ready.message
	case ready.reason == v1alpha1.ReasonProgressDeadlineExceeded:
		return ready.reason, ready.message
	default:
		return "", ""
	}
}
