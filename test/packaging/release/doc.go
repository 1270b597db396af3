// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package release makes the bundle of a release, with images by digest, against a registry of its own.
package release
