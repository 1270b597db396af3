// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"sync"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// perObject keeps what a controller remembers of each object from one reconciliation to the next. It is safe for concurrent use,
// and the zero value is ready for it. Whoever uses it forgets objects that are gone.
type perObject[V any] struct {
	mu      sync.Mutex
	entries map[client.ObjectKey]V
}

func (p *perObject[V]) get(key client.ObjectKey) (V, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v, ok := p.entries[key]
	return v, ok
}

func (p *perObject[V]) set(key client.ObjectKey, v V) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.entries == nil {
		p.entries = map[client.ObjectKey]V{}
	}
	p.entries[key] = v
}

func (p *perObject[V]) forget(key client.ObjectKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.entries, key)
}
