// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"cmp"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
)

// TargetOf says where the backend is and how to speak to it, from its spec alone. A backend whose spec is invalid is refused.
func TargetOf(b *v1alpha1.MCPBackend) backend.Target {
	t := backend.Target{
		Key:               backend.Key{Kind: backend.KindMCPBackend, Name: b.Name},
		Source:            b.Source(),
		URL:               b.URL(),
		Transport:         b.WireTransport(),
		DeclaredTransport: cmp.Or(b.Spec.Transport, v1alpha1.TransportStreamableHTTP),
	}
	if err := b.Validate().ToAggregate(); err != nil {
		t.Refused = backend.Refusal{Reason: v1alpha1.ReasonInvalidSpec, Message: err.Error()}
		// An address that was not accepted is neither called nor reported: it may hold a credential.
		t.URL = ""
	}
	return t
}
