// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package backend is the gateway's client edge: it speaks MCP to one backend, whatever revision that backend speaks.
package backend

import (
	"cmp"
	"encoding/json"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/auth"
)

// Key identifies a backend within a gateway. Two kinds may share a name.
type Key struct {
	Kind string
	Name string
}

// Compare is the one order of backends: by name, then by kind. It is the same on every start and replica.
func (k Key) Compare(o Key) int {
	return cmp.Or(cmp.Compare(k.Name, o.Name), cmp.Compare(k.Kind, o.Kind))
}

// String is kind/name, for logs.
func (k Key) String() string { return k.Kind + "/" + k.Name }

// Target is what discovery knows about a backend: where it is and how to speak to it. It holds no health, and is comparable: a backend
// whose Target did not change, or in its credential only, keeps its sessions.
type Target struct {
	Key

	// Source says where the backend is.
	Source v1alpha1.BackendSource
	// URL is the MCP endpoint.
	URL string
	// Transport is the transport on the wire to URL: streamable-http or sse.
	Transport v1alpha1.Transport
	// DeclaredTransport is the transport that the object names; stdio where a bridge stands before the server.
	DeclaredTransport v1alpha1.Transport

	// Auth says how the gateway authenticates to the backend. It is known, as far as it can be, of a refused backend too.
	Auth auth.Strategy
	// Credential is what Auth puts on each request. Nothing prints it.
	Credential auth.Credential

	// Refused, when not zero, says why the backend must not be called at all.
	Refused Refusal
}

// SameButCredential says that t and o differ in the credential at most, so that a client of the one can become one of the other.
func (t Target) SameButCredential(o Target) bool {
	t.Credential = o.Credential
	return t == o
}

// Refusal is a reason, from the reasons of status.discoveredBackends or Validate, not to call a backend.
type Refusal struct {
	// Status is the status that the backend has; empty means unavailable.
	Status  v1alpha1.BackendStatus
	Reason  string
	Message string
}

// Item is one tool, prompt, resource or resource template as the backend described it.
type Item struct {
	// ID is the name of a tool or prompt, the URI of a resource or the URI template of a template.
	ID string
	// Raw is the backend's own JSON object; no field of it is lost.
	Raw json.RawMessage
}

// Inventory is everything that a backend offers, in the backend's own order.
type Inventory struct {
	// ProtocolVersion is the MCP revision agreed with the backend.
	ProtocolVersion string
	Tools           []Item
	Prompts         []Item
	Resources       []Item
	Templates       []Item
}
