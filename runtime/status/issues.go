// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"math"

	corev1 "k8s.io/api/core/v1"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	vmcpac "github.com/vmcp-dev/vmcp-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
)

// Bounds of an issue that the schema of the CRD sets.
const (
	maxIssueName    = 256
	maxIssueMessage = 512
)

// Issue is something that is not offered, or not as its backend offers it, or that changed in a way that a person should look at.
type Issue struct {
	// Reason is one of the reasons of an entry of status.catalog.issues.
	Reason string
	// Kind is tool, prompt, resource or template.
	Kind    string
	Backend backend.Key
	// Name is what the backend calls it.
	Name string
	// Message is a sentence, without its capital and its full stop.
	Message string
}

// issueKey tells issues apart, as the keys of the list do.
type issueKey struct{ reason, kind, backend, name string }

func keyOf(i v1alpha1.CatalogIssue) issueKey { return issueKey{i.Reason, i.Kind, i.Backend, i.Name} }

// listed are the issues as the status holds them: cut to what the schema takes, each once, and no more than there is room for.
func listed(issues []Issue) []v1alpha1.CatalogIssue {
	var list []v1alpha1.CatalogIssue
	known := map[issueKey]bool{}
	for _, i := range issues {
		entry := v1alpha1.CatalogIssue{
			Reason: i.Reason, Kind: i.Kind, Backend: i.Backend.Name, Name: cut(i.Name, maxIssueName), Message: cut(sentence(i.Message), maxIssueMessage),
		}
		if known[keyOf(entry)] {
			continue // but for what was cut off it is the same
		}
		known[keyOf(entry)] = true
		if list = append(list, entry); len(list) == v1alpha1.MaxCatalogIssues {
			break
		}
	}
	return list
}

func catalogSummary(c Catalog) *vmcpac.CatalogSummaryApplyConfiguration {
	summary := vmcpac.CatalogSummary().
		WithTools(int32(c.Tools)).               //nolint:gosec // The lists of a backend are bounded.
		WithPrompts(int32(c.Prompts)).           //nolint:gosec // As above.
		WithResources(int32(c.Resources)).       //nolint:gosec // As above.
		WithConflicts(int32(len(c.conflicts()))) //nolint:gosec // As above.
	if c.Tokens > 0 {
		summary.WithTokens(int32(min(c.Tokens, math.MaxInt32)))
	}
	if len(c.Issues) > 0 {
		summary.WithIssueCount(int32(len(c.Issues))) //nolint:gosec // As above.
	}
	for _, i := range listed(c.Issues) {
		summary.WithIssues(vmcpac.CatalogIssue().
			WithReason(i.Reason).WithKind(i.Kind).WithBackend(i.Backend).WithName(i.Name).WithMessage(i.Message))
	}
	return summary
}

// conflicts are the messages of the names that clash.
func (c Catalog) conflicts() []string {
	var messages []string
	for _, i := range c.Issues {
		if i.Reason == v1alpha1.ReasonNameConflict {
			messages = append(messages, i.Message)
		}
	}
	return messages
}

// newIssues are those of a status that the one before did not have, by reason, in their order.
func newIssues(before, after *v1alpha1.CatalogSummary) (reasons []string, byReason map[string][]v1alpha1.CatalogIssue) {
	byReason = map[string][]v1alpha1.CatalogIssue{}
	if after == nil {
		return nil, byReason
	}
	known := map[issueKey]bool{}
	if before != nil {
		for _, i := range before.Issues {
			known[keyOf(i)] = true
		}
	}
	for _, i := range after.Issues {
		if known[keyOf(i)] {
			continue
		}
		if byReason[i.Reason] == nil {
			reasons = append(reasons, i.Reason)
		}
		byReason[i.Reason] = append(byReason[i.Reason], i)
	}
	return reasons, byReason
}

// severity is the type of the event that tells of an issue: what the configuration asks for, or what changes nothing for anybody, needs
// nobody's attention.
func severity(reason string) string {
	switch reason {
	case v1alpha1.ReasonNameShadowed, v1alpha1.ReasonNameChanged:
		return corev1.EventTypeNormal
	default:
		return corev1.EventTypeWarning
	}
}
