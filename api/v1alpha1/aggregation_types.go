// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// ConflictResolutionStrategy says how the names of several backends become one set of names.
//
// +kubebuilder:validation:Enum=prefix;priority;manual
type ConflictResolutionStrategy string

const (
	// ConflictResolutionPrefix puts the backend's name before every name.
	ConflictResolutionPrefix ConflictResolutionStrategy = "prefix"
	// ConflictResolutionPriority leaves names bare; the first backend of a list wins a name that several want.
	ConflictResolutionPriority ConflictResolutionStrategy = "priority"
	// ConflictResolutionManual leaves names bare; a name that several want is nobody's.
	ConflictResolutionManual ConflictResolutionStrategy = "manual"
)

// DefaultPrefixFormat is the prefix of a VirtualMCPServer that names none.
const DefaultPrefixFormat = "{backend}_"

// Bounds of spec.aggregation.
const (
	// MaxPriority is the most entries of spec.aggregation.conflictResolution.priority.
	MaxPriority = 256
	// MaxToolRules is the most entries of spec.aggregation.tools.
	MaxToolRules = 256
	// MaxToolPatterns is the most entries of include, and of exclude, of an entry of spec.aggregation.tools.
	MaxToolPatterns = 128
	// MaxToolOverrides is the most overrides of an entry of spec.aggregation.tools.
	MaxToolOverrides = 128
)

// ConflictResolution says how the names of several backends become one set of names.
//
// +kubebuilder:validation:XValidation:rule="!has(self.priority) || (has(self.strategy) && self.strategy == 'priority')",message="priority belongs to the strategy priority; the other strategies would ignore it"
// +kubebuilder:validation:XValidation:rule="!has(self.strategy) || self.strategy != 'priority' || (has(self.priority) && self.priority.size() > 0)",message="the strategy priority needs priority: the backends in the order in which they win a name"
type ConflictResolution struct {
	// strategy is the way to resolve conflicts. prefix: every name of a tool or prompt is preceded by prefixFormat. priority: names are
	// those of the backends, bare; a name that several backends offer is that of the first of them in priority. manual: names are bare,
	// too, and whoever wrote this resolves conflicts by overrides and filters in tools; a name that several backends offer all the
	// same is not served from any of them. URIs of resources are never changed; of several backends that offer one, the same
	// strategy decides, with prefix the first in the order of names. Unset means prefix.
	// +optional
	// +kubebuilder:default=prefix
	Strategy ConflictResolutionStrategy `json:"strategy,omitempty"`

	// prefixFormat is the prefix, for the strategy prefix; {backend} stands for the name of the backend and must occur once.
	// Characters are those that MCP allows in the name of a tool. Unset means {backend}_.
	// +optional
	// +kubebuilder:default="{backend}_"
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9_.-]*\{backend\}[A-Za-z0-9_.-]*$`
	PrefixFormat string `json:"prefixFormat,omitempty"`

	// priority names backends, for the strategy priority, the first one first. Backends that are not named come after them, in the order
	// of their names; a name that two of these offer is reported as a conflict. The lists of the gateway are in this order, too.
	// Unset means none; the strategy priority needs at least one.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.all(b, self.exists_one(c, c == b))",message="priority must name each backend once"
	Priority []string `json:"priority,omitempty"`
}

// ToolVisibility says who sees the tools of a backend.
//
// +kubebuilder:validation:Enum=Exposed;Hidden
type ToolVisibility string

const (
	// ToolsExposed means that clients list and call the tools.
	ToolsExposed ToolVisibility = "Exposed"
	// ToolsHidden means that clients neither see the tools nor can call them.
	ToolsHidden ToolVisibility = "Hidden"
)

// ToolPattern is a glob on the name that the backend gives to a tool: * stands for any number of characters, ? for one; every other
// character stands for itself.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=128
type ToolPattern string

// ToolOverride changes how one tool is offered.
//
// +kubebuilder:validation:XValidation:rule="has(self.name) || has(self.title) || has(self.description)",message="an override must set at least one of name, title and description"
type ToolOverride struct {
	// tool is the name that the backend gives to the tool.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Tool string `json:"tool"`

	// name is the name under which clients see and call the tool, as it is: no prefix is put before it. It has at most 64 characters of
	// A-Z a-z 0-9 _ - and dot, which is what models and their APIs take. Unset leaves the name to conflictResolution.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9_.-]+$')",message="name must consist of A-Z a-z 0-9 _ - and dot: MCP allows no other characters in the name of a tool"
	Name string `json:"name,omitempty"`

	// title replaces the title that people see. Unset leaves the backend's.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	Title string `json:"title,omitempty"`

	// description replaces the description by which a model chooses the tool. Unset leaves the backend's.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	Description string `json:"description,omitempty"`
}

// BackendTools says which tools of a backend are offered, and how.
type BackendTools struct {
	// backend is the name of the backend.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Backend string `json:"backend"`

	// include are globs on the names that the backend gives to its tools; tools that match none of them are not offered. Unset means
	// all tools.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=128
	Include []ToolPattern `json:"include,omitempty"`

	// exclude are globs on the names that the backend gives to its tools; tools that match one of them are not offered, even if include
	// names them. Unset means none.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=128
	Exclude []ToolPattern `json:"exclude,omitempty"`

	// visibility says whether clients see the backend's tools. Hidden: they neither see nor can call them; prompts and resources are
	// offered all the same. Unset means Exposed.
	// +optional
	Visibility ToolVisibility `json:"visibility,omitempty"`

	// overrides change the name, title or description of single tools; everything else of a tool, its schema above all, stays as the
	// backend wrote it. Unset means none.
	// +optional
	// +listType=map
	// +listMapKey=tool
	// +kubebuilder:validation:MaxItems=128
	Overrides []ToolOverride `json:"overrides,omitempty"`
}

// Aggregation says how what the backends offer becomes one catalog.
type Aggregation struct {
	// conflictResolution says how the names of several backends become one set of names.
	// +optional
	ConflictResolution ConflictResolution `json:"conflictResolution,omitzero"`

	// tools say, for single backends, which of their tools are offered, and how. Unset means all tools of all backends, as they are.
	// +optional
	// +listType=map
	// +listMapKey=backend
	// +kubebuilder:validation:MaxItems=256
	Tools []BackendTools `json:"tools,omitempty"`
}
