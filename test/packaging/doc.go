// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package packaging tests what is installed: the compositions of config/, by a dry run against a real API server, and the OLM bundle.
package packaging
