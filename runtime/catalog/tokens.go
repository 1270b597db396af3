// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"bytes"
	"encoding/json"

	"github.com/tidwall/gjson"
)

// bytesPerToken is how much of a definition a token is taken to hold. The vocabularies o200k and cl100k put 4.4 to 5.0 bytes of the
// definitions of real servers into one, so that the estimate is rather too high than too low.
const bytesPerToken = 4

// tokens estimates how much of a model's context the tools take: what clients usually give to a model, the name, the description and
// the input schema of each, the latter without the blanks of its layout.
func tokens(tools []Entry) int {
	var size int
	var compact bytes.Buffer
	for _, t := range tools {
		size += len(t.Name) + len(gjson.GetBytes(t.Raw, "description").String())
		schema := gjson.GetBytes(t.Raw, "inputSchema").Raw
		compact.Reset()
		if err := json.Compact(&compact, []byte(schema)); err != nil {
			size += len(schema) // no tool at all, or none that was checked
			continue
		}
		size += compact.Len()
	}
	return (size + bytesPerToken - 1) / bytesPerToken
}
