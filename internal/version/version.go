// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package version holds the version that the build stamps into the programs.
package version

// Version is the release and Revision the commit that this program was built from. The build sets both with -ldflags -X.
var (
	Version  = "v0.0.0"
	Revision = "unknown"
)

// String is version and revision, for logs and --version.
func String() string { return Version + " (" + Revision + ")" }
