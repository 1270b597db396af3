// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/telemetry"
)

// routes are the members that are called, by key. A map is never changed once it is published.
type routes map[backend.Key]*member

// Call sends a request to the backend if the verdict on it is that it is served, and lets the outcome
// speak for or against the backend.
func (c *control) Call(ctx context.Context, key backend.Key, method string, params json.RawMessage) (json.RawMessage, error) {
	began := time.Now()
	record := func(outcome string) { c.options.Metrics.Call(key.Kind, key.Name, outcome, time.Since(began)) }
	m, served := (*c.routes.Load())[key]
	if !served {
		record(telemetry.OutcomeNotServed)
		return nil, backend.ErrNotServed
	}
	result, err := m.call(ctx, method, params)
	var answer *backend.RPCError
	switch {
	case errors.Is(err, errRetired):
		record(telemetry.OutcomeNotServed)
		return nil, backend.ErrNotServed
	case err == nil:
		record(telemetry.OutcomeSuccess)
		m.monitor.CallSucceeded()
	case errors.As(err, &answer):
		record(telemetry.OutcomeError)
		m.monitor.CallSucceeded()
	case ctx.Err() != nil: // the caller gave up, which says nothing about the backend
		record(telemetry.OutcomeCancelled)
	case c.options.Pauses.Resumed().After(began): // it failed for our sake, perhaps
		record(telemetry.OutcomeFault)
		m.monitor.Check()
	case unreachable(key, err):
		record(telemetry.OutcomeFault)
		m.monitor.CallFailed(m.Classify(err))
	default:
		// Something is there. Whether it is well, a probe says better than this call.
		record(telemetry.OutcomeFault)
		m.monitor.Check()
	}
	return result, err
}

// unreachable says that a call failed for want of a connection rather than for what the backend made of it.
func unreachable(key backend.Key, err error) bool {
	if _, answered := errors.AsType[*backend.StatusError](err); answered {
		return false
	}
	switch backend.Classify(key, err).Reason {
	case v1alpha1.ReasonConnectionRefused, v1alpha1.ReasonNameNotResolved, v1alpha1.ReasonTLSFailed, v1alpha1.ReasonConnectionFailed:
		return true
	default:
		return false
	}
}
