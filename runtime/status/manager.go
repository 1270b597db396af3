// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !vmcp_broken_ownership

package status

import "github.com/vmcp-dev/vmcp-operator/api/v1alpha1"

// fieldManager is the manager under which the runtime applies its part of the status.
const fieldManager = v1alpha1.RuntimeFieldManager
