// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"context"
	"slices"
	"time"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/auth"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
)

// credentialsInterval is the time between two looks at the mounted Secrets. The kubelet takes up to a minute to bring a change.
const credentialsInterval = 2 * time.Second

type inline struct {
	backends       []configv1alpha1.Backend
	credentialsDir string
}

// Inline is a Discoverer of the backends that a configuration lists. Their credentials are in files below credentialsDir, which are
// looked at again every few seconds. It makes no request.
func Inline(backends []configv1alpha1.Backend, credentialsDir string) Discoverer {
	return inline{backends: backends, credentialsDir: credentialsDir}
}

// Run implements Discoverer.
func (i inline) Run(ctx context.Context, publish func(Finding)) error {
	last := i.targets()
	publish(Finding{Complete: true, Targets: last})
	look := time.NewTicker(credentialsInterval)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		}
		if now := i.targets(); !slices.Equal(now, last) {
			last = now
			publish(Finding{Complete: true, Targets: now})
		}
	}
}

func (i inline) targets() []backend.Target {
	targets := make([]backend.Target, 0, len(i.backends))
	for _, b := range i.backends {
		t := backend.Target{
			Key: backend.Key{Kind: b.Kind, Name: b.Name}, Source: b.Source, URL: b.URL,
			Transport: b.Transport, DeclaredTransport: b.DeclaredTransport,
		}
		if b.Refused != nil {
			t.Refused = backend.Refusal{Status: b.Refused.Status, Reason: b.Refused.Reason, Message: b.Refused.Message}
		}
		if b.Auth != nil {
			t = Authenticate(t, v1alpha1.ResolvedAuth{Config: b.Auth.ConfigRef.Name, Spec: b.Auth.Spec},
				func(s auth.Strategy) (auth.Credential, error) { return s.FromFile(i.credentialsDir) })
		}
		targets = append(targets, t)
	}
	slices.SortFunc(targets, func(a, b backend.Target) int { return a.Compare(b.Key) })
	return targets
}
