// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/tidwall/sjson"

	"github.com/vmcp-dev/vmcp-operator/runtime/catalog"
	"github.com/vmcp-dev/vmcp-operator/runtime/era"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
)

// The lists, by their index.
const (
	listTools = iota
	listPrompts
	listResources
	listTemplates
	lists
)

// The kinds of announcements, by their index.
const (
	changedTools = iota
	changedPrompts
	changedResources
	changes
)

var (
	// listFields are the fields of results that hold the entries.
	listFields = [lists]string{"tools", "prompts", "resources", "resourceTemplates"}
	// listChanges say which announcement concerns a list.
	listChanges = [lists]int{changedTools, changedPrompts, changedResources, changedResources}
	// changeMethods are the notifications that announce.
	changeMethods = [changes]string{
		mcp.MethodNotificationToolsListChanged, mcp.MethodNotificationPromptsListChanged, mcp.MethodNotificationResourcesListChanged,
	}
)

// listOf is the list that a method asks for.
func listOf(method string) (int, bool) {
	switch mcp.MCPMethod(method) {
	case mcp.MethodToolsList:
		return listTools, true
	case mcp.MethodPromptsList:
		return listPrompts, true
	case mcp.MethodResourcesList:
		return listResources, true
	case mcp.MethodResourcesTemplatesList:
		return listTemplates, true
	default:
		return 0, false
	}
}

// edition is a snapshot with its lists encoded. It never changes.
type edition struct {
	snapshot  *catalog.Snapshot
	upstreams Upstreams // of the backends in snapshot
	welcome   welcome
	lists     [relay.Modern + 1][lists]*list // by era
	traits    map[string]traits              // of tools, by name, where there are any
	templates map[string]catalog.Entry       // by template

	// revisions count the changes of each kind, changed is when the last one was.
	revisions [changes]uint64
	changed   [changes]time.Time
}

// traits are what a call of a tool depends on.
type traits struct {
	headers    *era.ParamHeaders
	repeatable bool
}

// publish makes the edition of a snapshot that follows another one, if there is one.
func (g *Gateway) publish(s *catalog.Snapshot, upstreams Upstreams, last *edition) *edition {
	e := &edition{
		snapshot: s, upstreams: upstreams, welcome: g.texts.welcome(s.Missing), traits: map[string]traits{}, templates: make(map[string]catalog.Entry, len(s.Templates)),
	}
	for i, entries := range [lists][]catalog.Entry{s.Tools, s.Prompts, s.Resources, s.Templates} {
		modern := newList(i, entries, g.limits.PageSize)
		legacy := modern
		if older, changed := forLegacy(i, entries); changed {
			legacy = newList(i, older, g.limits.PageSize)
		}
		e.lists[relay.Modern][i], e.lists[relay.Legacy][i] = modern, legacy.withoutPages()
		modern.paginate(g, `,`+completeText+`,`+cacheText+`,`+string(e.welcome.meta)+`}}`)
		e.lists[relay.Legacy][i].paginate(g, `}}`)
	}
	for _, tool := range s.Tools {
		if t := traitsOf(tool.Raw); t != (traits{}) {
			e.traits[tool.Name] = t
		}
	}
	for _, t := range s.Templates {
		e.templates[t.Name] = t
	}
	if last == nil {
		return e
	}
	e.revisions, e.changed = last.revisions, last.changed
	now := time.Now()
	for i := range lists {
		kind := listChanges[i]
		if e.revisions[kind] == last.revisions[kind] && !bytes.Equal(e.lists[relay.Modern][i].entries, last.lists[relay.Modern][i].entries) {
			e.revisions[kind]++
			e.changed[kind] = now
		}
	}
	return e
}

func traitsOf(tool []byte) traits {
	found := rpc.Find(tool, rpc.Span{End: len(tool)}, "inputSchema", "annotations")
	var t traits
	if schema := found[0].Of(tool); bytes.Contains(schema, []byte("x-mcp-header")) {
		t.headers = era.NewParamHeaders(schema)
	}
	hints := rpc.Find(tool, found[1], "readOnlyHint", "idempotentHint")
	t.repeatable = string(hints[0].Of(tool)) == "true" || string(hints[1].Of(tool)) == "true"
	return t
}

// forLegacy leaves out what clients of the legacy era cannot read: up to revision 2025-11-25 the root of an outputSchema is an object.
func forLegacy(kind int, entries []catalog.Entry) (out []catalog.Entry, changed bool) {
	if kind != listTools {
		return entries, false
	}
	for i, e := range entries {
		schema := rpc.Find(e.Raw, rpc.Span{End: len(e.Raw)}, "outputSchema")[0]
		if !schema.Exists() || string(rpc.Find(e.Raw, schema, "type")[0].Of(e.Raw)) == `"object"` {
			continue
		}
		raw, err := sjson.DeleteBytes(e.Raw, "outputSchema")
		if err != nil {
			continue // not for a plain path in an object
		}
		if !changed {
			out, changed = append([]catalog.Entry(nil), entries...), true
		}
		out[i].Raw = raw
	}
	if !changed {
		return entries, false
	}
	return out, true
}

// list is one list, encoded: entries that follow each other are one piece of it.
type list struct {
	kind    int
	names   []string
	entries []byte // objects, with a comma between two
	ends    []int  // where each object ends
	size    int    // of a page

	pages []*page
	tail  string // follows the last entry, and the cursor if there is one
}

func newList(kind int, entries []catalog.Entry, size int) *list {
	l := &list{kind: kind, names: make([]string, len(entries)), ends: make([]int, len(entries)), size: size}
	if size < 0 {
		l.size = max(len(entries), 1)
	}
	var b bytes.Buffer
	for i, e := range entries {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := json.Compact(&b, e.Raw); err != nil {
			// The catalog admits JSON objects only.
			panic(fmt.Sprintf("catalog entry %q is no JSON: %v", e.Name, err))
		}
		l.names[i], l.ends[i] = e.Name, b.Len()
	}
	l.entries = b.Bytes()
	return l
}

// withoutPages is the same list, for another era.
func (l *list) withoutPages() *list {
	other := *l
	other.pages = nil
	return &other
}

// paginate makes the pages that a client sees who begins at the beginning.
func (l *list) paginate(g *Gateway, tail string) {
	l.tail = tail
	for first := 0; first == 0 || first < len(l.names); first += l.size {
		l.pages = append(l.pages, l.page(g, first))
	}
}

// page makes the page that begins with an entry.
func (l *list) page(g *Gateway, first int) *page {
	end := min(first+l.size, len(l.names))
	p := &page{head: []byte(`,"result":{"` + listFields[l.kind] + `":[`), tail: []byte(`]` + l.tail)}
	if first < end {
		start := 0
		if first > 0 {
			start = l.ends[first-1] + 1
		}
		p.entries = l.entries[start:l.ends[end-1]]
	}
	if end < len(l.names) {
		p.tail = []byte(`],"nextCursor":"` + g.cursor(l.kind, l.names[end-1]) + `"` + l.tail)
	}
	return p
}

// after is the page that follows an entry, nil if there is no such entry.
func (l *list) after(g *Gateway, name string) *page {
	for i, n := range l.names {
		switch {
		case n != name:
		case (i+1)%l.size == 0 && (i+1)/l.size < len(l.pages):
			return l.pages[(i+1)/l.size]
		default:
			return l.page(g, i+1)
		}
	}
	return nil
}
