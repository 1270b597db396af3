// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/catalog"
	"github.com/vmcp-dev/vmcp-operator/runtime/gateway"
)

// handshake is what clients are told besides the lists: the instructions of both eras, and what _meta says of missing backends.
type handshake struct {
	Legacy, Modern string
	Missing        [3][]string // in server/discover, tools/list and resources/templates/list
}

func (f *fixture) handshake() handshake {
	f.t.Helper()
	decode := func(body string) (instructions string, missing []string) {
		var m struct {
			Result struct {
				Instructions string
				Meta         map[string]json.RawMessage `json:"_meta"`
			}
		}
		if err := json.Unmarshal([]byte(body), &m); err != nil {
			f.t.Fatalf("%s: %v", body, err)
		}
		if raw, there := m.Result.Meta["vmcp.dev/missingBackends"]; there {
			if err := json.Unmarshal(raw, &missing); err != nil {
				f.t.Fatalf("%s: %v", body, err)
			}
		}
		return m.Result.Instructions, missing
	}
	var h handshake
	_, body := f.do(http.MethodPost, gateway.Path, initializeBody)
	h.Legacy, _ = decode(body)
	c := f.as(modern, "")
	for i, method := range []string{"server/discover", "tools/list", "resources/templates/list"} {
		_, body := c.do("1", method, "", "")
		var instructions string
		if instructions, h.Missing[i] = decode(body); i == 0 {
			h.Modern = instructions
		}
	}
	return h
}

// Clients hear which backends are missing when they ask what there is, and no list changes for it.
func TestMissingBackends(t *testing.T) {
	offer := func(prompts []backend.Item, missing ...string) *catalog.Snapshot {
		members := []catalog.Member{{Key: docs, Inventory: &backend.Inventory{Tools: items("name", `{"name":"search"}`), Prompts: prompts}}}
		for _, name := range missing {
			members = append(members, catalog.Member{Key: backend.Key{Kind: v1alpha1.KindMCPBackend, Name: name}})
		}
		return catalog.Build(members, v1alpha1.Aggregation{})
	}
	f := start(t, gateway.Options{Instructions: "Be kind."})
	f.SetSnapshot(offer(nil))
	want := handshake{Legacy: "Be kind.", Modern: "Be kind."}
	if diff := cmp.Diff(want, f.handshake()); diff != "" {
		t.Error(diff)
	}
	s := f.as(modern, "").stream("1", "subscriptions/listen", `"notifications":{"toolsListChanged":true,"promptsListChanged":true}`, "")
	if e, _ := s.next(); !strings.Contains(e.data, "acknowledged") {
		t.Fatal(e.data)
	}

	f.SetSnapshot(offer(items("name", `{"name":"greet"}`), "jira", "github"))
	const notice = "Be kind.\n\nNot available at present, so that their tools, prompts and resources are missing here: github, jira."
	names := []string{"github", "jira"}
	want = handshake{Legacy: notice, Modern: notice, Missing: [3][]string{names, names, names}}
	if diff := cmp.Diff(want, f.handshake()); diff != "" {
		t.Error(diff)
	}
	if e, _ := s.next(); !strings.Contains(e.data, "notifications/prompts/list_changed") {
		t.Errorf("the tools are what they were, and yet: %s", e.data)
	}

	f.SetSnapshot(offer(items("name", `{"name":"greet"}`)))
	if diff := cmp.Diff(handshake{Legacy: "Be kind.", Modern: "Be kind."}, f.handshake()); diff != "" {
		t.Error(diff)
	}
}

// What many missing backends are told with is bounded, and needs no instructions of the gateway's own.
func TestManyMissingBackends(t *testing.T) {
	f := start(t, gateway.Options{})
	var members []catalog.Member
	for i := range 40 {
		members = append(members, catalog.Member{Key: backend.Key{Kind: v1alpha1.KindMCPBackend, Name: fmt.Sprintf("b%02d", i)}})
	}
	f.SetSnapshot(catalog.Build(members, v1alpha1.Aggregation{}))
	h := f.handshake()
	if !strings.HasPrefix(h.Legacy, "Not available") || !strings.HasSuffix(h.Legacy, "b30, b31 and 8 more.") || h.Legacy != h.Modern {
		t.Errorf("instructions are %q and %q", h.Legacy, h.Modern)
	}
	if n := len(h.Missing[0]); n != 32 {
		t.Errorf("%d missing backends are named", n)
	}
}
