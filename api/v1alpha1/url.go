// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"net/url"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxURL is the most characters of a URL in a spec.
const maxURL = 2048

// validateURL checks the URL in the named field of parent, in the words of the CRDs' own rules.
func validateURL(parent *field.Path, name, raw string) field.ErrorList {
	path := parent.Child(name)
	errs := atMost(path, raw, maxURL)
	u, err := url.Parse(raw)
	problem := ""
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		problem = "must be an absolute http or https URL"
	case u.User != nil:
		problem = "must not contain user information; credentials do not belong into a URL"
	case strings.Contains(raw, "#"):
		problem = "must not have a fragment"
	default:
		return errs
	}
	return append(errs, field.Invalid(path, redactUserinfo(raw), name+" "+problem))
}

// redactUserinfo keeps a password that somebody wrote into a URL out of error messages.
func redactUserinfo(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.User == nil {
		return raw
	}
	return u.Redacted()
}
