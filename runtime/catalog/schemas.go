// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"

	"github.com/tidwall/gjson"

	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
)

// Schemas remembers what the schemas of tools were when they were first read, so that later changes of them show: whoever looked at a tool
// before it was used looked at another one. The zero value is ready for use; it is not safe for concurrent use.
type Schemas struct {
	backends map[backend.Key]*backendSchemas
}

type backendSchemas struct {
	inventory *backend.Inventory // that was read last
	first     map[string]digest  // by tool
	drifted   []string           // tools of inventory
}

type digest [sha256.Size]byte

// Drift is a tool whose input or output schema is another than when it was first read.
type Drift struct {
	Backend backend.Key
	// Tool is what the backend calls it.
	Tool string
}

// Observe takes what the members offer and returns the tools that drifted, in the order of the members. It forgets tools that their backend
// no longer has, and backends that are no members; a member without an inventory keeps what was remembered of it.
func (s *Schemas) Observe(members []Member) []Drift {
	next := make(map[backend.Key]*backendSchemas, len(members))
	var drifts []Drift
	for _, m := range members {
		b := s.backends[m.Key]
		if b == nil {
			b = &backendSchemas{}
		}
		next[m.Key] = b
		if m.Inventory == nil {
			continue
		}
		if m.Inventory != b.inventory {
			b.read(m.Inventory)
		}
		for _, tool := range b.drifted {
			drifts = append(drifts, Drift{Backend: m.Key, Tool: tool})
		}
	}
	s.backends = next
	return drifts
}

func (b *backendSchemas) read(inventory *backend.Inventory) {
	first := make(map[string]digest, len(inventory.Tools))
	b.drifted = nil
	for _, tool := range inventory.Tools {
		present := digestOf(tool.Raw)
		before, known := b.first[tool.ID]
		if !known {
			before = present
		}
		first[tool.ID] = before
		if before != present {
			b.drifted = append(b.drifted, tool.ID)
		}
	}
	b.inventory, b.first = inventory, first
}

// digestOf tells the schemas of a tool apart, but not the ways to write one: the order of members and blanks mean nothing in JSON.
func digestOf(tool json.RawMessage) digest {
	schemas := gjson.GetManyBytes(tool, "inputSchema", "outputSchema")
	return sha256.Sum256(append(append(canonical(schemas[0].Raw), 0), canonical(schemas[1].Raw)...))
}

// canonical is JSON with sorted members and without blanks; what is no JSON stays as it is.
func canonical(raw string) []byte {
	decoder := json.NewDecoder(bytes.NewReader([]byte(raw)))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil {
		return []byte(raw)
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		return []byte(raw)
	}
	return encoded
}
