// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build vmcp_broken_ownership

package status

// fieldManager is nobody's who has a part in the status: "make scorecard" runs such a runtime to see that its test of ownership fails.
const fieldManager = "vmcp-broken"
