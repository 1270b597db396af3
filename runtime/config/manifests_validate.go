// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// v1alpha1Object is an object of the API group vmcp.dev.
type v1alpha1Object interface {
	metav1.Object
	runtime.Object
}

// validate checks what the API server checks when an object is created: the rules of the CRDs, which Validate repeats for
// the spec, and those on names.
func validate(object v1alpha1Object) field.ErrorList {
	errs := validateName(object)
	switch o := object.(type) {
	case *v1alpha1.VirtualMCPServer:
		return append(errs, o.Validate()...)
	case *v1alpha1.MCPBackend:
		errs = append(errs, o.Validate()...)
		if o.Spec.Remote != nil {
			errs = append(errs, atMost(field.NewPath("spec", "remote", "url"), o.Spec.Remote.URL, 2048)...)
		}
		return errs
	case *v1alpha1.MCPGroup:
		return append(errs, atMost(field.NewPath("spec", "description"), o.Spec.Description, 1024)...)
	case *v1alpha1.MCPExternalAuthConfig:
		return append(errs, validateAuthConfig(&o.Spec)...)
	default:
		panic(fmt.Sprintf("no validation for %T", object))
	}
}

const (
	maxServiceOwnerName = 52
	maxGroupName        = 63
)

func validateName(object v1alpha1Object) field.ErrorList {
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
	case *v1alpha1.VirtualMCPServer:
		errs = append(errs, validateServiceOwner(path, name, "a VirtualMCPServer")...)
		if strings.HasPrefix(name, "auth-") {
			errs = append(errs, field.Invalid(path, name, "names of VirtualMCPServers that begin with auth- are reserved"))
		}
	case *v1alpha1.MCPBackend:
		errs = append(errs, validateServiceOwner(path, name, "an MCPBackend")...)
	default:
		for _, text := range validation.IsDNS1123Subdomain(name) {
			errs = append(errs, field.Invalid(path, name, text))
		}
		if _, group := object.(*v1alpha1.MCPGroup); group {
			errs = append(errs, atMost(path, name, maxGroupName)...)
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

// Names of headers: a token (RFC 9110, section 5.6.2) that HTTP or MCP give no meaning of their own.
var (
	headerName      = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_|~-]+$")
	reservedHeaders = []string{
		"host", "content-length", "content-type", "accept", "connection", "transfer-encoding", "upgrade", "te", "trailer", "keep-alive",
	}
)

func validateAuthConfig(s *v1alpha1.MCPExternalAuthConfigSpec) field.ErrorList {
	spec := field.NewPath("spec")
	if s.Type != v1alpha1.ExternalAuthTypeHeaderInjection {
		return field.ErrorList{field.NotSupported(spec.Child("type"), s.Type, []v1alpha1.ExternalAuthType{v1alpha1.ExternalAuthTypeHeaderInjection})}
	}
	path := spec.Child("headerInjection")
	if s.HeaderInjection == nil {
		return field.ErrorList{field.Required(path, "type headerInjection needs the block headerInjection")}
	}
	var errs field.ErrorList
	name := s.HeaderInjection.HeaderName
	lower := strings.ToLower(name)
	switch {
	case name == "":
		errs = append(errs, field.Required(path.Child("headerName"), "name the header, for example Authorization"))
	case len(name) > 128 || !headerName.MatchString(name):
		errs = append(errs, field.Invalid(path.Child("headerName"), name, "headerName must be the name of a header, at most 128 characters"))
	case slices.Contains(reservedHeaders, lower) || strings.HasPrefix(lower, "mcp-"):
		errs = append(errs, field.Invalid(path.Child("headerName"), name, "headerName must not be a header that HTTP or MCP give a meaning of their own"))
	}
	ref := path.Child("secretRef")
	if s.HeaderInjection.SecretRef.Name == "" {
		errs = append(errs, field.Required(ref.Child("name"), "name the Secret that holds the value"))
	}
	if s.HeaderInjection.SecretRef.Key == "" {
		errs = append(errs, field.Required(ref.Child("key"), "name the key of the Secret that holds the value"))
	}
	return errs
}
