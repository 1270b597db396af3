// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"log/slog"
	"time"

	"github.com/vmcp-dev/vmcp-operator/runtime/session"
)

// keysInterval is the time between two looks at the mounted session keys. The kubelet takes up to a minute to bring a change.
const keysInterval = 2 * time.Second

// keyring keeps the session keys those of a folder. While there are none the gateway has a key of its own, so that its sessions end with the
// process and are no other replica's.
type keyring struct {
	dir    string
	use    func(session.Keys) error
	logger *slog.Logger

	last    session.Keys
	problem string // that was logged last
}

// run looks after the keys until ctx ends. It has looked once when it calls begun.
func (k *keyring) run(ctx context.Context, begun func()) {
	k.look()
	begun()
	look := time.NewTicker(keysInterval)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			k.look()
		}
	}
}

// look takes keys over that have changed. Where they cannot be used those before stay, and that is logged once.
func (k *keyring) look() {
	next, err := session.ReadKeys(k.dir)
	if err == nil && !next.Equal(k.last) {
		if err = k.use(next); err == nil {
			k.last = next
			k.logger.Info("Session keys taken over", "previous", len(next.Previous) > 0, "next", len(next.Next) > 0)
		}
	}
	problem := ""
	if err != nil {
		problem = err.Error()
	}
	if problem != "" && problem != k.problem {
		if len(k.last.Current) == 0 {
			k.logger.Warn("No session keys: sessions that begin here end with this process, and no other replica knows them", "error", err)
		} else {
			k.logger.Warn("The session keys cannot be used; those from before stay in use", "error", err)
		}
	}
	k.problem = problem
}
