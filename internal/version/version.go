// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package version holds the version that the build stamps into the programs.
package version

// Version is the version of this build, set with -ldflags "-X …/internal/version.Version=…".
var Version = "dev"
