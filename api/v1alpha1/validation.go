// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Longest names. Those of VirtualMCPServers and MCPBackends become part of the name of a Service, those of MCPGroups and
// MCPExternalAuthConfigs the value of a label.
const (
	maxServiceOwnerName = 52
	maxLabelName        = 63
)

// validateName checks what the API server checks of a name: its own rules, and those of the CRDs.
func validateName(object metav1.Object) field.ErrorList {
	path, name := field.NewPath("metadata", "name"), object.GetName()
	if name == "" {
		return field.ErrorList{field.Required(path, "every object needs a name")}
	}
	var errs field.ErrorList
	if namespace := object.GetNamespace(); namespace != "" {
		for _, text := range validation.IsDNS1123Label(namespace) {
			errs = append(errs, field.Invalid(field.NewPath("metadata", "namespace"), namespace, text))
		}
	}
	switch object.(type) {
	case *VirtualMCPServer:
		errs = append(errs, validateServiceOwner(path, name, "a VirtualMCPServer")...)
		if strings.HasPrefix(name, "auth-") {
			errs = append(errs, field.Invalid(path, name, "names of VirtualMCPServers that begin with auth- are reserved"))
		}
	case *MCPBackend:
		errs = append(errs, validateServiceOwner(path, name, "an MCPBackend")...)
	default:
		for _, text := range validation.IsDNS1123Subdomain(name) {
			errs = append(errs, field.Invalid(path, name, text))
		}
		switch object.(type) {
		case *MCPGroup, *MCPExternalAuthConfig:
			errs = append(errs, atMost(path, name, maxLabelName)...)
		}
	}
	return errs
}

func validateServiceOwner(path *field.Path, name, named string) field.ErrorList {
	if len(name) <= maxServiceOwnerName && len(validation.IsDNS1035Label(name)) == 0 {
		return nil
	}
	return field.ErrorList{field.Invalid(path, name, fmt.Sprintf("the name of %s is a DNS label of at most %d characters that "+
		"begins with a letter: it becomes part of the name of a Service", named, maxServiceOwnerName))}
}

func atMost(path *field.Path, value string, characters int) field.ErrorList {
	if len([]rune(value)) <= characters {
		return nil
	}
	return field.ErrorList{field.TooLongCharacters(path, "", characters)}
}

func between(path *field.Path, value, least, most int32) field.ErrorList {
	if least <= value && value <= most {
		return nil
	}
	return field.ErrorList{field.Invalid(path, value, fmt.Sprintf("must be between %d and %d", least, most))}
}
