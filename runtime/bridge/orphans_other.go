// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package bridge

import "context"

// reapOrphans does nothing: bridges run in containers on Linux; elsewhere they are for trying out, under a real init.
func reapOrphans(context.Context) {}
