// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"context"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/vmcp-dev/vmcp-operator/runtime/kube"
)

// revocationPatience is how long the API server has to refuse a Secret that it showed before that is taken for the end of the right to
// read it. One that has just started refuses everybody everything until it has read who may do what, which takes it some seconds. A watch that
// is open outlives the right by minutes anyway.
const revocationPatience = 10 * time.Second

// secret is what is known of one Secret.
type secret struct {
	known        bool           // it was read, or found not to exist
	object       *corev1.Secret // nil: there is none
	err          error          // why it cannot be read
	refusedSince time.Time      // when the API server began to refuse what is known; zero: it does not
	stop         context.CancelFunc
}

// pending says that the API server has not answered yet.
func (s *secret) pending() bool { return !s.known && s.err == nil }

// read takes over what the API server shows.
func (s *secret) read(object *corev1.Secret) {
	s.known, s.object, s.err, s.refusedSince = true, object, nil, time.Time{}
}

// failed takes an error of the API server into account. What was read stays good while it is in trouble; a right that was taken away is none.
func (s *secret) failed(err error, now time.Time) {
	switch {
	case !s.known:
		s.err = err
	case !apierrors.IsForbidden(err):
	case s.refusedSince.IsZero():
		s.refusedSince = now
	case now.Sub(s.refusedSince) >= revocationPatience:
		s.known, s.object, s.err = false, nil, err
	}
}

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
				send(ctx, s.changes, func() { entry.read(object) })
			},
			func(err error) {
				send(ctx, s.changes, func() { entry.failed(err, time.Now()) })
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
