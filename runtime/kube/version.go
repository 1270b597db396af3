// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"
)

// Newer says that a is a later state than b. Another object of the same name, as after it was deleted and created again, is always
// later: what is compared arrives from a watch, which never goes back to the predecessor.
// Resource versions of one kind are ordered integers (KEP-5504, comparable resource versions).
func Newer(a, b metav1.Object) bool {
	if a.GetUID() != b.GetUID() {
		return true
	}
	order, err := resourceversion.CompareResourceVersion(a.GetResourceVersion(), b.GetResourceVersion())
	return err != nil || order > 0
}
