// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 holds the type of the file by which the operator configures a runtime. It lives beside the API because
// it is the one thing that operator and runtime share; neither imports the other.
//
// +kubebuilder:object:generate=true
package v1alpha1
