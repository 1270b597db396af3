// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// MaxCatalogIssues is the most entries that status.catalog.issues holds. More are reported truncated, with the whole number in
// status.catalog.issueCount.
const MaxCatalogIssues = 64

// CatalogSummary counts what the gateway offers.
type CatalogSummary struct {
	// tools is the number of tools.
	// +required
	Tools int32 `json:"tools"`

	// prompts is the number of prompts.
	// +required
	Prompts int32 `json:"prompts"`

	// resources is the number of resources, templates not counted.
	// +required
	Resources int32 `json:"resources"`

	// tokens is an estimate of what the tools take of the context of a model that is given all of them: a quarter of the bytes of
	// their names, descriptions and input schemas.
	// +optional
	Tokens int32 `json:"tokens,omitempty"`

	// conflicts is the number of names that could not be offered because another backend has them, those not counted that
	// conflictResolution.priority settles.
	// +required
	Conflicts int32 `json:"conflicts"`

	// issueCount is the number of issues, those included that the list does not hold.
	// +optional
	IssueCount int32 `json:"issueCount,omitempty"`

	// issues are what the gateway does not offer, or not as the backends do, and what changed in a way that a person should look at;
	// the gravest first, at most 64.
	// +optional
	// +listType=map
	// +listMapKey=reason
	// +listMapKey=kind
	// +listMapKey=backend
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	Issues []CatalogIssue `json:"issues,omitempty"`
}

// CatalogIssue is one thing that the gateway does not offer, or not as the backend does.
type CatalogIssue struct {
	// reason says in a word what the issue is. NameConflict: another backend has the name, and nothing says who is to win. NotOffered: it
	// cannot be offered. SchemaChanged: the schema of a tool is not the one that the reporting pod first read, which whoever relies on
	// the tool should know. OverrideUnused: an override is for a tool that the backend does not have. NameChanged: the name was too long
	// or had characters that MCP does not allow. NameShadowed: another backend has the name, and priority says that it wins.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Reason string `json:"reason"`

	// kind is tool, prompt, resource or template.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Kind string `json:"kind"`

	// backend is the name of the backend.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Backend string `json:"backend"`

	// name is what the backend calls it: the name of a tool or prompt, the URI of a resource, the URI template of a template.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Name string `json:"name"`

	// message says in a sentence what the issue is.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Message string `json:"message,omitempty"`
}
