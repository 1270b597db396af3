// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// The reflector's own ceiling between attempts is 30 s; a gateway has to know what changed ten seconds after the API server came back, and a
// request in some seconds from each watch does not hinder it in coming back. watchJitter, a share of it, comes on top.
const (
	maxWatchBackoff = 5 * time.Second
	watchJitter     = 0.5
)

// Object is an API object as its typed client returns it.
type Object interface {
	runtime.Object
	metav1.Object
}

// Getter reads and watches objects of one kind and namespace, as every typed client does.
type Getter[T Object] interface {
	Get(ctx context.Context, name string, options metav1.GetOptions) (T, error)
	Watch(ctx context.Context, options metav1.ListOptions) (watch.Interface, error)
}

// Lister lists and watches objects of one kind and namespace, as every typed client does.
type Lister[L runtime.Object] interface {
	List(ctx context.Context, options metav1.ListOptions) (L, error)
	Watch(ctx context.Context, options metav1.ListOptions) (watch.Interface, error)
}

// FollowOne calls on with the named object whenever it changes, and with the zero value when there is none, until ctx ends. It
// outlives any absence of the API server. Calls come one at a time, in the order of the changes; what is between two of them may be lost.
// If failed is not nil it is called when the API server answers with an error, such as a missing right; a call of on afterwards
// means that the failure is over.
//
// It needs the rights to get and watch the object, not to list: a Role that names one object grants no more than that.
func FollowOne[T Object](ctx context.Context, logger *slog.Logger, client Getter[T], name string, on func(T), failed func(error)) {
	var last T
	if failed == nil {
		failed = func(error) {}
	}
	check := newFailure(ctx, func() { on(last) }, failed)
	selector := fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
	lw := &cache.ListWatch{
		// The list is a get, and it has no resource version: one of the object itself may be older than what the API server can
		// still watch from. The watch that follows thus begins with the state of the object at that time.
		ListWithContextFunc: func(ctx context.Context, _ metav1.ListOptions) (runtime.Object, error) {
			object, err := client.Get(ctx, name, metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				return &metav1.List{}, nil
			}
			if err != nil {
				check.failed(err)
				return nil, err
			}
			return &metav1.List{Items: []runtime.RawExtension{{Object: object}}}, nil
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			options.FieldSelector = selector
			w, err := client.Watch(ctx, options)
			check.watched(options, err)
			return w, err
		},
	}
	set := func(object T) {
		check.failing, last = false, object
		on(object)
	}
	var none T
	follow(ctx, logger, lw, store[T]{
		set: set,
		replace: func(objects []T) {
			if len(objects) > 0 {
				set(objects[0])
			} else {
				set(none)
			}
		},
		remove: func(T) { set(none) },
	})
}

// Selector says which objects of a kind are followed. What is empty lets all through.
type Selector struct {
	// Field and Label are a field selector and a label selector of the API.
	Field, Label string
}

func (s Selector) into(options metav1.ListOptions) metav1.ListOptions {
	options.FieldSelector, options.LabelSelector = s.Field, s.Label
	return options
}

// FollowList calls on with all objects that the selector lets through, by name, whenever one of them changes, until ctx ends.
// The first call has the complete list. It calls failed when the API server answers with an error, such as a missing right; a
// call of on afterwards means that the failure is over. The map is the receiver's to read until the next call.
func FollowList[T Object, L runtime.Object](ctx context.Context, logger *slog.Logger, client Lister[L], selector Selector, on func(map[string]T), failed func(error)) {
	objects := map[string]T{}
	check := newFailure(ctx, func() { on(objects) }, failed)
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			list, err := client.List(ctx, selector.into(options))
			if err != nil {
				check.failed(err)
			}
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			w, err := client.Watch(ctx, selector.into(options))
			check.watched(options, err)
			return w, err
		},
	}
	follow(ctx, logger, lw, store[T]{
		set: func(object T) {
			objects[object.GetName()] = object
			on(objects)
		},
		replace: func(list []T) {
			check.failing = false
			clear(objects)
			for _, object := range list {
				objects[object.GetName()] = object
			}
			on(objects)
		},
		remove: func(object T) {
			delete(objects, object.GetName())
			on(objects)
		},
	})
}

// failure tells the receiver of a follower when the API server begins to refuse it, and when it stops.
type failure struct {
	ctx     context.Context //nolint:containedctx // That of the follower, whose end is no failure.
	failing bool
	again   func() // tells what was known before
	tell    func(error)
}

func newFailure(ctx context.Context, again func(), tell func(error)) *failure {
	return &failure{ctx: ctx, again: again, tell: tell}
}

func (f *failure) failed(err error) {
	if f.ctx.Err() == nil && refused(err) {
		f.failing = true
		f.tell(err)
	}
}

// watched takes the outcome of a watch into account. One that begins with a list has nothing complete to show before its objects came.
func (f *failure) watched(options metav1.ListOptions, err error) {
	switch {
	case err != nil:
		f.failed(err)
	case f.failing && options.SendInitialEvents == nil:
		f.failing = false
		f.again()
	}
}

// refused tells an answer of the API server that a person must act upon from its absence, and from what a watch does in its
// normal life: expire, or be asked to come back later.
func refused(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) || apierrors.IsNotFound(err) ||
		apierrors.IsBadRequest(err) || apierrors.IsInvalid(err) || apierrors.IsMethodNotSupported(err)
}

func follow(ctx context.Context, logger *slog.Logger, lw cache.ListerWatcher, s cache.ReflectorStore) {
	log := logr.FromSlogHandler(logger.Handler())
	ctx = klog.NewContext(ctx, log)
	cache.NewReflectorWithOptions(lw, nil, s, cache.ReflectorOptions{
		Name:    "kube",
		Logger:  &log,
		Backoff: watchBackoff(),
	}).RunWithContext(ctx)
}

func watchBackoff() *wait.Backoff {
	return &wait.Backoff{Duration: 500 * time.Millisecond, Factor: 2, Jitter: watchJitter, Steps: 20, Cap: maxWatchBackoff}
}

// store hands what a reflector receives to functions. A reflector calls it from one goroutine.
type store[T Object] struct {
	set     func(T)
	replace func([]T)
	remove  func(T)
}

func (s store[T]) Add(object any) error    { return s.Update(object) }
func (s store[T]) Resync() error           { return nil }
func (s store[T]) Update(object any) error { return with(object, s.set) }
func (s store[T]) Delete(object any) error { return with(object, s.remove) }

func (s store[T]) Replace(objects []any, _ string) error {
	list := make([]T, 0, len(objects))
	for _, object := range objects {
		if err := with(object, func(o T) { list = append(list, o) }); err != nil {
			return err
		}
	}
	s.replace(list)
	return nil
}

func with[T any](object any, do func(T)) error {
	o, ok := object.(T)
	if !ok {
		return fmt.Errorf("the API server sent an unexpected %T", object)
	}
	do(o)
	return nil
}
