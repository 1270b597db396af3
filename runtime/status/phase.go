// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// Summary is a report in one word, with its cause.
type Summary struct {
	Phase v1alpha1.Phase
	// Served says that calls reach at least one backend.
	Served bool
	// Reason is one of the reasons of the condition Ready.
	Reason string
	// Message is a sentence for people.
	Message string
}

// maxNamed is how many of many things a message names.
const maxNamed = 5

// Summarize sums a report up.
func Summarize(r Report) Summary {
	ready, served := count(r.Backends)
	total := len(r.Backends)
	s := Summary{Phase: v1alpha1.PhaseDegraded, Served: served > 0}
	switch {
	case !r.Discovered:
		s.Phase, s.Reason, s.Message = v1alpha1.PhaseFailed, v1alpha1.ReasonDiscoveryFailed, sentence(r.DiscoveryError)
	case total == 0:
		s.Reason, s.Message = v1alpha1.ReasonNoBackends, fmt.Sprintf("Group %s has no backends.", r.Group)
	case served == 0:
		s.Phase, s.Reason = v1alpha1.PhaseFailed, v1alpha1.ReasonNoBackendReady
		s.Message = fmt.Sprintf("None of %s is served: %s.", backends(total), notReady(r.Backends))
	case ready < total:
		s.Reason = v1alpha1.ReasonBackendsNotReady
		s.Message = fmt.Sprintf("%d of %s ready; not ready: %s.", ready, backends(total), notReady(r.Backends))
	case len(r.Catalog.conflicts()) > 0:
		s.Reason, s.Message = v1alpha1.ReasonCatalogConflicts, clashes(r.Catalog)
	case r.Refused != "":
		s.Reason, s.Message = v1alpha1.ReasonConfigurationRefused, notServed(r)
		return s
	default:
		s.Phase, s.Reason = v1alpha1.PhaseReady, v1alpha1.ReasonAllBackendsReady
		s.Message = fmt.Sprintf("%d of %s ready.", ready, backends(total))
	}
	if r.Refused != "" {
		s.Message += " " + notServed(r)
	}
	return s
}

// notServed says that what is served is not what was asked for last.
func notServed(r Report) string {
	return fmt.Sprintf("A newer configuration is refused, that of generation %d is served: %s", r.Generation, strings.TrimSuffix(r.Refused, ".")+".")
}

// count says how many backends are ready, and how many are served.
func count(list []Backend) (ready, served int) {
	for i := range list {
		if list[i].Verdict.Status == v1alpha1.BackendReady {
			ready++
		}
		if list[i].Verdict.Status.Served() {
			served++
		}
	}
	return ready, served
}

func backends(n int) string {
	if n == 1 {
		return "1 backend"
	}
	return fmt.Sprintf("%d backends", n)
}

func notReady(list []Backend) string {
	var names []string
	for _, b := range sorted(list) {
		if b.Verdict.Status != v1alpha1.BackendReady {
			names = append(names, fmt.Sprintf("%s (%s)", b.Target.Name, b.Verdict.Reason))
		}
	}
	return named(names, ", ")
}

func clashes(c Catalog) string {
	conflicts := c.conflicts()
	if len(conflicts) == 1 {
		return sentence(conflicts[0])
	}
	return fmt.Sprintf("%d names clash: %s.", len(conflicts), named(conflicts, "; "))
}

// named joins the first of many.
func named(names []string, separator string) string {
	if len(names) <= maxNamed {
		return strings.Join(names, separator)
	}
	return fmt.Sprintf("%s%sand %d more", strings.Join(names[:maxNamed], separator), separator, len(names)-maxNamed)
}

// sentence makes an error's text one. Text that begins with an address keeps its case.
func sentence(text string) string {
	if text == "" {
		return ""
	}
	if first, _, _ := strings.Cut(text, " "); !strings.ContainsAny(first, "/:.") {
		text = strings.ToUpper(text[:1]) + text[1:]
	}
	return strings.TrimSuffix(text, ".") + "."
}

// sorted is the list in the one order of backends.
func sorted(list []Backend) []Backend {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b Backend) int { return a.Target.Compare(b.Target.Key) })
	return list
}
