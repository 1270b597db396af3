// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vmcp-dev/vmcp-operator/test/docs"
)

func TestBlocks(t *testing.T) {
	for name, c := range map[string]struct {
		page string
		want []docs.Block
		err  string
	}{
		"commands under their headings": {
			page: "# One\n\n```sh\na\nb\n```\n\n## Two\n```sh\nc\n```\n",
			want: []docs.Block{{Page: "p", Line: 4, Section: "One", Commands: "a\nb\n"}, {Page: "p", Line: 10, Section: "Two", Commands: "c\n"}},
		},
		"a heading within commands is a comment": {
			page: "# One\n```sh\n# not a heading\na\n```\n```sh\nb\n```\n",
			want: []docs.Block{{Page: "p", Line: 3, Section: "One", Commands: "# not a heading\na\n"}, {Page: "p", Line: 7, Section: "One", Commands: "b\n"}},
		},
		"exempt": {
			page: "<!-- exempt: the internet -->\n```sh\na\n```\n```sh\nb\n```\n",
			want: []docs.Block{{Page: "p", Line: 3, Commands: "a\n", Exempt: "the internet"}, {Page: "p", Line: 6, Commands: "b\n"}},
		},
		"other languages":             {page: "```yaml\na: b\n```\n```text\nout\n```\n"},
		"a console session":           {page: "```console\n$ a\n```\n", err: "p:1"},
		"exempt, but not what":        {page: "<!-- exempt: why -->\ntext\n```sh\na\n```\n", err: "p:2"},
		"exempt at the end":           {page: "<!-- exempt: why -->\n", err: "ends"},
		"a block without its end":     {page: "```sh\na\n", err: "ends"},
		"no commands":                 {page: "# One\ntext\n"},
		"a fence that looks like one": {page: "```text\n```sh\n```\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := docs.Blocks("p", c.page)
			if (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Fatalf("error is %v, want %q", err, c.err)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestOurs(t *testing.T) {
	for object, want := range map[string]bool{
		"customresourcedefinition.apiextensions.k8s.io/mcpgroups.vmcp.dev":                 true,
		"customresourcedefinition.apiextensions.k8s.io/subscriptions.operators.coreos.com": false,
		"namespace/team":    true,
		"namespace/default": false,
		"clusterrole.rbac.authorization.k8s.io/vmcp-operator":                             true,
		"clusterrole.rbac.authorization.k8s.io/virtualmcpservers.vmcp.dev-v1alpha1-admin": true,
		"clusterrole.rbac.authorization.k8s.io/mcpgroups.vmcp.dev-v1alpha1-crdview":       true,
		"clusterrole.rbac.authorization.k8s.io/olm.og.vmcp-operator.admin-3oGRdZ":         true,
		"clusterrole.rbac.authorization.k8s.io/olm.og.olm-operators.admin-3oGRdZ":         false,
		"clusterrolebinding.rbac.authorization.k8s.io/vmcp-operator.v0.1.0-5xBvY":         true,
		"clusterrolebinding.rbac.authorization.k8s.io/cluster-admin":                      false,
		"operator.operators.coreos.com/vmcp-operator.team":                                true,
		"operator.operators.coreos.com/vmcp-operator.elsewhere":                           false,
	} {
		if got := docs.Ours(object, []string{"team"}); got != want {
			t.Errorf("%s is ours: %t, want %t", object, got, want)
		}
	}
}

// Every command of the pages is in a story, or says why not.
func TestStories(t *testing.T) {
	pages, err := docs.Read("../..")
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{}
	for name, story := range map[string]docs.Story{"Kustomize": docs.Kustomize, "OLM": docs.OLM} {
		blocks, err := story.Blocks(pages)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, b := range blocks {
			told[b.String()] = true
		}
	}
	for _, blocks := range pages {
		for _, b := range blocks {
			if !told[b.String()] {
				t.Errorf("%s, under %q, is run by no story", b, b.Section)
			}
		}
	}
	if _, err := (docs.Story{{Page: "docs/install.md", Section: "Nothing"}}).Blocks(pages); err == nil {
		t.Error("a section that is not there is no error")
	}
}
