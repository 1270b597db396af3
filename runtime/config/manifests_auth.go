// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/auth"
)

// Auth is how the gateway authenticates to one of its backends.
func (s *Standalone) Auth(b *v1alpha1.MCPBackend) v1alpha1.ResolvedAuth {
	return s.Server.Spec.OutgoingAuth.Resolve(b.Name, b.Spec.ExternalAuthConfigRef,
		func(name string) *v1alpha1.MCPExternalAuthConfig { return s.authConfigs[name] })
}

// Credential takes the credential that a strategy names out of the Secrets of the file. The error is an *auth.UnusableError.
func (s *Standalone) Credential(strategy auth.Strategy) (auth.Credential, error) {
	return strategy.FromSecret(s.secrets[strategy.Header.SecretRef.Name])
}

// secretManifest is a Secret of a file.
type secretManifest struct {
	corev1.Secret
}

// Validate checks what the API server checks of a Secret, as far as it matters here.
func (s *secretManifest) Validate() field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("metadata", "name")
	if s.Name == "" {
		return field.ErrorList{field.Required(path, "every object needs a name")}
	}
	for _, text := range validation.IsDNS1123Subdomain(s.Name) {
		errs = append(errs, field.Invalid(path, s.Name, text))
	}
	return errs
}

// stored is the Secret as the API server stores it.
func (s *secretManifest) stored() *corev1.Secret {
	object := s.DeepCopy()
	if object.Data == nil {
		object.Data = map[string][]byte{}
	}
	for key, value := range object.StringData {
		object.Data[key] = []byte(value)
	}
	object.StringData = nil
	return object
}

// resolveAuth checks that there are usable credentials for each backend that is to be called with some.
func (m *manifests) resolveAuth(s *Standalone, server document, backends []document) {
	s.authConfigs, s.secrets = map[string]*v1alpha1.MCPExternalAuthConfig{}, map[string]*corev1.Secret{}
	configs, broken := map[string]document{}, map[string]bool{}
	for _, a := range m.auth {
		s.authConfigs[a.object.Name], configs[a.object.Name] = a.object, a.document
	}
	for _, secret := range m.secrets {
		s.secrets[secret.object.Name], broken[secret.object.Name] = secret.object.stored(), secret.invalid
	}
	reported := map[string]bool{}
	for i, b := range s.Backends {
		chosen := s.Auth(b)
		config, there := configs[chosen.Config]
		switch {
		case chosen.Config == "" || reported[chosen.Config] || config.invalid:
			continue
		case !there:
			d, path := referrer(s.Server, b, server, backends[i])
			m.fail(d.line(path), "%s: Not found: %q: the file has no MCPExternalAuthConfig of this name; add it", path, chosen.Config)
		case chosen.Reason != "":
			m.fail(config.line("spec"), "spec: %s", chosen.Message)
		default:
			strategy := auth.StrategyOf(chosen.Config, chosen.Spec)
			if _, err := s.Credential(strategy); err != nil && !broken[strategy.Header.SecretRef.Name] {
				m.fail(config.line("spec.headerInjection.secretRef"), "spec.headerInjection.secretRef: %s", err)
			}
		}
		reported[chosen.Config] = true
	}
}

// referrer says where the MCPExternalAuthConfig for a backend is named; see v1alpha1.OutgoingAuth.ConfigFor.
func referrer(s *v1alpha1.VirtualMCPServer, b *v1alpha1.MCPBackend, server, backend document) (d document, path string) {
	for i, entry := range s.Spec.OutgoingAuth.Backends {
		if entry.Name == b.Name {
			return server, fmt.Sprintf("spec.outgoingAuth.backends[%d].externalAuthConfigRef.name", i)
		}
	}
	if b.Spec.ExternalAuthConfigRef != nil {
		return backend, "spec.externalAuthConfigRef.name"
	}
	return server, "spec.outgoingAuth.default.externalAuthConfigRef.name"
}

// warnUnused tells of credentials that nothing refers to.
func (m *manifests) warnUnused() {
	configs, secrets := map[string]bool{}, map[string]bool{}
	for _, s := range m.servers {
		for _, name := range s.object.Spec.OutgoingAuth.ConfigNames() {
			configs[name] = true
		}
	}
	for _, b := range m.backend {
		if ref := b.object.Spec.ExternalAuthConfigRef; ref != nil {
			configs[ref.Name] = true
		}
	}
	for _, a := range m.auth {
		if !configs[a.object.Name] {
			m.warn(a.line("metadata.name"), "nothing refers to MCPExternalAuthConfig %q", a.object.Name)
		}
		for _, name := range a.object.Spec.SecretNames() {
			secrets[name] = true
		}
	}
	for _, s := range m.secrets {
		if !secrets[s.object.Name] {
			m.warn(s.line("metadata.name"), "nothing refers to Secret %q", s.object.Name)
		}
	}
}
