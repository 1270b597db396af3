// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/tidwall/gjson"
	"github.com/tidwall/sjson"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
)

var errNotObject = errors.New("its definition is no JSON object")

// expose puts the exposed name, and what an override says, into the backend's definition and leaves every other byte of it.
func expose(kind string, item backend.Item, name string, override v1alpha1.ToolOverride) (json.RawMessage, error) {
	if !gjson.ValidBytes(item.Raw) || !gjson.ParseBytes(item.Raw).IsObject() {
		return nil, errNotObject
	}
	d := definition{raw: item.Raw}
	identifier := "name"
	switch kind {
	case KindResource:
		identifier = "uri"
	case KindTemplate:
		identifier = "uriTemplate"
	}
	if name != item.ID {
		d.set(identifier, name)
	}
	if override.Title != "" {
		d.set("title", override.Title)
		if gjson.GetBytes(d.raw, "annotations.title").Exists() { // where revision 2025-03-26 has it
			d.set("annotations.title", override.Title)
		}
	}
	if override.Description != "" {
		d.set("description", override.Description)
	}
	if kind == KindTool && gjson.GetBytes(d.raw, "execution.taskSupport").Exists() {
		d.delete("execution.taskSupport")
	}
	d.requireOnce(identifier, "title", "description")
	return d.raw, d.err
}

// definition is a JSON object that is edited. After an error nothing more is done.
type definition struct {
	raw []byte
	err error
}

func (d *definition) set(path, value string) {
	if d.err == nil {
		d.raw, d.err = sjson.SetBytes(d.raw, path, value)
	}
}

func (d *definition) delete(path string) {
	if d.err == nil {
		d.raw, d.err = sjson.DeleteBytes(d.raw, path)
	}
}

// requireOnce refuses a definition that says one of the fields several times. Of such fields one decoder takes the first and another
// the last, some whatever their case, so that a backend could show to clients another name than the one that was checked.
func (d *definition) requireOnce(fields ...string) {
	if d.err != nil {
		return
	}
	seen := make([]bool, len(fields))
	gjson.ParseBytes(d.raw).ForEach(func(key, _ gjson.Result) bool {
		for i, field := range fields {
			if !strings.EqualFold(key.Str, field) {
				continue
			}
			if seen[i] {
				d.err = fmt.Errorf("its definition has the field %s more than once", field)
				return false
			}
			seen[i] = true
		}
		return true
	})
}
