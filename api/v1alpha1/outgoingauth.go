// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// AuthRoleName is the name of the Role that may read the Secrets of an MCPExternalAuthConfig.
func AuthRoleName(config string) string { return "vmcp-auth-" + config }

// GatewayAuthRoleBindingName is the name of the RoleBinding that gives the runtime of a VirtualMCPServer the Role of an
// MCPExternalAuthConfig that its spec names. Names of VirtualMCPServers have no dots, so that no two are the same.
func GatewayAuthRoleBindingName(virtualMCPServer, config string) string {
	return OperandName(virtualMCPServer) + "." + config
}

// GroupAuthRoleBindingName is the name of the RoleBinding that gives the dynamic gateways of a group the Role of an MCPExternalAuthConfig
// that a backend of the group names. No VirtualMCPServer has a name that begins with auth-, so that none is that of
// GatewayAuthRoleBindingName.
func GroupAuthRoleBindingName(group, config string) string {
	return AuthRoleName(group) + ":" + config
}

// ConfigFor names the MCPExternalAuthConfig for a backend, given the one that the backend names itself, if any: an entry in backends
// before the backend's own before default. It is empty if the backend is called without credentials.
func (a OutgoingAuth) ConfigFor(backend string, own *LocalReference) string {
	for _, b := range a.Backends {
		if b.Name == backend {
			return b.ExternalAuthConfigRef.Name
		}
	}
	switch {
	case own != nil:
		return own.Name
	case a.Default != nil:
		return a.Default.ExternalAuthConfigRef.Name
	default:
		return ""
	}
}

// ConfigNames are the names of the MCPExternalAuthConfigs that a itself names, each once, in order.
func (a OutgoingAuth) ConfigNames() []string {
	names := map[string]bool{}
	if a.Default != nil {
		names[a.Default.ExternalAuthConfigRef.Name] = true
	}
	for _, b := range a.Backends {
		names[b.ExternalAuthConfigRef.Name] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// ResolvedAuth is how a gateway authenticates to one backend. The zero value means without credentials.
type ResolvedAuth struct {
	// Config names the MCPExternalAuthConfig that was chosen; empty means none.
	Config string
	// Spec is what that MCPExternalAuthConfig says; it is meaningful only if Config is set and Reason is not.
	Spec MCPExternalAuthConfigSpec
	// Reason, if set, says in a word and Message in a sentence why the chosen MCPExternalAuthConfig cannot be used. Then the
	// backend must not be called at all, least of all without credentials.
	Reason, Message string
}

// Resolve chooses the MCPExternalAuthConfig for a backend and says what is in it. find returns the one of a name in the namespace of the
// gateway, or nil. Both modes decide by this function.
func (a OutgoingAuth) Resolve(backend string, own *LocalReference, find func(name string) *MCPExternalAuthConfig) ResolvedAuth {
	name := a.ConfigFor(backend, own)
	if name == "" {
		return ResolvedAuth{}
	}
	config := find(name)
	if config == nil {
		return ResolvedAuth{
			Config: name, Reason: ReasonAuthConfigNotFound,
			Message: fmt.Sprintf("MCPExternalAuthConfig %q does not exist; the backend is not called without its credentials", name),
		}
	}
	if err := config.Validate().ToAggregate(); err != nil {
		return ResolvedAuth{
			Config: name, Reason: ReasonAuthConfigInvalid,
			Message: fmt.Sprintf("MCPExternalAuthConfig %q is not valid: %s", name, err),
		}
	}
	return ResolvedAuth{Config: name, Spec: config.Spec}
}

// SecretUses are the places at which s names Secrets, in order.
func (s MCPExternalAuthConfigSpec) SecretUses() []SecretUse {
	if s.HeaderInjection == nil {
		return nil
	}
	return []SecretUse{{Path: field.NewPath("spec", "headerInjection", "secretRef"), Name: s.HeaderInjection.SecretRef.Name}}
}

// SecretNames are the names of the Secrets that s names, each once, in order.
func (s MCPExternalAuthConfigSpec) SecretNames() []string {
	names := map[string]bool{}
	for _, use := range s.SecretUses() {
		names[use.Name] = true
	}
	return slices.Sorted(maps.Keys(names))
}

func (a OutgoingAuth) validate(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch a.Source {
	case "", OutgoingAuthSourceDiscovered, OutgoingAuthSourceInline:
	default:
		errs = append(errs, field.NotSupported(path.Child("source"), a.Source,
			[]OutgoingAuthSource{OutgoingAuthSourceDiscovered, OutgoingAuthSourceInline}))
	}
	if a.Default != nil {
		errs = append(errs, a.Default.ExternalAuthConfigRef.validate(path.Child("default", "externalAuthConfigRef"))...)
	}
	if len(a.Backends) > MaxBackendAuths {
		errs = append(errs, field.TooMany(path.Child("backends"), len(a.Backends), MaxBackendAuths))
	}
	seen := map[string]bool{}
	for i, b := range a.Backends {
		entry := path.Child("backends").Index(i)
		if b.Name == "" {
			errs = append(errs, field.Required(entry.Child("name"), "name the backend"))
		}
		if seen[b.Name] {
			errs = append(errs, field.Duplicate(entry.Child("name"), b.Name))
		}
		seen[b.Name] = true
		errs = append(errs, b.ExternalAuthConfigRef.validate(entry.Child("externalAuthConfigRef"))...)
	}
	return errs
}

func (r LocalReference) validate(path *field.Path) field.ErrorList {
	return validateObjectName(path.Child("name"), r.Name)
}
