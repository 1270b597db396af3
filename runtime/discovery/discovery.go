// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package discovery finds the backends of a gateway.
package discovery

import (
	"context"

	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
)

// Discoverer yields the backends of a gateway as a stream of complete lists.
type Discoverer interface {
	// Run calls publish with the complete list of backends, sorted by Key, at first when it is known and then after each
	// change, and fail when the list cannot be read for a reason that a person must act upon; the list published last is
	// valid until the next one, and a call of publish ends the failure. The calls come one at a time. Run returns when ctx ends, nil
	// then, or with the error that makes it impossible to go on.
	Run(ctx context.Context, publish func([]backend.Target), fail func(error)) error
}
