// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"os/exec"
	"strings"
	"testing"
	"time"

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
			page: "(not run by a test: the internet)\n```sh\na\n```\n```sh\nb\n```\n",
			want: []docs.Block{{Page: "p", Line: 3, Commands: "a\n", Exempt: "the internet"}, {Page: "p", Line: 6, Commands: "b\n"}},
		},
		"in the background": {
			page: "<!-- goes on in the background -->\n```sh\na\n```\n```sh\nb\n```\n",
			want: []docs.Block{{Page: "p", Line: 3, Commands: "a\n", Background: true}, {Page: "p", Line: 6, Commands: "b\n"}},
		},
		"more than one in the background": {page: "<!-- goes on in the background -->\n```sh\na\nb\n```\n", err: "p:5"},
		"in the background, but not what": {page: "<!-- goes on in the background -->\ntext\n", err: "p:2"},
		"other languages":                 {page: "```yaml\na: b\n```\n```text\nout\n```\n"},
		"a console session":               {page: "```console\n$ a\n```\n", err: "p:1"},
		"exempt, but not what":            {page: "(not run by a test: why)\ntext\n```sh\na\n```\n", err: "p:2"},
		"exempt at the end":               {page: "(not run by a test: why)\n", err: "ends"},
		"a block without its end":         {page: "```sh\na\n", err: "ends"},
		"no commands":                     {page: "# One\ntext\n"},
		"a fence that looks like one":     {page: "```text\n```sh\n```\n"},
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

func TestScript(t *testing.T) {
	for name, c := range map[string]struct {
		blocks []docs.Block
		want   string
		fails  bool
	}{
		"one shell for all": {
			blocks: []docs.Block{{Page: "p", Line: 1, Commands: "a=1\n"}, {Page: "p", Line: 2, Commands: "echo $a\n"}},
			want:   "### p:1\n### p:2\n1\n",
		},
		"what is exempt is not run": {
			blocks: []docs.Block{{Page: "p", Line: 1, Commands: "false\n", Exempt: "why"}, {Page: "p", Line: 2, Commands: "echo b\n"}},
			want:   "### p:2\nb\n",
		},
		"a failure ends it": {
			blocks: []docs.Block{{Page: "p", Line: 1, Commands: "false | true\n"}, {Page: "p", Line: 2, Commands: "echo b\n"}},
			want:   "### p:1\n", fails: true,
		},
		"what is in the background goes on, and can be ended": {
			blocks: []docs.Block{
				{Page: "p", Line: 1, Commands: "sleep 300\n", Background: true},
				{Page: "p", Line: 2, Commands: "kill -0 $!\necho b\nkill -KILL $!\nwait $! || true\necho c\n"},
			},
			want: "### p:1\n### p:2\nb\nc\n",
		},
		"what is in the background ends with it": {
			blocks: []docs.Block{{Page: "p", Line: 1, Commands: "sleep 300\n", Background: true}, {Page: "p", Line: 2, Commands: "false\n"}},
			want:   "### p:1\n### p:2\n", fails: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			bash := exec.CommandContext(t.Context(), "bash", "-s")
			bash.Stdin = strings.NewReader(docs.Script(c.blocks))
			// It waits until nobody has the output open any more, as what is left in the background would have.
			began := time.Now()
			got, err := bash.Output()
			if (err != nil) != c.fails || string(got) != c.want {
				t.Errorf("printed %q and ended with %v, want %q", got, err, c.want)
			}
			if took := time.Since(began); took > time.Minute {
				t.Errorf("took %s: the background went on", took)
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
		"clusterrolebinding.rbac.authorization.k8s.io/vmcp-local:kube-proxy":              false, // of hack/cluster
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
