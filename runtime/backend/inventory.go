// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
)

// streamPatience is how long reading the lists waits for the stream of notifications.
const streamPatience = 250 * time.Millisecond

// list is one of the four lists of MCP: how to ask for it, and where its entries and their identifiers are.
type list struct {
	method string
	field  string
	id     string
	of     func(capabilities) *listCapability
	into   func(*Inventory) *[]Item
}

var lists = []list{
	{methodToolsList, "tools", "name",
		func(c capabilities) *listCapability { return c.Tools }, func(i *Inventory) *[]Item { return &i.Tools }},
	{methodPromptsList, "prompts", "name",
		func(c capabilities) *listCapability { return c.Prompts }, func(i *Inventory) *[]Item { return &i.Prompts }},
	{methodResourcesList, "resources", "uri",
		func(c capabilities) *listCapability { return c.Resources }, func(i *Inventory) *[]Item { return &i.Resources }},
	{methodTemplatesList, "resourceTemplates", "uriTemplate",
		func(c capabilities) *listCapability { return c.Resources }, func(i *Inventory) *[]Item { return &i.Templates }},
}

// Inventory reads all that the backend offers: every page of the four lists, within the limits. A list of a kind that the
// backend has no capability for, or that it does not know, is empty. A list over the limits is cut there, and a cursor that
// comes twice ends it; both are logged.
func (c *Client) Inventory(ctx context.Context) (*Inventory, error) {
	ctx, cancel := context.WithTimeout(ctx, c.limits.Timeout)
	defer cancel()
	version, has, err := c.prepare(ctx)
	if err != nil {
		return nil, err
	}
	c.hasRead.Store(true)
	inventory := &Inventory{ProtocolVersion: version}
	for _, l := range lists {
		if l.of(has) == nil {
			continue
		}
		items, err := c.pages(l, func(params json.RawMessage) (json.RawMessage, error) { return c.Call(ctx, l.method, params) })
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", l.method, err)
		}
		*l.into(inventory) = items
	}
	if v := c.verdict.Load(); v != nil && v.era == relay.Modern {
		inventory.Tools = slices.DeleteFunc(inventory.Tools, c.hasBadHeaders)
	}
	return inventory, nil
}

// prepare finds out what the backend has, and waits, but not for long, until it tells of changes, so that none falls between.
func (c *Client) prepare(ctx context.Context) (version string, has capabilities, err error) {
	for attempt := 1; ; attempt++ {
		if c.target.Refused != (Refusal{}) {
			return "", capabilities{}, &refusedError{c.target.Refused}
		}
		v, err := c.era(ctx)
		if err != nil {
			return "", capabilities{}, err
		}
		if v.era == relay.Modern {
			c.listening.start()
			c.listening.settle(ctx, streamPatience)
			return v.version, v.capabilities, nil
		}
		l, _, err := c.service.acquire(ctx)
		switch {
		case err == nil:
			awaitStream(ctx, l.link.settled())
			return l.version, l.capabilities, nil
		case attempt == 2 || !c.outdated(ctx, v, err):
			return "", capabilities{}, err
		}
	}
}

// awaitStream waits for a stream of notifications, but not for long.
func awaitStream(ctx context.Context, settled <-chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, streamPatience)
	defer cancel()
	select {
	case <-settled:
	case <-ctx.Done():
	}
}

// pages reads one list to its end. ask asks for one page.
func (c *Client) pages(l list, ask func(params json.RawMessage) (json.RawMessage, error)) ([]Item, error) {
	var (
		items   []Item
		bytes   int
		known   = map[string]bool{}
		cursors = map[string]bool{}
		params  json.RawMessage
	)
	for page := 1; ; page++ {
		raw, err := ask(params)
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
