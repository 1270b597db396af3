// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// kindMCPBackend is the kind of the backends that MCPBackends describe.
const kindMCPBackend = "MCPBackend"

// resolveBackends turns the backends of a group into what a gateway of source inline serves, in the one order of backends. configs
// are the MCPExternalAuthConfigs of the namespace that are named, by name.
func resolveBackends(
	auth v1alpha1.OutgoingAuth, backends []v1alpha1.MCPBackend, configs map[string]*v1alpha1.MCPExternalAuthConfig,
) []configv1alpha1.Backend {
	resolved := make([]configv1alpha1.Backend, len(backends))
	for i := range backends {
		resolved[i] = resolveBackend(auth, &backends[i], configs)
	}
	slices.SortFunc(resolved, func(a, b configv1alpha1.Backend) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind))
	})
	return resolved
}

func resolveBackend(
	auth v1alpha1.OutgoingAuth, b *v1alpha1.MCPBackend, configs map[string]*v1alpha1.MCPExternalAuthConfig,
) configv1alpha1.Backend {
	resolved := configv1alpha1.Backend{
		Kind:              kindMCPBackend,
		Name:              b.Name,
		Source:            b.Source(),
		URL:               b.URL(),
		Transport:         b.WireTransport(),
		DeclaredTransport: cmp.Or(b.Spec.Transport, v1alpha1.TransportStreamableHTTP),
	}
	chosen := auth.Resolve(b.Name, b.Spec.ExternalAuthConfigRef, func(name string) *v1alpha1.MCPExternalAuthConfig { return configs[name] })
	if chosen.Config != "" {
		resolved.Auth = &configv1alpha1.Auth{ConfigRef: v1alpha1.LocalReference{Name: chosen.Config}}
		if chosen.Reason == "" {
			resolved.Auth.Spec = *chosen.Spec.DeepCopy()
			chosen.Reason, chosen.Message = unusable(configs[chosen.Config])
		}
	}
	if err := b.Validate().ToAggregate(); err != nil {
		// An address that was not accepted is neither called nor reported: it may hold a credential.
		resolved.URL = ""
		resolved.Refused = &configv1alpha1.Refusal{
			Status: v1alpha1.BackendUnavailable, Reason: v1alpha1.ReasonInvalidSpec, Message: err.Error(),
		}
	} else if chosen.Reason != "" {
		resolved.Refused = &configv1alpha1.Refusal{
			Status: v1alpha1.BackendUnauthenticated, Reason: chosen.Reason, Message: chosen.Message,
		}
	}
	return resolved
}

// unusable says why the Secrets that a valid MCPExternalAuthConfig names may not be used, by the verdict of its own controller; the
// reason is empty if they may.
func unusable(config *v1alpha1.MCPExternalAuthConfig) (reason, message string) {
	ready := meta.FindStatusCondition(config.Status.Conditions, v1alpha1.ConditionReady)
	switch {
	case ready == nil || ready.ObservedGeneration < config.Generation || ready.Status == metav1.ConditionUnknown:
		return v1alpha1.ReasonSecretUnreadable,
			fmt.Sprintf("the Secrets that MCPExternalAuthConfig %q names have not been checked yet", config.Name)
	case ready.Status == metav1.ConditionFalse:
		return ready.Reason, ready.Message
	default:
		return "", ""
	}
}

// authConfigNames are the names of the MCPExternalAuthConfigs that are chosen for backends, each once.
func authConfigNames(auth v1alpha1.OutgoingAuth, backends []v1alpha1.MCPBackend) []string {
	names := map[string]bool{}
	for i := range backends {
		if name := auth.ConfigFor(backends[i].Name, backends[i].Spec.ExternalAuthConfigRef); name != "" {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// credentialSecrets are the names of the Secrets that the backends need which are not refused, each once, in order.
func credentialSecrets(backends []configv1alpha1.Backend) []string {
	names := map[string]bool{}
	for i := range backends {
		if backends[i].Auth == nil || backends[i].Refused != nil {
			continue
		}
		for _, name := range backends[i].Auth.Spec.SecretNames() {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}
