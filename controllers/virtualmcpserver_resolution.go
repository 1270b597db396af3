// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// resolveBackends turns the members of a group into what a gateway of source inline serves, in the same order. configs are the
// MCPExternalAuthConfigs of the namespace that are named, by name.
func resolveBackends(
	auth v1alpha1.OutgoingAuth, members []v1alpha1.Member, configs map[string]*v1alpha1.MCPExternalAuthConfig,
) []configv1alpha1.Backend {
	resolved := make([]configv1alpha1.Backend, len(members))
	for i, m := range members {
		resolved[i] = resolveBackend(auth, m, configs)
	}
	return resolved
}

func resolveBackend(
	auth v1alpha1.OutgoingAuth, m v1alpha1.Member, configs map[string]*v1alpha1.MCPExternalAuthConfig,
) configv1alpha1.Backend {
	resolved := configv1alpha1.Backend{
		Kind: m.Kind, Name: m.Name, Source: m.Source, URL: m.URL, Transport: m.Transport, DeclaredTransport: m.DeclaredTransport,
	}
	chosen := m.ResolveAuth(auth, func(name string) *v1alpha1.MCPExternalAuthConfig { return configs[name] })
	if chosen.Config != "" {
		resolved.Auth = &configv1alpha1.Auth{ConfigRef: v1alpha1.LocalReference{Name: chosen.Config}}
		if chosen.Reason == "" {
			resolved.Auth.Spec = *chosen.Spec.DeepCopy()
			chosen.Reason, chosen.Message = unusable(configs[chosen.Config])
		}
	}
	if m.Reason != "" {
		resolved.Refused = &configv1alpha1.Refusal{Status: v1alpha1.BackendUnavailable, Reason: m.Reason, Message: m.Message}
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

// authConfigNames are the names of the MCPExternalAuthConfigs that are chosen for members, each once.
func authConfigNames(auth v1alpha1.OutgoingAuth, members []v1alpha1.Member) []string {
	names := map[string]bool{}
	for _, m := range members {
		if name := auth.ConfigFor(m.Name, m.AuthRef); name != "" {
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
