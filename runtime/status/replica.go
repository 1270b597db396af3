// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"sync"
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
)

// Duty implements Replica.
func (k *KubeReporter) Duty() Duty {
	holding, since := k.elector.Holding()
	return Duty{Reporting: holding, Since: since}
}

// News implements Replica.
func (k *KubeReporter) News() []backend.Key {
	news := k.news.take()
	if k.Duty().Reporting {
		return nil // they are our own
	}
	return news
}

// Changed implements Replica.
func (k *KubeReporter) Changed() <-chan struct{} { return k.news.changed }

// since is how old a report may be: what was seen before this replica took the Lease may be older than what its predecessor
// reported, and what was seen before a pause is history.
func (k *KubeReporter) since() time.Time {
	_, since := k.elector.Holding()
	if k.pauses != nil {
		if resumed := k.pauses.Resumed(); resumed.After(since) {
			return resumed
		}
	}
	return since
}

// news collects the backends whose reported status changed.
type news struct {
	changed chan struct{}

	mu   sync.Mutex
	keys map[backend.Key]struct{}
}

func newNews() news { return news{changed: make(chan struct{}, 1), keys: map[backend.Key]struct{}{}} }

// compare notes what differs between two states of an object. What is there for the first time was reported before this process
// could have known better.
func (n *news) compare(before, after *v1alpha1.VirtualMCPServer) {
	if before == nil || after == nil {
		signal(n.changed)
		return
	}
	old := make(map[backend.Key]v1alpha1.BackendStatus, len(before.Status.DiscoveredBackends))
	for i := range before.Status.DiscoveredBackends {
		b := &before.Status.DiscoveredBackends[i]
		old[backend.Key{Kind: b.Kind, Name: b.Name}] = b.Status
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range after.Status.DiscoveredBackends {
		b := &after.Status.DiscoveredBackends[i]
		key := backend.Key{Kind: b.Kind, Name: b.Name}
		if status, there := old[key]; there && status != b.Status {
			n.keys[key] = struct{}{}
		}
	}
	if len(n.keys) > 0 {
		signal(n.changed)
	}
}

func (n *news) take() []backend.Key {
	n.mu.Lock()
	defer n.mu.Unlock()
	keys := make([]backend.Key, 0, len(n.keys))
	for key := range n.keys {
		keys = append(keys, key)
	}
	clear(n.keys)
	return keys
}
