// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package catalog joins what the backends offer into the one list of tools, prompts, resources and resource templates that the
// gateway serves. It is pure: the same members give the same snapshot, whatever their order, on every start and replica.
package catalog

import (
	"encoding/json"
	"slices"

	"github.com/tidwall/gjson"
	"github.com/tidwall/sjson"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
)

// Kinds of entries, as a Conflict or an Omission names them.
const (
	KindTool     = "tool"
	KindPrompt   = "prompt"
	KindResource = "resource"
	KindTemplate = "template"
)

// Member is a backend that is served, with what it offers.
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
	// Raw is the backend's JSON object with Name in place; every other field of it is as the backend wrote it, but that a
	// tool's execution.taskSupport is missing, since the gateway offers no tasks.
	Raw json.RawMessage
}

// Conflict is a name that two backends want, after resolution. Only the winner's entry is served.
type Conflict struct {
	// Kind is tool, prompt, resource or template.
	Kind          string
	Name          string
	Winner, Loser backend.Key
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

// Snapshot is an immutable catalog. The order of its lists is the order of the backends, then each backend's own.
type Snapshot struct {
	Tools     []Entry
	Prompts   []Entry
	Resources []Entry
	Templates []Entry
	Conflicts []Conflict
	Omissions []Omission

	tools     map[string]int
	prompts   map[string]int
	resources map[string]int
	templates map[string]int
	matchers  []matcher
}

// Build joins the members. The order of backends is Key.Compare; where two entries end up with one name, the first in that
// order is served and the clash is recorded. r decides the names of tools and prompts; URIs stay as they are, because
// results refer to them.
func Build(members []Member, r v1alpha1.ConflictResolution) *Snapshot {
	ordered := slices.SortedStableFunc(slices.Values(members), func(a, b Member) int { return a.Key.Compare(b.Key) })
	s := &Snapshot{
		tools: map[string]int{}, prompts: map[string]int{}, resources: map[string]int{}, templates: map[string]int{},
	}
	for _, m := range ordered {
		if m.Inventory == nil {
			continue
		}
		prefix := prefixOf(m.Key, r)
		for _, item := range m.Inventory.Tools {
			if gjson.GetBytes(item.Raw, "execution.taskSupport").String() == "required" {
				s.omit(KindTool, m.Key, item.ID, "the tool can only be called as a task, which the gateway does not offer")
				continue
			}
			s.add(KindTool, &s.Tools, s.tools, m.Key, item, exposedName(prefix, item.ID))
		}
		for _, item := range m.Inventory.Prompts {
			s.add(KindPrompt, &s.Prompts, s.prompts, m.Key, item, exposedName(prefix, item.ID))
		}
		for _, item := range m.Inventory.Resources {
			s.add(KindResource, &s.Resources, s.resources, m.Key, item, item.ID)
		}
		for _, item := range m.Inventory.Templates {
			s.add(KindTemplate, &s.Templates, s.templates, m.Key, item, item.ID)
		}
	}
	s.matchers = matchersOf(s.Templates)
	return s
}

func (s *Snapshot) add(kind string, entries *[]Entry, index map[string]int, key backend.Key, item backend.Item, name string) {
	if taken, ok := index[name]; ok {
		s.Conflicts = append(s.Conflicts, Conflict{Kind: kind, Name: name, Winner: (*entries)[taken].Backend, Loser: key})
		return
	}
	raw, err := expose(kind, item, name)
	if err != nil {
		s.omit(kind, key, item.ID, "its description is no JSON object")
		return
	}
	index[name] = len(*entries)
	*entries = append(*entries, Entry{Name: name, Backend: key, Original: item.ID, Raw: raw})
}

func (s *Snapshot) omit(kind string, key backend.Key, original, reason string) {
	s.Omissions = append(s.Omissions, Omission{Kind: kind, Backend: key, Original: original, Reason: reason})
}

// expose puts the exposed name into the backend's description and leaves every other byte of it.
func expose(kind string, item backend.Item, name string) (json.RawMessage, error) {
	if !gjson.ValidBytes(item.Raw) || !gjson.ParseBytes(item.Raw).IsObject() {
		return nil, errNotObject
	}
	raw := []byte(item.Raw)
	var err error
	if name != item.ID {
		if raw, err = sjson.SetBytes(raw, "name", name); err != nil {
			return nil, err
		}
	}
	if kind == KindTool && gjson.GetBytes(raw, "execution.taskSupport").Exists() {
		if raw, err = sjson.DeleteBytes(raw, "execution.taskSupport"); err != nil {
			return nil, err
		}
	}
	return raw, nil
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
