// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package kstatus asks the library that kubectl wait, Flux and Argo CD judge objects with what it makes of ours. The documents are what the
// operator wrote in TestDocumentsForKstatus of controllers.
package kstatus

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

func TestStatusOfOurKinds(t *testing.T) {
	t.Parallel()
	want := map[string]status.Status{
		"virtualmcpserver-starting":       status.InProgressStatus,
		"virtualmcpserver-healthy":        status.CurrentStatus,
		"virtualmcpserver-rolling":        status.InProgressStatus,
		"virtualmcpserver-rollout-stuck":  status.FailedStatus, // its deadline has passed
		"virtualmcpserver-bad-patch":      status.FailedStatus,
		"virtualmcpserver-unknown-group":  status.FailedStatus,
		"mcpgroup-healthy":                status.CurrentStatus,
		"mcpgroup-not-bound":              status.FailedStatus,
		"mcpbackend-starting":             status.InProgressStatus,
		"mcpbackend-healthy":              status.CurrentStatus,
		"mcpbackend-no-service":           status.InProgressStatus, // whoever deploys it may be about to
		"mcpexternalauthconfig-healthy":   status.CurrentStatus,
		"mcpexternalauthconfig-no-secret": status.FailedStatus,
	}
	files, err := filepath.Glob(filepath.Join("testdata", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(want) {
		t.Errorf("%d documents, and %d expectations", len(files), len(want))
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if data, err = yaml.YAMLToJSON(data); err != nil {
				t.Fatal(err)
			}
			object := &unstructured.Unstructured{}
			if err := object.UnmarshalJSON(data); err != nil {
				t.Fatal(err)
			}
			got, err := status.Compute(object)
			if err != nil {
				t.Fatal(err)
			}
			if got.Status != want[name] {
				t.Errorf("%s (%s), want %s", got.Status, got.Message, want[name])
			}
		})
	}
}
