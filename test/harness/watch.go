// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"
	"time"
)

// State is an object as a watch showed it.
type State[T any] struct {
	// At is when it was seen.
	At time.Time
	// Deleted says that this is the last state of an object that is gone.
	Deleted bool
	// Object is the object.
	Object *T
}

// History is what was seen of one object so far, in order: by Watch each state that the API server had, by Sample what a reader finds.
type History[T any] struct {
	mu     sync.Mutex
	states []State[T]
	grown  chan struct{} // closed and replaced with every new state
	ended  error
}

// Watch follows one object until ctx ends; the object need not exist, and may be deleted and made again.
func Watch[T any](ctx context.Context, k Kubectl, namespace, resource, name string) (*History[T], error) {
	args := []string{"--namespace", namespace, "get", resource, "--field-selector=metadata.name=" + name, "--watch",
		"--output-watch-events", "--output=json", "--show-managed-fields"}
	cmd := k.Command(ctx, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("watching %s %s: %w", resource, name, err)
	}
	var stderr lastLine
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("watching %s %s: %w", resource, name, err)
	}
	h := &History[T]{grown: make(chan struct{})}
	go func() {
		err := h.read(stdout)
		_, _ = io.Copy(io.Discard, stdout)
		_ = cmd.Wait() // it ends by our signal, or says why on stderr
		h.end(fmt.Errorf("kubectl %s ended: %w: %s", strings.Join(args, " "), err, stderr.String()))
	}()
	return h, nil
}

func (h *History[T]) read(events io.Reader) error {
	decoder := json.NewDecoder(events)
	for {
		var event struct {
			Type   string `json:"type"`
			Object *T     `json:"object"`
		}
		if err := decoder.Decode(&event); err != nil {
			return err
		}
		h.add(State[T]{At: time.Now(), Deleted: event.Type == "DELETED", Object: event.Object})
	}
}

func (h *History[T]) add(s State[T]) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.states = append(h.states, s)
	close(h.grown)
	h.grown = make(chan struct{})
}

func (h *History[T]) end(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = err
	close(h.grown)
	h.grown = make(chan struct{})
}

// Err says why no more states will be seen, nil while they will.
func (h *History[T]) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ended
}

// Since returns the states that were seen from a moment on.
func (h *History[T]) Since(from time.Time) []State[T] {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.states {
		if !h.states[i].At.Before(from) {
			return h.states[i:len(h.states):len(h.states)]
		}
	}
	return nil
}

// errNothingSeen is the cause while a watch has shown nothing.
var errNothingSeen = errors.New("the watch has shown nothing")

// Await waits for the first state, of those seen from a moment on, for which condition returns nil.
func (h *History[T]) Await(ctx context.Context, from time.Time, limit time.Duration, what string, condition func(*T) error) (State[T], error) {
	ctx, cancel := context.WithDeadline(ctx, from.Add(limit))
	defer cancel()
	last, looked := errNothingSeen, 0
	for {
		h.mu.Lock()
		grown, ended := h.grown, h.ended
		h.mu.Unlock()
		states := h.Since(from)
		for _, s := range states[looked:] {
			if s.Deleted {
				last = errors.New("the object was deleted")
				continue
			}
			if last = condition(s.Object); last == nil {
				return s, nil
			}
		}
		looked = len(states)
		if ended != nil {
			return State[T]{}, fmt.Errorf("%s: %w", what, ended)
		}
		select {
		case <-ctx.Done():
			return State[T]{}, fmt.Errorf("%s: not within %s: %w", what, limit, last)
		case <-grown:
		}
	}
}
