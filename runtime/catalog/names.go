// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"regexp"
	"strings"

	"github.com/mark3labs/mcp-go/mcp"
)

// MaxNameLength is the longest name of a tool or prompt that is served. MCP recommends at most 128 characters, models and
// their APIs take 64.
const MaxNameLength = 64

const (
	// hashLength is the number of hexadecimal digits that tell names apart that had to be changed.
	hashLength = 10
	// maxCutPrefix is how much of a prefix, which loses its own separator, stays when a name has to be cut: enough to recognise
	// the backend.
	maxCutPrefix = 24
	// maxTemplateLength bounds the templates that are compiled for matching.
	maxTemplateLength = 2048
)

// exposedName is prefix and name, if MCP allows that as the name of a tool (revision 2025-11-25, tools, tool names: letters,
// digits, underscore, hyphen and dot). Otherwise it is a legal name that resembles them, told apart from others of its kind
// by a hash of the two, and changed says so.
func exposedName(prefix, name string) (exposed string, changed bool) {
	whole := prefix + name
	if legal := legalize(whole); legal == whole && len(whole) <= MaxNameLength {
		return whole, false
	}
	sum := sha256.Sum256([]byte(whole))
	hash := "_" + hex.EncodeToString(sum[:])[:hashLength]
	prefix, name = legalize(prefix), legalize(name)
	if room := MaxNameLength - len(hash); len(prefix)+len(name) > room {
		if len(prefix) > maxCutPrefix {
			prefix = cut(prefix, maxCutPrefix-1) + "_"
		}
		name = cut(name, room-len(prefix))
	}
	return prefix + name + hash, true
}

// legalize puts an underscore in the place of every character that a name must not contain. The result is ASCII.
func legalize(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '_', r == '-', r == '.':
			return r
		}
		return '_'
	}, s)
}

func cut(s string, length int) string { return s[:min(len(s), length)] }

// matcher says which template serves a URI.
type matcher struct {
	pattern  *regexp.Regexp
	template int // index into Snapshot.Templates
}

// matchersOf compiles the templates (RFC 6570). One that is malformed or very long is listed, and matches nothing.
func matchersOf(templates []Entry) []matcher {
	var matchers []matcher
	for i, e := range templates {
		if len(e.Name) > maxTemplateLength {
			continue
		}
		if pattern := compile(e.Name); pattern != nil {
			matchers = append(matchers, matcher{pattern: pattern, template: i})
		}
	}
	return matchers
}

// compile returns nil for a template that has no pattern. The library panics on an expression of more than 1000 variables,
// which is more than a regular expression may repeat, and a backend must not be able to end the gateway with that.
func compile(template string) (pattern *regexp.Regexp) {
	defer func() {
		if recover() != nil {
			pattern = nil
		}
	}()
	quoted, err := json.Marshal(template)
	if err != nil {
		return nil
	}
	var t mcp.URITemplate
	if err := json.Unmarshal(quoted, &t); err != nil {
		return nil
	}
	return t.Regexp()
}
