// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package catalog joins what the backends offer into the one list of tools, prompts, resources and resource templates that the
// gateway serves. It is pure: the same members give the same snapshot, whatever their order, on every start and replica.
package catalog

import (
	"cmp"
	"encoding/json"
	"slices"

	"github.com/tidwall/gjson"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
)

// Kinds of entries, as a Conflict, an Omission or a Rename names them.
const (
	KindTool     = "tool"
	KindPrompt   = "prompt"
	KindResource = "resource"
	KindTemplate = "template"
)

// Member is a backend of the group, with what it offers. Inventory is nil while the backend is not served.
type Member struct {
	Key       backend.Key
	Inventory *backend.Inventory
}

// Entry is one thing that is served.
type Entry struct {
	// Name is the name of a tool or prompt, the URI of a resource or the URI template of a template, as clients see it.
	Name string
	// Backend is where it comes from.
	Backend backend.Key
	// Original is what the backend calls it.
	Original string
	// Raw is the backend's JSON object with Name, and what an override says, in place; every other byte of it is as the backend wrote it,
	// but that a tool's execution.taskSupport is missing, since the gateway offers no tasks.
	Raw json.RawMessage
}

// Conflict is an entry that is not served because another one has its name.
type Conflict struct {
	// Kind is tool, prompt, resource or template.
	Kind string
	// Name is what clients would see.
	Name string
	// Winner is the backend whose entry is served. It is zero with the strategy manual, where nobody's is.
	Winner backend.Key
	// Loser is the backend whose entry is not served, Original what it calls it.
	Loser    backend.Key
	Original string
	// Resolved says that this is what the configuration asks for: the winner was named to win.
	Resolved bool
}

// Omission is an entry of a backend that cannot be served.
type Omission struct {
	// Kind is tool, prompt, resource or template.
	Kind     string
	Backend  backend.Key
	Original string
	// Reason is a sentence.
	Reason string
}

// Rename is an entry that is served under another name than the strategy gives it, because that one is illegal or too long.
type Rename struct {
	// Kind is tool or prompt.
	Kind     string
	Backend  backend.Key
	Original string
	// Name is what clients see.
	Name string
}

// UnusedOverride is an override of a tool that its backend does not have.
type UnusedOverride struct {
	Backend backend.Key
	Tool    string
}

// Snapshot is an immutable catalog. The order of its lists is the order of the backends, then each backend's own. That of the
// backends is the one of priority, then Key.Compare.
type Snapshot struct {
	Tools     []Entry
	Prompts   []Entry
	Resources []Entry
	Templates []Entry

	// What is not served, or not as it came, in the same order.
	Conflicts []Conflict
	Omissions []Omission
	Renames   []Rename
	Unused    []UnusedOverride
	// Missing are the backends that are not served.
	Missing []backend.Key
	// Tokens estimates what the definitions of all tools take of the context of a model that is given them.
	Tokens int

	tools     map[string]int
	prompts   map[string]int
	resources map[string]int
	templates map[string]int
	matchers  []matcher
}

// Build joins the members as the aggregation says. It decides which tools are served, and the names of tools and prompts; URIs stay
// as they are, because results refer to them.
func Build(members []Member, a v1alpha1.Aggregation) *Snapshot {
	b := &builder{aggregation: a, ranks: make(map[string]int, len(a.ConflictResolution.Priority)), Snapshot: &Snapshot{}}
	for i, name := range a.ConflictResolution.Priority {
		b.ranks[name] = i
	}
	members = slices.SortedStableFunc(slices.Values(members), func(x, y Member) int {
		return cmp.Or(cmp.Compare(b.rank(x.Key), b.rank(y.Key)), x.Key.Compare(y.Key))
	})
	var tools, prompts, resources, templates []claim
	for _, m := range members {
		if m.Inventory == nil {
			b.Missing = append(b.Missing, m.Key)
			continue
		}
		tools = append(tools, b.tools(m)...)
		prompts = append(prompts, b.claims(KindPrompt, m.Key, m.Inventory.Prompts)...)
		resources = append(resources, b.claims(KindResource, m.Key, m.Inventory.Resources)...)
		templates = append(templates, b.claims(KindTemplate, m.Key, m.Inventory.Templates)...)
	}
	b.Snapshot.Tools, b.Snapshot.tools = b.resolve(tools)
	b.Snapshot.Prompts, b.Snapshot.prompts = b.resolve(prompts)
	b.Snapshot.Resources, b.Snapshot.resources = b.resolve(resources)
	b.Snapshot.Templates, b.Snapshot.templates = b.resolve(templates)
	b.matchers = matchersOf(b.Templates)
	b.Tokens = tokens(b.Snapshot.Tools)
	return b.Snapshot
}

// builder is a Snapshot that is being built.
type builder struct {
	*Snapshot
	aggregation v1alpha1.Aggregation
	ranks       map[string]int // by name of the backend
}

// claim is an entry that could be served.
type claim struct {
	Entry
	kind    string
	renamed bool // because the name that it was to have is not legal
}

// rank is the place of a backend in priority; those that are not in it share the last one.
func (b *builder) rank(key backend.Key) int {
	if rank, named := b.ranks[key.Name]; named {
		return rank
	}
	return len(b.ranks)
}

// tools are the claims of a backend's tools, as far as they are to be offered.
func (b *builder) tools(m Member) []claim {
	rules := newToolRules(b.aggregation.ToolsOf(m.Key.Name))
	var claims []claim
	for _, item := range m.Inventory.Tools {
		override := rules.take(item.ID)
		if !rules.offers(item.ID) {
			continue
		}
		if gjson.GetBytes(item.Raw, "execution.taskSupport").String() == "required" {
			b.omit(KindTool, m.Key, item.ID, "it can only be called as a task, which the gateway does not offer")
			continue
		}
		claims = b.claim(claims, KindTool, m.Key, item, override)
	}
	for _, tool := range rules.unused() {
		b.Unused = append(b.Unused, UnusedOverride{Backend: m.Key, Tool: tool})
	}
	return claims
}

func (b *builder) claims(kind string, key backend.Key, items []backend.Item) []claim {
	var claims []claim
	for _, item := range items {
		claims = b.claim(claims, kind, key, item, v1alpha1.ToolOverride{})
	}
	return claims
}

func (b *builder) claim(claims []claim, kind string, key backend.Key, item backend.Item, override v1alpha1.ToolOverride) []claim {
	c := claim{kind: kind, Entry: Entry{Backend: key, Original: item.ID}}
	switch {
	case kind == KindResource || kind == KindTemplate:
		c.Name = item.ID
	case override.Name != "":
		c.Name = override.Name
	default:
		c.Name, c.renamed = exposedName(b.aggregation.ConflictResolution.Prefix(key.Name), item.ID)
	}
	var err error
	if c.Raw, err = expose(kind, item, c.Name, override); err != nil {
		b.omit(kind, key, item.ID, err.Error())
		return claims
	}
	return append(claims, c)
}

// resolve decides which of the claims of one kind are served, and says where in the list each name is.
func (b *builder) resolve(claims []claim) ([]Entry, map[string]int) {
	wanted := make(map[string]int, len(claims))
	for _, c := range claims {
		wanted[c.Name]++
	}
	manual := b.aggregation.ConflictResolution.Strategy == v1alpha1.ConflictResolutionManual
	var entries []Entry
	index := make(map[string]int, len(wanted))
	for _, c := range claims {
		conflict := Conflict{Kind: c.kind, Name: c.Name, Loser: c.Backend, Original: c.Original}
		if manual && wanted[c.Name] > 1 {
			b.Conflicts = append(b.Conflicts, conflict)
			continue
		}
		if i, taken := index[c.Name]; taken {
			conflict.Winner = entries[i].Backend
			conflict.Resolved = b.rank(conflict.Winner) < b.rank(conflict.Loser)
			b.Conflicts = append(b.Conflicts, conflict)
			continue
		}
		if c.renamed {
			b.Renames = append(b.Renames, Rename{Kind: c.kind, Backend: c.Backend, Original: c.Original, Name: c.Name})
		}
		index[c.Name] = len(entries)
		entries = append(entries, c.Entry)
	}
	return entries, index
}

func (b *builder) omit(kind string, key backend.Key, original, reason string) {
	b.Omissions = append(b.Omissions, Omission{Kind: kind, Backend: key, Original: original, Reason: reason})
}

// Tool finds a tool by its exposed name.
func (s *Snapshot) Tool(name string) (Entry, bool) { return find(s.Tools, s.tools, name) }

// Prompt finds a prompt by its exposed name.
func (s *Snapshot) Prompt(name string) (Entry, bool) { return find(s.Prompts, s.prompts, name) }

// Resource finds who serves a URI: the resource of that URI, else the first template that matches it. In the latter case
// Original is the template, not the URI.
func (s *Snapshot) Resource(uri string) (Entry, bool) {
	if e, ok := find(s.Resources, s.resources, uri); ok {
		return e, true
	}
	for _, m := range s.matchers {
		if m.pattern.MatchString(uri) {
			return s.Templates[m.template], true
		}
	}
	return Entry{}, false
}

func find(entries []Entry, index map[string]int, name string) (Entry, bool) {
	if i, ok := index[name]; ok {
		return entries[i], true
	}
	return Entry{}, false
}
