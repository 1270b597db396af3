// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/mark3labs/mcp-go/mcp"
)

// keyParamHeader is the annotation that puts an argument of a tool into a header (MCP 2026-07-28, transports, custom headers).
const keyParamHeader = "x-mcp-header"

// hasBadHeaders says whether the annotations of a tool are such that a client must not use it. It is logged.
func (c *Client) hasBadHeaders(tool Item) bool {
	err := checkParamHeaders(tool.Raw)
	if err != nil {
		c.log.Warn("a tool of the backend is left out: its x-mcp-header annotations are invalid", "tool", quoteText(tool.ID), "error", quoteText(err.Error()))
	}
	return err != nil
}

// checkParamHeaders checks the annotations of a tool's input schema: they stand at properties of a type that a header can hold, reached by
// properties alone, and are unique tokens.
func checkParamHeaders(tool json.RawMessage) error {
	var definition struct {
		InputSchema json.RawMessage `json:"inputSchema"`
	}
	var schema any
	if json.Unmarshal(tool, &definition) == nil && json.Unmarshal(definition.InputSchema, &schema) == nil {
		return errors.Join(misplaced(schema), mcp.ValidateParamHeaderAnnotations(&mcp.Tool{RawInputSchema: definition.InputSchema}))
	}
	return nil // something is wrong with it, but not with its headers
}

// misplaced finds annotations where mcp-go does not look: outside the properties of the root and, in turn, of properties.
func misplaced(schema any) error {
	object, ok := schema.(map[string]any)
	if !ok {
		return nil
	}
	if _, ok := object[keyParamHeader]; ok {
		return errors.New("the root is no argument")
	}
	return inProperties(object)
}

func inProperties(schema map[string]any) error {
	for keyword, value := range schema {
		if keyword != "properties" {
			if keyword != keyParamHeader && keyword != "default" && keyword != "const" && keyword != "enum" && keyword != "examples" && mentions(value) {
				return fmt.Errorf("there is one under %q", keyword)
			}
			continue
		}
		properties, _ := value.(map[string]any)
		for name, property := range properties {
			object, ok := property.(map[string]any)
			if !ok {
				continue
			}
			if _, annotated := object[keyParamHeader]; annotated && object["$ref"] != nil {
				return fmt.Errorf("property %q is a reference", name)
			}
			if err := inProperties(object); err != nil {
				return err
			}
		}
	}
	return nil
}

// mentions says whether there is an annotation anywhere in a value.
func mentions(value any) bool {
	switch value := value.(type) {
	case map[string]any:
		if _, ok := value[keyParamHeader]; ok {
			return true
		}
		for _, inner := range value {
			if mentions(inner) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(value, mentions)
	}
	return false
}
