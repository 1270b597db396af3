// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"errors"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// TestSecret_Refusals: an API server that has just started refuses everybody everything for some seconds. Nobody's credentials are gone for
// that; a right that is refused for longer is.
func TestSecret_Refusals(t *testing.T) {
	t.Parallel()
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, "token", errors.New("no right"))
	trouble := apierrors.NewInternalError(errors.New("etcd is away"))
	type failure struct {
		after time.Duration
		err   error // nil: it is read again
	}
	for name, test := range map[string]struct {
		unread   bool // it was not read before
		failures []failure
		known    bool
	}{
		"refused once":                       {failures: []failure{{0, forbidden}}, known: true},
		"refused while an API server starts": {failures: []failure{{0, forbidden}, {time.Second, forbidden}, {9 * time.Second, forbidden}}, known: true},
		"refused for longer":                 {failures: []failure{{0, forbidden}, {9 * time.Second, forbidden}, {10 * time.Second, forbidden}}},
		"refused, read and refused":          {failures: []failure{{0, forbidden}, {9 * time.Second, nil}, {20 * time.Second, forbidden}}, known: true},
		"an API server in trouble":           {failures: []failure{{0, trouble}, {time.Hour, trouble}}, known: true},
		"never read":                         {unread: true, failures: []failure{{0, forbidden}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began, s, object := time.Now(), &secret{}, &corev1.Secret{}
			if !test.unread {
				s.read(object)
			}
			var last error
			for _, f := range test.failures {
				if last = f.err; f.err == nil {
					s.read(object)
				} else {
					s.failed(f.err, began.Add(f.after))
				}
			}
			switch {
			case test.known && (!s.known || s.object != object || s.err != nil):
				t.Errorf("it is not known any more: %+v", s)
			case !test.known && (s.known || s.object != nil || !errors.Is(s.err, last)):
				t.Errorf("it is still known, or not said why not: %+v", s)
			}
		})
	}
}
