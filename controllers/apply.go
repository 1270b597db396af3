// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// createOnly as the resourceVersion of a server-side apply makes the API server answer 409 if the object exists: no object
// ever has this version, because etcd gives its first revision to no write. So a foreign object that no cache of ours shows
// is never taken over, and provisioning costs one request for each object.
const createOnly = "1"

// object is a pointer to a typed API object.
type object[T any] interface {
	*T
	client.Object
}

// intent is an apply configuration: what we want of an object, and nothing else.
type intent interface {
	GetKind() *string
	GetName() *string
	GetNamespace() *string
}

// notOwnedError says that an object of the wanted name is not controlled by the owner that wants it.
type notOwnedError struct {
	kind, name string
	// controller is who controls the object, or nil.
	controller *metav1.OwnerReference
	// predecessor is true if the controller is an object of the owner's kind and name that was deleted: the garbage
	// collector is about to remove what it left.
	predecessor bool
}

func (e *notOwnedError) Error() string {
	switch {
	case e.predecessor:
		return fmt.Sprintf("%s %s still belongs to the deleted %s of the same name; it is replaced as soon as it is garbage-collected",
			e.kind, e.name, e.controller.Kind)
	case e.controller != nil:
		return fmt.Sprintf("%s %s exists already and belongs to %s %s; delete or rename one of them",
			e.kind, e.name, e.controller.Kind, e.controller.Name)
	default:
		return fmt.Sprintf("%s %s exists already and does not belong to this object; delete or rename one of them", e.kind, e.name)
	}
}

// ensure makes the API server's object be what want says, on behalf of owner, and returns the object as it is then.
//
// It applies only what differs: what our field manager owns of the cached object (managedFields, by client-go's Extract…
// functions, or the fingerprint of it that the cache keeps) is compared with want, and a request is sent on a difference only.
// Drift, fields that somebody else took over and fields that were dropped from want are all differences. An object that owner does
// not control is left alone and reported as a *notOwnedError. Each request carries the resourceVersion that it was decided on.
func ensure[T any, A intent, O object[T]](
	ctx context.Context, c Client, owner client.Object, want A, extract func(O, string) (A, error),
) (O, error) {
	kind := ptr.Deref(want.GetKind(), "")
	key := client.ObjectKey{Namespace: ptr.Deref(want.GetNamespace(), ""), Name: ptr.Deref(want.GetName(), "")}
	live, err := find[T, O](ctx, c, key)
	if err != nil {
		return nil, fmt.Errorf("reading %s %s: %w", kind, key.Name, err)
	}
	got, err := ensureFrom(ctx, c, owner, live, want, extract)
	if !apierrors.IsConflict(err) {
		return got, err
	}
	// The cache is behind, or shows only objects with our label: decide once more on what the API server has.
	if live, err = find[T, O](ctx, c.Live, key); err != nil {
		return nil, fmt.Errorf("reading %s %s: %w", kind, key.Name, err)
	}
	return ensureFrom(ctx, c, owner, live, want, extract)
}

func ensureFrom[T any, A intent, O object[T]](
	ctx context.Context, c Client, owner client.Object, live O, want A, extract func(O, string) (A, error),
) (O, error) {
	kind, name := ptr.Deref(want.GetKind(), ""), ptr.Deref(want.GetName(), "")
	resourceVersion := createOnly
	if live != nil {
		if err := checkOwner(owner, live, kind); err != nil {
			return nil, err
		}
		applied, err := isApplied(live, want, extract)
		if err != nil {
			return nil, fmt.Errorf("comparing %s %s: %w", kind, name, err)
		}
		if applied {
			c.countApply(kind, applySkipped)
			return live, nil
		}
		resourceVersion = live.GetResourceVersion()
	}
	got, err := applyAt[T, A, O](ctx, c, want, resourceVersion)
	c.countApply(kind, resultOf(err))
	if err != nil {
		return nil, fmt.Errorf("applying %s %s: %w", kind, name, err)
	}
	return got, nil
}

// find reads an object; it is nil if there is none.
func find[T any, O object[T]](ctx context.Context, c client.Reader, key client.ObjectKey) (O, error) {
	o := O(new(T))
	if err := c.Get(ctx, key, o); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	return o, nil
}

// applyAt sends a server-side apply that the API server refuses with 409 unless the object has the resourceVersion. want is
// not modified.
func applyAt[T any, A intent, O object[T]](
	ctx context.Context, c client.Client, want A, resourceVersion string, opts ...client.PatchOption,
) (O, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(want)
	if err != nil {
		return nil, fmt.Errorf("encoding: %w", err)
	}
	metadata, ok := content["metadata"].(map[string]any)
	if !ok {
		return nil, errors.New("encoding: no metadata")
	}
	metadata["resourceVersion"] = resourceVersion
	data, err := json.Marshal(content)
	if err != nil {
		return nil, fmt.Errorf("encoding: %w", err)
	}
	o := O(new(T))
	o.SetNamespace(ptr.Deref(want.GetNamespace(), ""))
	o.SetName(ptr.Deref(want.GetName(), ""))
	opts = append(opts, client.FieldOwner(v1alpha1.OperatorFieldManager), client.ForceOwnership)
	err = c.Patch(ctx, o, client.RawPatch(types.ApplyPatchType, data), opts...)
	if err != nil {
		return nil, err
	}
	return o, nil
}

// checkOwner returns a *notOwnedError unless owner is the controller of o.
func checkOwner(owner, o client.Object, kind string) error {
	if metav1.IsControlledBy(o, owner) {
		return nil
	}
	e := &notOwnedError{kind: kind, name: o.GetName(), controller: metav1.GetControllerOfNoCopy(o)}
	if c := e.controller; c != nil {
		e.predecessor = c.Kind == kindOf(owner) && c.Name == owner.GetName()
	}
	return e
}

// kindOf is the kind of one of our own objects; an object that was read through a typed client does not say it.
func kindOf(o client.Object) string {
	switch o.(type) {
	case *v1alpha1.VirtualMCPServer:
		return "VirtualMCPServer"
	case *v1alpha1.MCPBackend:
		return "MCPBackend"
	case *v1alpha1.MCPGroup:
		return "MCPGroup"
	case *v1alpha1.MCPExternalAuthConfig:
		return "MCPExternalAuthConfig"
	default:
		return ""
	}
}

// ownerReference makes owner, one of our own objects, the controller of an object: it goes with its owner.
func ownerReference(owner client.Object) *metav1ac.OwnerReferenceApplyConfiguration {
	return metav1ac.OwnerReference().
		WithAPIVersion(v1alpha1.GroupVersion.String()).
		WithKind(kindOf(owner)).
		WithName(owner.GetName()).
		WithUID(owner.GetUID()).
		WithController(true).
		WithBlockOwnerDeletion(true)
}

// remove deletes an object if owner controls it. An object that is not there, or somebody else's, is left alone.
func remove[T any, O object[T]](ctx context.Context, c Client, owner client.Object, key client.ObjectKey) error {
	o, err := find[T, O](ctx, c, key)
	if err != nil {
		return fmt.Errorf("reading %s: %w", key.Name, err)
	}
	if o == nil || !metav1.IsControlledBy(o, owner) || !o.GetDeletionTimestamp().IsZero() {
		return nil
	}
	err = c.Delete(ctx, o, client.PropagationPolicy(metav1.DeletePropagationBackground),
		client.Preconditions{UID: new(o.GetUID())})
	if client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("deleting %s: %w", key.Name, err)
	}
	return nil
}
