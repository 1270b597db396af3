// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package operand

import (
	rbacv1ac "k8s.io/client-go/applyconfigurations/rbac/v1"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// rules are the rights of a runtime, none more than it uses. Its own objects are named, so that it cannot touch those of its
// siblings; watch on a resourceName serves a watch with fieldSelector=metadata.name=NAME. No rule reaches a Secret.
//
// The operator must hold each of these rights itself, or the API server refuses the Role as an escalation: see the
// kubebuilder:rbac markers of the VirtualMCPServer controller.
func rules(in Input) []*rbacv1ac.PolicyRuleApplyConfiguration {
	operandName := v1alpha1.OperandName(in.Name)
	r := []*rbacv1ac.PolicyRuleApplyConfiguration{
		rule(v1alpha1.GroupVersion.Group, "virtualmcpservers", "get", "watch").WithResourceNames(in.Name),
		rule(v1alpha1.GroupVersion.Group, "virtualmcpservers/status", "patch").WithResourceNames(in.Name),
		rule("", "configmaps", "get", "watch").WithResourceNames(operandName),
		rule("coordination.k8s.io", "leases", "get", "watch", "update").WithResourceNames(operandName),
		rule("events.k8s.io", "events", "create"),
	}
	if !in.DiscoversBackends {
		return r
	}
	r = append(r, rule(v1alpha1.GroupVersion.Group, "mcpbackends", "get", "list", "watch"),
		rule(v1alpha1.GroupVersion.Group, "mcpexternalauthconfigs", "get", "list", "watch"))
	if in.Discovery.Services == v1alpha1.DiscoveryLabelled {
		r = append(r, rule("", "services", "get", "list", "watch"))
	}
	if in.Discovery.MCPServers == v1alpha1.DiscoveryLabelled {
		r = append(r, rule(v1alpha1.MCPServerGroup, v1alpha1.MCPServerResource, "get", "list", "watch"))
	}
	return r
}

func rule(group, resource string, verbs ...string) *rbacv1ac.PolicyRuleApplyConfiguration {
	return rbacv1ac.PolicyRule().WithAPIGroups(group).WithResources(resource).WithVerbs(verbs...)
}
