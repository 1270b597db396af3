// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// staticStrategy resolves backends and their authentication into the runtime's configuration and mounts the Secrets into its pods, so
// that the runtime has no right to read any of them. It reads from the cache only.
type staticStrategy struct{ reader client.Reader }

func (m staticStrategy) complete(ctx context.Context, scope *virtualMCPServerScope) error {
	s := scope.server
	backends := &v1alpha1.MCPBackendList{}
	err := m.reader.List(ctx, backends, client.InNamespace(s.Namespace), client.MatchingFields{indexGroupRef: s.Spec.GroupRef.Name})
	if err != nil {
		return fmt.Errorf("listing the backends of MCPGroup %s: %w", s.Spec.GroupRef.Name, err)
	}
	configs := map[string]*v1alpha1.MCPExternalAuthConfig{}
	for _, name := range authConfigNames(s.Spec.OutgoingAuth, backends.Items) {
		config, err := find[v1alpha1.MCPExternalAuthConfig](ctx, m.reader, client.ObjectKey{Namespace: s.Namespace, Name: name})
		if err != nil {
			return fmt.Errorf("reading MCPExternalAuthConfig %s: %w", name, err)
		}
		if config != nil {
			configs[name] = config
		}
	}
	resolved := resolveBackends(s.Spec.OutgoingAuth, backends.Items, configs)
	scope.facts.resolved = resolved
	scope.input.Configuration.Backends = resolved
	scope.input.CredentialSecrets = credentialSecrets(resolved)

	// Pods that find backends by themselves go on until the last of them is replaced.
	scope.keepsRights, err = m.stillDiscovers(ctx, s)
	scope.input.DiscoversBackends = scope.keepsRights
	return err
}

// stillDiscovers says whether the runtime holds the rights of dynamic mode and pods may be left that use them.
func (m staticStrategy) stillDiscovers(ctx context.Context, s *v1alpha1.VirtualMCPServer) (bool, error) {
	key := client.ObjectKey{Namespace: s.Namespace, Name: v1alpha1.OperandName(s.Name)}
	role, err := find[rbacv1.Role](ctx, m.reader, key)
	if err != nil {
		return false, fmt.Errorf("reading Role %s: %w", key.Name, err)
	}
	if !mayDiscover(role) {
		return false, nil
	}
	d, err := find[appsv1.Deployment](ctx, m.reader, key)
	if err != nil {
		return false, fmt.Errorf("reading Deployment %s: %w", key.Name, err)
	}
	return d != nil && !rolledOutFor(d, v1alpha1.OutgoingAuthSourceInline), nil
}

// rolledOutFor says whether all pods of a Deployment were made for a mode.
func rolledOutFor(d *appsv1.Deployment, source v1alpha1.OutgoingAuthSource) bool {
	return d.Spec.Template.Annotations[v1alpha1.OutgoingAuthSourceAnnotation] == string(source) &&
		deploymentVerdict(d).status == metav1.ConditionTrue
}

// enqueueStaticServers wakes the controller for the VirtualMCPServers that the operator resolves backends for: those of the group of an
// MCPBackend, or all of the namespace.
func (r *VirtualMCPServerReconciler) enqueueStaticServers() handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
		servers, group := &v1alpha1.VirtualMCPServerList{}, groupRefOf(o)
		err := r.Client.List(ctx, servers, client.InNamespace(o.GetNamespace()),
			client.MatchingFields{indexSource: string(v1alpha1.OutgoingAuthSourceInline)})
		if err != nil {
			log.FromContext(ctx).Error(err, "Looking up the VirtualMCPServers in static mode", "name", o.GetName())
			return nil
		}
		servers.Items = slices.DeleteFunc(servers.Items, func(s v1alpha1.VirtualMCPServer) bool {
			return group != "" && s.Spec.GroupRef.Name != group
		})
		return requestsFor(servers)
	})
}
