// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func (v Volume) validate(path *field.Path, serviceAccount string) field.ErrorList {
	if count(v.EmptyDir != nil, v.ConfigMap != nil, v.Secret != nil, v.PersistentVolumeClaim != nil, v.Projected != nil) != 1 {
		return field.ErrorList{oneOf(path, "emptyDir", "configMap", "secret", "persistentVolumeClaim", "projected")}
	}
	switch {
	case v.ConfigMap != nil:
		return v.ConfigMap.validate(path.Child("configMap"))
	case v.Secret != nil:
		path = path.Child("secret")
		errs := validateObjectName(path.Child("secretName"), v.Secret.SecretName)
		return append(errs, validateItems(path.Child("items"), v.Secret.Items)...)
	case v.PersistentVolumeClaim != nil:
		return validateObjectName(path.Child("persistentVolumeClaim", "claimName"), v.PersistentVolumeClaim.ClaimName)
	case v.Projected != nil:
		return v.Projected.validate(path.Child("projected"), serviceAccount)
	default:
		return nil
	}
}

func (c *ConfigMapVolume) validate(path *field.Path) field.ErrorList {
	return append(validateObjectName(path.Child("name"), c.Name), validateItems(path.Child("items"), c.Items)...)
}

func (p *ProjectedVolume) validate(path *field.Path, serviceAccount string) field.ErrorList {
	path = path.Child("sources")
	if len(p.Sources) == 0 {
		return field.ErrorList{field.Required(path, "name what the volume shows")}
	}
	var errs field.ErrorList
	files := map[string]bool{}
	for i, s := range p.Sources {
		source := path.Index(i)
		errs = append(errs, s.validate(source, serviceAccount)...)
		for _, file := range s.files() {
			if files[file] {
				errs = append(errs, field.Invalid(source, file, "another source of the volume has a file of this path"))
			}
			files[file] = true
		}
	}
	return errs
}

func (s VolumeProjection) validate(path *field.Path, serviceAccount string) field.ErrorList {
	if count(s.Secret != nil, s.ConfigMap != nil, s.ServiceAccountToken != nil) != 1 {
		return field.ErrorList{oneOf(path, "secret", "configMap", "serviceAccountToken")}
	}
	switch {
	case s.Secret != nil:
		path = path.Child("secret")
		return append(validateObjectName(path.Child("name"), s.Secret.Name), validateItems(path.Child("items"), s.Secret.Items)...)
	case s.ConfigMap != nil:
		return s.ConfigMap.validate(path.Child("configMap"))
	default:
		path = path.Child("serviceAccountToken")
		errs := validateFilePath(path.Child("path"), s.ServiceAccountToken.Path)
		errs = append(errs, between(path.Child("expirationSeconds"), s.ServiceAccountToken.TokenSeconds(), minTokenSeconds, maxTokenSeconds)...)
		if serviceAccount == "" {
			errs = append(errs, field.Forbidden(path, "needs workload.serviceAccountName: without one a pod gets no token"))
		}
		return errs
	}
}

// files are the paths of the files of a source that are known from the spec, each once.
func (s VolumeProjection) files() []string {
	var items []KeyToPath
	switch {
	case s.Secret != nil:
		items = s.Secret.Items
	case s.ConfigMap != nil:
		items = s.ConfigMap.Items
	case s.ServiceAccountToken != nil:
		return []string{s.ServiceAccountToken.Path}
	}
	paths := make([]string, 0, len(items))
	for _, item := range items {
		paths = append(paths, item.Path)
	}
	return slices.Compact(slices.Sorted(slices.Values(paths)))
}

func validateItems(path *field.Path, items []KeyToPath) field.ErrorList {
	var errs field.ErrorList
	paths := map[string]bool{}
	for i, item := range items {
		errs = append(errs, validateKey(item.Key, path.Index(i).Child("key"))...)
		errs = append(errs, validateFilePath(path.Index(i).Child("path"), item.Path)...)
		if paths[item.Path] {
			errs = append(errs, field.Duplicate(path.Index(i).Child("path"), item.Path))
		}
		paths[item.Path] = true
	}
	return errs
}

func validateFilePath(path *field.Path, file string) field.ErrorList {
	if len(file) <= maxFilePath && filePath.MatchString(file) {
		return nil
	}
	return field.ErrorList{field.Invalid(path, file, fmt.Sprintf("must be a relative path of at most %d characters of A-Z a-z 0-9 . _ -, "+
		"without elements that begin with two dots", maxFilePath))}
}

func validateObjectName(path *field.Path, name string) field.ErrorList {
	var errs field.ErrorList
	for _, text := range validation.IsDNS1123Subdomain(name) {
		errs = append(errs, field.Invalid(path, name, text))
	}
	return errs
}

// validateKeyReference checks the name and the key of a Secret or ConfigMap.
func validateKeyReference(path *field.Path, name, key string) field.ErrorList {
	return append(validateObjectName(path.Child("name"), name), validateKey(key, path.Child("key"))...)
}

// oneOf says that exactly one of some fields has to be set.
func oneOf(path *field.Path, names ...string) *field.Error {
	last := len(names) - 1
	return field.Required(path, "set exactly one of "+strings.Join(names[:last], ", ")+" and "+names[last])
}

func count(set ...bool) int {
	n := 0
	for _, s := range set {
		if s {
			n++
		}
	}
	return n
}
