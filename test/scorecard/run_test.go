// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/operator-framework/api/pkg/apis/scorecard/v1alpha3"
)

const (
	repository = "../.."
	namespace  = "scorecard"
	// waitTime is scorecard's own deadline for a test.
	waitTime = "240s"
	// tarImage is any image with tar in it; that of scorecard's own tests has it in a cluster of ours.
	tarImage = "quay.io/operator-framework/scorecard-test:v1.42.2"
)

// command runs a program from the top of the repository, and returns what it printed to standard output.
func command(ctx context.Context, t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	c := exec.CommandContext(ctx, name, args...)
	c.Dir = repository
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	err := c.Run()
	if err != nil {
		t.Logf("%s %s: %v\n%s", filepath.Base(name), strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String(), err
}

func kubectl(t *testing.T, args ...string) {
	t.Helper()
	if _, err := command(t.Context(), t, "kubectl", args...); err != nil {
		t.Fatal(err)
	}
}

// scorecard runs the tests of the bundle that a selector selects. It fails with some of them, which is no error here.
func scorecard(t *testing.T, selector string) []v1alpha3.TestResult {
	t.Helper()
	output, _ := command(t.Context(), t, os.Getenv("VMCP_OPERATOR_SDK"), "scorecard", "bundle", "--namespace", namespace, "--service-account", "scorecard",
		"--selector", selector, "--wait-time", waitTime, "--untar-image", tarImage, "--output", "json")
	list := &v1alpha3.TestList{}
	if err := json.Unmarshal([]byte(output), list); err != nil {
		t.Fatalf("scorecard printed no results: %v: %s", err, output)
	}
	var results []v1alpha3.TestResult
	for _, item := range list.Items {
		if len(item.Status.Results) == 0 {
			t.Errorf("a test came without a result: %+v", item.Spec)
		}
		results = append(results, item.Status.Results...)
	}
	for _, r := range results {
		t.Logf("%-4s  %s  %s", r.State, r.Name, strings.ReplaceAll(strings.TrimSpace(strings.Join(append(r.Errors, r.Suggestions...), "; ")), "\n", " "))
		if r.Log != "" {
			t.Logf("      %s", strings.ReplaceAll(strings.TrimSpace(r.Log), "\n", "\n      "))
		}
	}
	return results
}

// All tests of the bundle pass with an operator that is installed, and the one of ownership fails when the runtime reports under another
// name. It needs the cluster of KUBECONFIG, with the images that "make scorecard" loads.
func TestScorecard(t *testing.T) {
	kubectl(t, "apply", "--server-side", "-k", "config/default")
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 3*time.Minute)
		defer cancel()
		_, _ = command(ctx, t, "kubectl", "delete", "--ignore-not-found", "namespace", namespace)
		_, _ = command(ctx, t, "kubectl", "delete", "--ignore-not-found", "-k", "config/default")
	})
	kubectl(t, "-n", "vmcp-system", "rollout", "status", "deployment/vmcp-operator", "--timeout=120s")
	kubectl(t, "apply", "--server-side", "-k", "config/scorecard/rbac")

	const own, all = 5, 11 // of them basic-check-spec, and five of suite olm
	results := scorecard(t, "suite in (basic, olm, vmcp)")
	if len(results) != all {
		t.Errorf("%d results, want %d", len(results), all)
	}
	ours := 0
	for _, r := range results {
		if tests[r.Name] != nil {
			ours++
			if len(r.Suggestions) > 0 {
				t.Errorf("%s has suggestions: %q", r.Name, r.Suggestions)
			}
		}
		// Suite olm suggests a status for each example that has none; a test of the bundle wants one example with it of each kind.
		if r.State != v1alpha3.PassState {
			t.Errorf("%s is %s: %q, suggestions %q", r.Name, r.State, r.Errors, r.Suggestions)
		}
	}
	if ours != own {
		t.Errorf("%d of our own tests ran, want %d", ours, own)
	}

	t.Log("and now with a runtime that reports under the name of another field manager:")
	kubectl(t, "-n", "vmcp-system", "set", "env", "deployment/vmcp-operator", "RELATED_IMAGE_RUNTIME="+os.Getenv("BROKEN_RUNTIME_IMAGE"))
	kubectl(t, "-n", "vmcp-system", "rollout", "status", "deployment/vmcp-operator", "--timeout=120s")
	results = scorecard(t, "test=vmcp-ownership-test")
	if len(results) != 1 || results[0].State != v1alpha3.FailState || !strings.Contains(strings.Join(results[0].Errors, "\n"), ".status.phase") {
		t.Errorf("with the ownership of the status broken the test of it says %+v", results)
	}
}
