// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package discovery_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/vmcp-dev/vmcp-operator/runtime/auth"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/discovery"
)

func TestStaticPublishesOnceInOrder(t *testing.T) {
	target := func(kind, name string) backend.Target {
		return backend.Target{Key: backend.Key{Kind: kind, Name: name}}
	}
	given := []backend.Target{target("MCPBackend", "b"), target("Other", "a"), target("MCPBackend", "a")}
	want := []backend.Target{target("MCPBackend", "a"), target("Other", "a"), target("MCPBackend", "b")}

	ctx, cancel := context.WithCancel(context.Background())
	var published [][]backend.Target
	err := discovery.Static(given).Run(ctx, func(f discovery.Finding) {
		if !f.Complete || f.Problem != nil {
			t.Errorf("complete %t, problem %v", f.Complete, f.Problem)
		}
		published = append(published, f.Targets)
		cancel() // Run returns only now
	})
	if err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([][]backend.Target{want}, published, cmpopts.EquateComparable(auth.Credential{})); diff != "" {
		t.Error(diff)
	}
	if given[0].Name != "b" {
		t.Error("the caller's list was sorted")
	}
}
