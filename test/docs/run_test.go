// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package docs_test

import (
	"bytes"
	"context"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/test/docs"
)

// storyTimeout is for all commands of a story; each that waits has a deadline of its own.
const storyTimeout = 15 * time.Minute

// The commands of the pages work, from an empty cluster to an empty cluster. They need the cluster that KUBECONFIG names, and kubectl.
func TestKustomizeStory(t *testing.T) { run(t, docs.Kustomize) }

// It needs a cluster with OLM, whose registry holds the catalog.
func TestOLMStory(t *testing.T) { run(t, docs.OLM, "operators.operators.coreos.com") }

// run runs a story on a cluster that has nothing of ours, and has nothing afterwards, of some kinds besides those that every cluster has.
func run(t *testing.T, story docs.Story, kinds ...string) {
	pages, err := docs.Read("../..")
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := story.Blocks(pages)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), storyTimeout)
	defer cancel()
	made := append(namespaces(blocks), "vmcp-system") // which config/default makes
	if left := left(ctx, t, made, kinds); left != "" {
		t.Fatalf("the cluster is not empty, begin with a fresh one: %s", left)
	}
	count := len(blocks)
	for _, b := range blocks {
		if b.Exempt != "" {
			t.Logf("not run: %s: %s", b, b.Exempt)
			count--
		}
	}
	bash := exec.CommandContext(ctx, "bash", "-s")
	bash.Dir, bash.Stdin, bash.WaitDelay = "../..", strings.NewReader(docs.Script(blocks)), 10*time.Second
	output := &bytes.Buffer{}
	bash.Stdout, bash.Stderr = output, output
	err = bash.Run()
	t.Logf("%d blocks\n%s", count, output)
	if err != nil {
		t.Fatalf("the commands after the last ### failed: %v", err)
	}
	if left := left(ctx, t, made, kinds); left != "" {
		t.Errorf("what the pages install is not removed by what they say: %s", left)
	}
}

// creation is a command that makes a namespace.
var creation = regexp.MustCompile(`(?m)^kubectl create namespace (\S+)$`)

// namespaces are those that commands make.
func namespaces(blocks []docs.Block) []string {
	var names []string
	for _, b := range blocks {
		for _, match := range creation.FindAllStringSubmatch(b.Commands, -1) {
			names = append(names, match[1])
		}
	}
	return names
}

// leftTimeout is for what the garbage collector and OLM remove by themselves, when what it belonged to is gone.
const leftTimeout = time.Minute

// left is what the cluster has of ours, by and by: the result is empty as soon as there is nothing.
func left(ctx context.Context, t *testing.T, namespaces, kinds []string) string {
	t.Helper()
	kinds = append([]string{"customresourcedefinitions", "namespaces", "clusterroles", "clusterrolebindings"}, kinds...)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for end := time.Now().Add(leftTimeout); ; <-tick.C {
		list, err := exec.CommandContext(ctx, "kubectl", "get", strings.Join(kinds, ","), "--output=name").Output()
		if err != nil {
			t.Fatalf("listing what is the cluster's: %v", err)
		}
		var found []string
		for name := range strings.Lines(string(list)) {
			if name = strings.TrimSpace(name); docs.Ours(name, namespaces) {
				found = append(found, name)
			}
		}
		if len(found) == 0 || time.Now().After(end) {
			return strings.Join(found, ", ")
		}
	}
}
