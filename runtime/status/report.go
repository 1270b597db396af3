// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package status turns what the runtime knows into the status of its VirtualMCPServer, and reports it: into the object by
// server-side apply, or into the log where there is no cluster.
package status

import (
	"context"
	"time"

	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/health"
)

// Report is everything that the runtime knows at one moment and reports. It is built whole and is not changed afterwards.
type Report struct {
	// AsOf is the time since which every backend has been probed. A KubeReporter makes no report that is older than its hold of
	// the Lease or than the last pause of the process.
	AsOf time.Time
	// Generation is that of the configuration that is served.
	Generation int64
	// Refused says, when not empty, why a newer configuration is not served.
	Refused string
	// Group is the MCPGroup whose backends are served.
	Group string
	// Static says that the operator found the backends, and reports what they are; the verdicts on them are the runtime's.
	Static bool
	// Discovered says that Backends is a complete list. It may be an old one: see DiscoveryError.
	Discovered bool
	// DiscoveryError says, when not empty, why the list of backends cannot be read at present.
	DiscoveryError string
	// Backends are the discovered backends, in any order.
	Backends []Backend
	// Catalog says what is offered.
	Catalog Catalog
}

// Backend is a discovered backend with the verdict on it.
type Backend struct {
	Target  backend.Target
	Verdict health.Verdict
	// ProtocolVersion is the MCP revision agreed with the backend, or "".
	ProtocolVersion string
	// Tools is the number of tools that the backend offers; negative while it is not served.
	Tools int
}

// Catalog says how much is offered, and what is not as the backends offer it.
type Catalog struct {
	Tools, Prompts, Resources int
	// Tokens estimates what the tools take of a model's context.
	Tokens int
	// Issues are in the order in which they matter.
	Issues []Issue
}

// Reporter makes reports known.
type Reporter interface {
	// Report replaces what is to be reported. It does not block.
	Report(r Report)
	// Run reports until ctx ends. It returns when nothing more will be reported.
	Run(ctx context.Context) error
}

// Duty is the part that a replica has.
type Duty struct {
	// Reporting says that this replica reports.
	Reporting bool
	// Since is when it began to. Its first report is made of verdicts that are as new.
	Since time.Time
}

// Replica tells one replica of a runtime what the others make known. It is safe for concurrent use.
type Replica interface {
	// Duty is the part that this replica has at present.
	Duty() Duty
	// News returns the backends on which another replica has reported another status than before, since the last call.
	News() []backend.Key
	// Changed receives a value when Duty or News may have something else to say.
	Changed() <-chan struct{}
}
