// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// list is one of the four lists of MCP: how to ask for it, and where its entries and their identifiers are.
type list struct {
	method string
	field  string
	id     string
	of     func(capabilities) *struct{}
	into   func(*Inventory) *[]Item
}

var lists = []list{
	{methodToolsList, "tools", "name",
		func(c capabilities) *struct{} { return c.Tools }, func(i *Inventory) *[]Item { return &i.Tools }},
	{methodPromptsList, "prompts", "name",
		func(c capabilities) *struct{} { return c.Prompts }, func(i *Inventory) *[]Item { return &i.Prompts }},
	{methodResourcesList, "resources", "uri",
		func(c capabilities) *struct{} { return c.Resources }, func(i *Inventory) *[]Item { return &i.Resources }},
	{methodTemplatesList, "resourceTemplates", "uriTemplate",
		func(c capabilities) *struct{} { return c.Resources }, func(i *Inventory) *[]Item { return &i.Templates }},
}

// Inventory reads all that the backend offers: every page of the four lists, within the limits. A list of a kind that the
// backend has no capability for, or that it does not know, is empty. A list over the limits is cut there, and a cursor that
// comes twice ends it; both are logged.
func (c *Client) Inventory(ctx context.Context) (*Inventory, error) {
	ctx, cancel := context.WithTimeout(ctx, c.limits.Timeout)
	defer cancel()
	s, _, err := c.acquire(ctx)
	if err != nil {
		return nil, err
	}
	s.awaitStream(ctx)
	s.read.Store(true)
	inventory := &Inventory{ProtocolVersion: s.protocolVersion}
	for _, l := range lists {
		if l.of(s.capabilities) == nil {
			continue
		}
		items, err := c.pages(ctx, l)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", l.method, err)
		}
		*l.into(inventory) = items
	}
	return inventory, nil
}

// pages reads one list to its end.
func (c *Client) pages(ctx context.Context, l list) ([]Item, error) {
	var (
		items   []Item
		bytes   int
		known   = map[string]bool{}
		cursors = map[string]bool{}
		params  json.RawMessage
	)
	for page := 1; ; page++ {
		raw, err := c.Call(ctx, l.method, params)
		var rpc *RPCError
		if errors.As(err, &rpc) && rpc.Code == CodeMethodNotFound {
			return items, nil
		}
		if err != nil {
			return nil, err
		}
		entries, next, err := decodePage(raw, l)
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			if known[entry.ID] {
				continue
			}
			bytes += len(entry.Raw)
			if len(items) == c.limits.Items || bytes > c.limits.ListBytes {
				c.log.Warn("the list of the backend is longer than the gateway takes; the rest is left out",
					"list", l.field, "items", len(items), "bytes", bytes)
				return items, nil
			}
			known[entry.ID] = true
			items = append(items, entry)
		}
		switch {
		case next == nil:
			return items, nil
		case cursors[*next]:
			c.log.Warn("the backend gives a cursor for the second time; the list ends there", "list", l.field, "items", len(items))
			return items, nil
		case page == c.limits.Pages:
			c.log.Warn("the list of the backend has more pages than the gateway takes; the rest is left out", "list", l.field, "pages", page)
			return items, nil
		}
		cursors[*next] = true
		if params, err = json.Marshal(map[string]string{"cursor": *next}); err != nil {
			return nil, fmt.Errorf("encoding the cursor: %w", err)
		}
	}
}

// decodePage reads the entries of one page, raw, and the cursor of the next one: an empty cursor is one, a missing one is not.
// Entries without an identifier are left out: nobody could ask for them.
func decodePage(raw json.RawMessage, l list) ([]Item, *string, error) {
	var page struct {
		NextCursor *string `json:"nextCursor"`
	}
	var fields map[string]json.RawMessage
	var entries []json.RawMessage
	if err := json.Unmarshal(raw, &page); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	if field, ok := fields[l.field]; ok {
		if err := json.Unmarshal(field, &entries); err != nil {
			return nil, nil, fmt.Errorf("%w: %w", errMalformed, err)
		}
	}
	items := make([]Item, 0, len(entries))
	for _, entry := range entries {
		var object map[string]json.RawMessage
		var id string
		if json.Unmarshal(entry, &object) != nil || json.Unmarshal(object[l.id], &id) != nil || id == "" {
			continue
		}
		items = append(items, Item{ID: id, Raw: entry})
	}
	return items, page.NextCursor, nil
}
