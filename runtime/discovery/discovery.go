// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package discovery finds the backends of a gateway.
package discovery

import (
	"context"

	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
)

// Finding is what a Discoverer knows at a time.
type Finding struct {
	// Complete says that every place where backends may be was read at least once. Only then Targets are the backends, sorted by Key;
	// what can no longer be read is in them as it was read last.
	Complete bool
	Targets  []backend.Target
	// Problem is why something cannot be read at present, where a person must act upon it; nil if everything can.
	Problem error
}

// Discoverer yields the backends of a gateway as a stream of findings.
type Discoverer interface {
	// Run calls publish with the first finding, and then after each change of it. The calls come one at a time. Run returns when ctx
	// ends, nil then, or with the error that makes it impossible to go on.
	Run(ctx context.Context, publish func(Finding)) error
}
