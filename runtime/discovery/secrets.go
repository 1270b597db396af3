// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"context"
	"log/slog"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/vmcp-dev/vmcp-operator/runtime/kube"
)

// secret is what is known of one Secret.
type secret struct {
	known  bool           // it was read, or found not to exist
	object *corev1.Secret // nil: there is none
	err    error          // why it cannot be read
	stop   context.CancelFunc
}

// pending says that the API server has not answered yet.
func (s *secret) pending() bool { return !s.known && s.err == nil }

// secrets follows named Secrets, each by a get and a watch of its own: a runtime may read exactly those that were named. One goroutine
// owns it; changes has what that goroutine is to do.
type secrets struct {
	client  kube.Getter[*corev1.Secret]
	logger  *slog.Logger
	changes chan<- func()
	byName  map[string]*secret
	running sync.WaitGroup
}

// want follows the named Secrets and no others.
func (s *secrets) want(ctx context.Context, names map[string]bool) {
	for name, known := range s.byName {
		if !names[name] {
			known.stop()
			delete(s.byName, name)
		}
	}
	for name := range names {
		if s.byName[name] == nil {
			s.follow(ctx, name)
		}
	}
}

// retry reads a Secret that could not be read at once, because something suggests that now it can.
func (s *secrets) retry(ctx context.Context, name string) {
	if known := s.byName[name]; known != nil && known.err != nil {
		known.stop()
		s.follow(ctx, name).err = known.err
	}
}

func (s *secrets) follow(ctx context.Context, name string) *secret {
	ctx, stop := context.WithCancel(ctx)
	entry := &secret{stop: stop}
	s.byName[name] = entry
	s.running.Go(func() {
		kube.FollowOne(ctx, s.logger, s.client, name,
			func(object *corev1.Secret) {
				send(ctx, s.changes, func() { entry.known, entry.object, entry.err = true, object, nil })
			},
			func(err error) {
				send(ctx, s.changes, func() {
					// What was read stays good while the API server is in trouble. A right that was taken away is none.
					if !entry.known || apierrors.IsForbidden(err) {
						entry.known, entry.object, entry.err = false, nil, err
					}
				})
			})
	})
	return entry
}

// send hands a change over unless the receiver has ended.
func send(ctx context.Context, to chan<- func(), change func()) {
	select {
	case to <- change:
	case <-ctx.Done():
	}
}
