// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"cmp"
	"time"
)

// Limits bounds what clients can cost. A zero field has the default.
type Limits struct {
	// BodyBytes bounds the body of a request. Default 4 MiB.
	BodyBytes int64
	// BodyTimeout is how long a client may take to send it. Default 60 seconds.
	BodyTimeout time.Duration
	// Sessions bounds the sessions of clients up to revision 2025-11-25 of which something has to be remembered: those that opened a
	// stream, called a backend or changed a setting. One that was only initialized costs nothing. Default 10000.
	Sessions int
	// SessionIdle is how long such a session may be without a request or an open stream before it is forgotten. Its id goes on
	// working. Default 30 minutes.
	SessionIdle time.Duration
	// Streams bounds the streams that are open at a time without a call: those of GET and of subscriptions/listen. Default 20000.
	Streams int
	// SessionStreams bounds the streams of calls whose events a session keeps for a client that lost its connection. Default 16.
	SessionStreams int
	// KeptBytes bounds the events that are kept for all clients that lost their connections. Beyond it a stream keeps one event, and
	// what its connection has not sent yet. Default 64 MiB.
	KeptBytes int64
	// Calls bounds the requests to backends that are in flight at a time. Default 4096.
	Calls int
	// Batch bounds the messages of a batch, which only revision 2025-03-26 has. Default 64.
	Batch int
	// Subscriptions bounds the resources of one session, or of one subscriptions/listen, that are watched. Default 256.
	Subscriptions int
	// Tombstones bounds the sessions whose end is remembered. Default 100000.
	Tombstones int
	// PageSize is the number of entries on a page of a list. Default 1000; a negative number puts all on one page.
	PageSize int
	// Heartbeat is the interval of comments on quiet streams. Default 25 seconds.
	Heartbeat time.Duration
	// WriteTimeout is how long a client may take to take one event, or 64 KiB of an answer. Default 30 seconds.
	WriteTimeout time.Duration
}

// DefaultLimits are the defaults.
func DefaultLimits() Limits { return Limits{}.withDefaults() }

func (l Limits) withDefaults() Limits {
	return Limits{
		BodyBytes:      cmp.Or(l.BodyBytes, 4<<20),
		BodyTimeout:    cmp.Or(l.BodyTimeout, time.Minute),
		Sessions:       cmp.Or(l.Sessions, 10000),
		SessionIdle:    cmp.Or(l.SessionIdle, 30*time.Minute),
		Streams:        cmp.Or(l.Streams, 20000),
		SessionStreams: cmp.Or(l.SessionStreams, 16),
		KeptBytes:      cmp.Or(l.KeptBytes, 64<<20),
		Calls:          cmp.Or(l.Calls, 4096),
		Batch:          cmp.Or(l.Batch, 64),
		Subscriptions:  cmp.Or(l.Subscriptions, 256),
		Tombstones:     cmp.Or(l.Tombstones, 100000),
		PageSize:       cmp.Or(l.PageSize, 1000),
		Heartbeat:      cmp.Or(l.Heartbeat, 25*time.Second),
		WriteTimeout:   cmp.Or(l.WriteTimeout, 30*time.Second),
	}
}

const (
	// drainTimeout bounds what is waited for calls at the end; a pod's grace period is longer.
	drainTimeout = 25 * time.Second
	// partingTimeout is for the answers of calls that were ended.
	partingTimeout = time.Second
	// setupTimeout bounds what is asked of backends on the side: log levels, subscriptions.
	setupTimeout = 5 * time.Second
)
