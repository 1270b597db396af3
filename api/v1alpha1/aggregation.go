// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"cmp"
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Most characters of what names and describes tools.
const (
	maxPrefixFormat    = 32
	maxBackendName     = 253
	maxToolPattern     = 128
	maxToolID          = 256
	maxToolName        = 64
	maxToolTitle       = 128
	maxToolDescription = 4096
)

var (
	prefixFormat = regexp.MustCompile(`^[A-Za-z0-9_.-]*\{backend\}[A-Za-z0-9_.-]*$`)
	toolName     = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)
)

// Prefix is what precedes the names of a backend's tools and prompts: nothing, but with the strategy prefix.
func (c ConflictResolution) Prefix(backend string) string {
	if cmp.Or(c.Strategy, ConflictResolutionPrefix) != ConflictResolutionPrefix {
		return ""
	}
	return strings.Replace(cmp.Or(c.PrefixFormat, DefaultPrefixFormat), "{backend}", backend, 1)
}

// ToolsOf is what a says of the tools of a backend; the zero value says nothing.
func (a Aggregation) ToolsOf(backend string) BackendTools {
	for _, t := range a.Tools {
		if t.Backend == backend {
			return t
		}
	}
	return BackendTools{}
}

func (a Aggregation) validate(path *field.Path) field.ErrorList {
	errs := a.ConflictResolution.validate(path.Child("conflictResolution"))
	path = path.Child("tools")
	if len(a.Tools) > MaxToolRules {
		errs = append(errs, field.TooMany(path, len(a.Tools), MaxToolRules))
	}
	var (
		backends = map[string]bool{}
		names    = map[string]bool{}
	)
	for i, t := range a.Tools {
		entry := path.Index(i)
		errs = append(errs, required(entry.Child("backend"), t.Backend, maxBackendName)...)
		errs = append(errs, once(entry.Child("backend"), t.Backend, backends)...)
		errs = append(errs, t.validate(entry, names)...)
	}
	return errs
}

func (c ConflictResolution) validate(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch c.Strategy {
	case "", ConflictResolutionPrefix, ConflictResolutionPriority, ConflictResolutionManual:
	default:
		errs = append(errs, field.NotSupported(path.Child("strategy"), c.Strategy,
			[]ConflictResolutionStrategy{ConflictResolutionPrefix, ConflictResolutionPriority, ConflictResolutionManual}))
	}
	if c.PrefixFormat != "" && (len(c.PrefixFormat) > maxPrefixFormat || !prefixFormat.MatchString(c.PrefixFormat)) {
		errs = append(errs, field.Invalid(path.Child("prefixFormat"), c.PrefixFormat,
			"at most 32 characters of A-Z a-z 0-9 _ . - around exactly one {backend}"))
	}
	priority := path.Child("priority")
	switch {
	case c.Strategy != ConflictResolutionPriority && len(c.Priority) > 0:
		errs = append(errs, field.Forbidden(priority, "priority belongs to the strategy priority; the other strategies would ignore it"))
	case c.Strategy == ConflictResolutionPriority && len(c.Priority) == 0:
		errs = append(errs, field.Required(priority, "the strategy priority needs priority: the backends in the order in which they win a name"))
	case len(c.Priority) > MaxPriority:
		errs = append(errs, field.TooMany(priority, len(c.Priority), MaxPriority))
	}
	seen := map[string]bool{}
	for i, name := range c.Priority {
		errs = append(errs, required(priority.Index(i), name, maxBackendName)...)
		errs = append(errs, once(priority.Index(i), name, seen)...)
	}
	return errs
}

// validate checks what is said of one backend's tools. names are those that overrides have given away already.
func (t BackendTools) validate(path *field.Path, names map[string]bool) field.ErrorList {
	var errs field.ErrorList
	switch t.Visibility {
	case "", ToolsExposed, ToolsHidden:
	default:
		errs = append(errs, field.NotSupported(path.Child("visibility"), t.Visibility, []ToolVisibility{ToolsExposed, ToolsHidden}))
	}
	errs = append(errs, validatePatterns(path.Child("include"), t.Include)...)
	errs = append(errs, validatePatterns(path.Child("exclude"), t.Exclude)...)
	if len(t.Overrides) > MaxToolOverrides {
		errs = append(errs, field.TooMany(path.Child("overrides"), len(t.Overrides), MaxToolOverrides))
	}
	tools := map[string]bool{}
	for i, o := range t.Overrides {
		entry := path.Child("overrides").Index(i)
		errs = append(errs, required(entry.Child("tool"), o.Tool, maxToolID)...)
		errs = append(errs, once(entry.Child("tool"), o.Tool, tools)...)
		if o.Name == "" && o.Title == "" && o.Description == "" {
			errs = append(errs, field.Required(entry, "an override must set at least one of name, title and description"))
		}
		if o.Name != "" {
			errs = append(errs, atMost(entry.Child("name"), o.Name, maxToolName)...)
			errs = append(errs, once(entry.Child("name"), o.Name, names)...)
			if !toolName.MatchString(o.Name) {
				errs = append(errs, field.Invalid(entry.Child("name"), o.Name,
					"name must consist of A-Z a-z 0-9 _ - and dot: MCP allows no other characters in the name of a tool"))
			}
		}
		errs = append(errs, atMost(entry.Child("title"), o.Title, maxToolTitle)...)
		errs = append(errs, atMost(entry.Child("description"), o.Description, maxToolDescription)...)
	}
	return errs
}

func validatePatterns(path *field.Path, patterns []ToolPattern) field.ErrorList {
	var errs field.ErrorList
	if len(patterns) > MaxToolPatterns {
		errs = append(errs, field.TooMany(path, len(patterns), MaxToolPatterns))
	}
	seen := map[string]bool{}
	for i, p := range patterns {
		errs = append(errs, required(path.Index(i), string(p), maxToolPattern)...)
		errs = append(errs, once(path.Index(i), string(p), seen)...)
	}
	return errs
}

// required checks that there is a value, of at most so many characters.
func required(path *field.Path, value string, characters int) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return atMost(path, value, characters)
}

// once checks that a value was not seen before, and remembers it.
func once(path *field.Path, value string, seen map[string]bool) field.ErrorList {
	if seen[value] {
		return field.ErrorList{field.Duplicate(path, value)}
	}
	seen[value] = true
	return nil
}
