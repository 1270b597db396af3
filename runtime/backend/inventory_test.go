// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
)

func cursorOf(r request) string {
	var params struct {
		Cursor *string `json:"cursor"`
	}
	if len(r.Params) == 0 || json.Unmarshal(r.Params, &params) != nil || params.Cursor == nil {
		return "none"
	}
	return *params.Cursor
}

func TestInventoryPages(t *testing.T) {
	for name, tc := range map[string]struct {
		answer func(page int, r request) string
		limits backend.Limits
		want   []string
		pages  int
	}{
		"to the end": {
			answer: func(page int, _ request) string {
				if page == 3 {
					return `{"tools":[{"name":"t3"}]}`
				}
				return fmt.Sprintf(`{"tools":[{"name":"t%d"}],"nextCursor":"c%d"}`, page, page)
			},
			want: []string{"t1", "t2", "t3"}, pages: 3,
		},
		"an empty cursor is a cursor": {
			answer: func(page int, r request) string {
				if cursorOf(r) == "" {
					return `{"tools":[{"name":"last"}]}`
				}
				return fmt.Sprintf(`{"tools":[{"name":"t%d"}],"nextCursor":""}`, page)
			},
			want: []string{"t1", "last"}, pages: 2,
		},
		"a repeated cursor": {
			answer: func(page int, _ request) string {
				return fmt.Sprintf(`{"tools":[{"name":"t%d"}],"nextCursor":"same"}`, page)
			},
			want: []string{"t1", "t2"}, pages: 2,
		},
		"a repeated page": {
			answer: func(int, request) string { return `{"tools":[{"name":"t"}],"nextCursor":""}` },
			want:   []string{"t"}, pages: 2,
		},
		"too many pages": {
			answer: func(page int, _ request) string {
				return fmt.Sprintf(`{"tools":[{"name":"t%d"}],"nextCursor":"c%d"}`, page, page)
			},
			limits: backend.Limits{Pages: 3}, want: []string{"t1", "t2", "t3"}, pages: 3,
		},
		"too many items": {
			answer: func(int, request) string {
				return `{"tools":[{"name":"a"},{"name":"b"},{"name":"c"}],"nextCursor":"c"}`
			},
			limits: backend.Limits{Items: 2}, want: []string{"a", "b"}, pages: 1,
		},
		"too many bytes": {
			answer: func(page int, _ request) string {
				return fmt.Sprintf(`{"tools":[{"name":"t%d","description":%q}],"nextCursor":"c%d"}`, page, strings.Repeat("x", 400), page)
			},
			limits: backend.Limits{ListBytes: 1000}, want: []string{"t1", "t2"}, pages: 3,
		},
		"entries without a name": {
			answer: func(int, request) string {
				return `{"tools":[{"title":"?"},7,{"name":""},{"name":"ok"},{"name":"ok","title":"again"}]}`
			},
			want: []string{"ok"}, pages: 1,
		},
		"nothing": {answer: func(int, request) string { return `{"tools":[]}` }, pages: 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScripted(t)
			page := 0
			s.answers["tools/list"] = func(r request) string { page++; return tc.answer(page, r) }
			c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, tc.limits)
			inventory, err := c.Inventory(deadline(t, 10*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, ids(inventory.Tools)); diff != "" {
				t.Error(diff)
			}
			if n := s.count("tools/list"); n != tc.pages {
				t.Errorf("%d pages were read, want %d", n, tc.pages)
			}
			if n := s.count("prompts/list") + s.count("resources/list"); n != 0 {
				t.Error("lists were asked for without the capability")
			}
		})
	}
}

func TestInventoryOfCapabilitiesWithoutMethods(t *testing.T) {
	s := newScripted(t)
	s.capabilities = `{"tools":{},"resources":{"subscribe":true},"prompts":{}}`
	s.answers["resources/list"] = func(request) string { return `{"resources":[{"uri":"x://y","name":"y"}]}` }
	c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	inventory, err := c.Inventory(deadline(t, 5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	want := &backend.Inventory{
		ProtocolVersion: "2025-11-25",
		Resources:       []backend.Item{{ID: "x://y", Raw: json.RawMessage(`{"uri":"x://y","name":"y"}`)}},
	}
	if diff := cmp.Diff(want, inventory); diff != "" {
		t.Error(diff)
	}
}

func TestInventoryOfMalformedLists(t *testing.T) {
	for name, answer := range map[string]string{
		"no array":       `{"tools":{}}`,
		"no object":      `[]`,
		"cursor is none": `{"tools":[],"nextCursor":7}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := newScripted(t)
			s.answers["tools/list"] = func(request) string { return answer }
			c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
			_, err := c.Inventory(deadline(t, 5*time.Second))
			if fault := backend.Classify(docs, err); fault.Reason != v1alpha1.ReasonProtocolError {
				t.Errorf("%+v (%v)", fault, err)
			}
		})
	}
}
