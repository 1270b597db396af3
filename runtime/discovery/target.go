// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
)

// TargetOf is what a member says of itself: where it is and how to speak to it, without credentials.
func TargetOf(m v1alpha1.Member) backend.Target {
	return backend.Target{
		Key:               backend.Key{Kind: m.Kind, Name: m.Name},
		Source:            m.Source,
		URL:               m.URL,
		Transport:         m.Transport,
		DeclaredTransport: m.DeclaredTransport,
		Refused:           backend.Refusal{Reason: m.Reason, Message: m.Message},
	}
}
