// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Names of headers: a token (RFC 9110, section 5.6.2) that HTTP or MCP give no meaning of their own.
var (
	headerName      = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_|~-]+$")
	reservedHeaders = []string{
		"host", "content-length", "content-type", "accept", "connection", "transfer-encoding", "upgrade", "te", "trailer", "keep-alive",
	}
)

// Validate checks what the schema of the CRD demands, for objects that never passed an API server.
func (c *MCPExternalAuthConfig) Validate() field.ErrorList {
	return append(validateName(c), c.Spec.validate(field.NewPath("spec"))...)
}

func (s *MCPExternalAuthConfigSpec) validate(spec *field.Path) field.ErrorList {
	if s.Type != ExternalAuthTypeHeaderInjection {
		return field.ErrorList{field.NotSupported(spec.Child("type"), s.Type, []ExternalAuthType{ExternalAuthTypeHeaderInjection})}
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
	return append(errs, s.HeaderInjection.SecretRef.validate(path.Child("secretRef"))...)
}

// validate checks more than the schema says: a name that no Secret can have is a mistake, not a Secret that is yet to come.
func (r SecretKeyReference) validate(path *field.Path) field.ErrorList {
	return validateKeyReference(path, r.Name, r.Key)
}

// validateKey checks a key of a Secret or ConfigMap.
func validateKey(key string, path *field.Path) field.ErrorList {
	if key == "" {
		return field.ErrorList{field.Required(path, "name the key")}
	}
	var errs field.ErrorList
	for _, text := range validation.IsConfigMapKey(key) {
		errs = append(errs, field.Invalid(path, key, text))
	}
	return errs
}
