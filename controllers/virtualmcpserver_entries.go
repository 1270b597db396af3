// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"slices"

	"k8s.io/utils/ptr"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	acv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
)

// entryKey identifies an entry of status.discoveredBackends.
type entryKey struct{ kind, name string }

func keyOf(e *acv1alpha1.DiscoveredBackendApplyConfiguration) entryKey {
	return entryKey{ptr.Deref(e.Kind, ""), ptr.Deref(e.Name, "")}
}

// entries are what the operator says of backends, each once.
type entries struct {
	list  []*acv1alpha1.DiscoveredBackendApplyConfiguration
	byKey map[entryKey]*acv1alpha1.DiscoveredBackendApplyConfiguration
}

// of is the entry of a backend, made if there is none yet.
func (e *entries) of(key entryKey) *acv1alpha1.DiscoveredBackendApplyConfiguration {
	if entry := e.byKey[key]; entry != nil {
		return entry
	}
	entry := acv1alpha1.DiscoveredBackend().WithKind(key.kind).WithName(key.name)
	if e.byKey == nil {
		e.byKey = map[entryKey]*acv1alpha1.DiscoveredBackendApplyConfiguration{}
	}
	e.byKey[key] = entry
	e.list = append(e.list, entry)
	return entry
}

// describedBackends is the operator's part of status.discoveredBackends while the runtime reports: where the backends are and how the
// gateway authenticates to them. In static mode it is what the operator resolved. In dynamic mode it is the runtime's part, and
// what is left of static mode is let go of when the runtime has it: an entry is never without its address in between.
func (f *virtualMCPServerFacts) describedBackends(s *v1alpha1.VirtualMCPServer) *entries {
	described := &entries{}
	switch {
	case s.Source() == v1alpha1.OutgoingAuthSourceInline && f.applied(v1alpha1.ConditionConfigReady):
		// The API server refuses more, all of the status with them. The room for a new entry may still be taken by one that the runtime is
		// about to drop.
		room := v1alpha1.MaxDiscoveredBackends - len(s.Status.DiscoveredBackends)
		for i := range f.resolved[:min(len(f.resolved), v1alpha1.MaxDiscoveredBackends)] {
			b := &f.resolved[i]
			known := slices.ContainsFunc(s.Status.DiscoveredBackends, func(d v1alpha1.DiscoveredBackend) bool {
				return d.Kind == b.Kind && d.Name == b.Name
			})
			if !known {
				if room--; room < 0 {
					continue
				}
			}
			describe(described.of(entryKey{b.Kind, b.Name}), b)
		}
	case s.Source() == v1alpha1.OutgoingAuthSourceInline:
		for i := range f.operatorEntries {
			copyDescription(described, &f.operatorEntries[i])
		}
	default:
		// A runtime that serves this generation finds backends by itself: its list is complete.
		if f.runtimeHolds && s.Status.Runtime != nil && s.Status.Runtime.ObservedGeneration >= s.Generation {
			return described
		}
		for i := range f.operatorEntries {
			if !f.runtimeDescribes(keyOf(&f.operatorEntries[i])) {
				copyDescription(described, &f.operatorEntries[i])
			}
		}
	}
	return described
}

// runtimeDescribes says whether the runtime, too, says where a backend is.
func (f *virtualMCPServerFacts) runtimeDescribes(key entryKey) bool {
	return slices.ContainsFunc(f.runtimeEntries, func(e acv1alpha1.DiscoveredBackendApplyConfiguration) bool {
		return keyOf(&e) == key && e.Source != nil
	})
}

func describe(entry *acv1alpha1.DiscoveredBackendApplyConfiguration, b *configv1alpha1.Backend) {
	if b.Source != "" {
		entry.WithSource(b.Source)
	}
	if b.URL != "" {
		entry.WithURL(b.URL)
	}
	entry.WithTransport(b.DeclaredTransport)
	if b.Auth == nil {
		return
	}
	entry.WithAuthConfigRef(acv1alpha1.LocalReference().WithName(b.Auth.ConfigRef.Name))
	if b.Auth.Spec.Type != "" {
		entry.WithAuthType(b.Auth.Spec.Type)
	}
}

// copyDescription keeps what the operator said of a backend, but for the verdict. An entry that was the verdict alone is left out.
func copyDescription(described *entries, from *acv1alpha1.DiscoveredBackendApplyConfiguration) {
	if from.Source == nil && from.URL == nil && from.Transport == nil && from.AuthType == nil && from.AuthConfigRef == nil {
		return
	}
	entry := described.of(keyOf(from))
	entry.Source, entry.URL, entry.Transport = from.Source, from.URL, from.Transport
	entry.AuthType, entry.AuthConfigRef = from.AuthType, from.AuthConfigRef
}
