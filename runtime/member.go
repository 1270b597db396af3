// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"cmp"
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/health"
)

const (
	// settleDeadline is how long a backend that was just discovered is waited for. Until it has a verdict, or the time is over, the
	// gateway neither reports nor serves it.
	settleDeadline = 10 * time.Second
	// maxCalls stands for all calls to a member: who holds that many permits knows that none is in flight.
	maxCalls = 1 << 40
)

// member is one discovered backend: a client and the monitor that judges it.
type member struct {
	key     backend.Key
	target  backend.Target // the control loop's
	created time.Time

	// client and monitor are nil for a backend that must not be called.
	client    *backend.Client
	monitor   *health.Monitor
	inventory atomic.Pointer[backend.Inventory]
	calls     *semaphore.Weighted
	upstream  *upstream

	cancel context.CancelFunc
	ended  chan struct{}
}

// view is a member at one moment. Catalog, routes and report are made from the same views.
type view struct {
	*member
	verdict   health.Verdict
	probed    time.Time // when a probe last confirmed it
	inventory *backend.Inventory
}

func (m *member) view() view {
	v := view{member: m}
	if m.monitor == nil {
		v.verdict = health.Verdict{
			Status: cmp.Or(m.target.Refused.Status, v1alpha1.BackendUnavailable), Reason: m.target.Refused.Reason,
			Message: m.target.Refused.Message, Since: m.created,
		}
		return v
	}
	// In this order: a verdict is at least as new as its confirmation, and one that serves was reached after an inventory was there.
	v.probed = m.monitor.Probed()
	v.verdict = m.monitor.Verdict()
	v.inventory = m.inventory.Load()
	return v
}

// served says that the member is in the catalog and is called.
func (v view) served() bool { return v.verdict.Status.Served() && v.inventory != nil }

// settled says that there is a verdict, or that it was waited for long enough. Waiting begins anew after a pause of the process.
func (v view) settled(now, resumed time.Time) bool {
	return v.verdict.Status != v1alpha1.BackendUnknown || now.Sub(latest(v.created, resumed)) >= settleDeadline
}

// become makes the member that of a target which differs in the credential at most, and says whether it does. A new credential is
// used by the next request, and tried at once; it is of no use to a backend that must not be called.
func (m *member) become(t backend.Target) bool {
	if !t.SameButCredential(m.target) {
		return false
	}
	if t == m.target {
		return true
	}
	m.target = t
	if m.client != nil {
		m.client.UseCredential(t.Credential)
		m.monitor.Check()
	}
	return true
}

// Probe implements health.Backend.
func (m *member) Probe(ctx context.Context, answered func()) error {
	return m.client.Probe(backend.WithAnswered(ctx, answered))
}

// Load implements health.Backend.
func (m *member) Load(ctx context.Context, answered func()) error {
	inventory, err := m.client.Inventory(backend.WithAnswered(ctx, answered))
	if err != nil {
		return err
	}
	m.inventory.Store(inventory)
	return nil
}

// Classify implements health.Backend.
func (m *member) Classify(err error) health.Fault {
	f := m.client.Classify(err)
	return health.Fault{Reason: f.Reason, Message: f.Message, Unauthorized: f.Unauthorized}
}

// retire ends the member: it stops judging at once, waits for the calls in flight, and closes the session.
func (m *member) retire(ctx context.Context) {
	if m.monitor == nil {
		return
	}
	m.cancel()
	<-m.ended
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	_ = m.calls.Acquire(ctx, maxCalls) // calls that last longer fail when the client is closed
	m.client.Close()
}
