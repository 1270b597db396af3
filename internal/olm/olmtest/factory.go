// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package olmtest lets tests speak to an OperatorCondition from outside of a pod.
package olmtest

import (
	"context"
	"fmt"

	apiv2 "github.com/operator-framework/api/pkg/operators/v2"
	"github.com/operator-framework/operator-lib/conditions"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/internal/olm"
)

// At is the factory of the conditions of the OperatorCondition of that key. They do what those of conditions.InClusterFactory do,
// with the same requests; only the key does not come from a pod's environment and files.
func At(key types.NamespacedName) olm.NewFactory {
	return func(c client.Client) conditions.Factory { return factory{c, key} }
}

type factory struct {
	client client.Client
	key    types.NamespacedName
}

// GetNamespacedName implements conditions.Factory.
func (f factory) GetNamespacedName() (*types.NamespacedName, error) { return &f.key, nil }

// NewCondition implements conditions.Factory.
func (f factory) NewCondition(conditionType apiv2.ConditionType) (conditions.Condition, error) {
	return condition{f, string(conditionType)}, nil
}

type condition struct {
	factory
	conditionType string
}

// Get implements conditions.Condition.
func (c condition) Get(ctx context.Context) (*metav1.Condition, error) {
	o := &apiv2.OperatorCondition{}
	if err := c.client.Get(ctx, c.key, o); err != nil {
		return nil, err
	}
	if found := meta.FindStatusCondition(o.Spec.Conditions, c.conditionType); found != nil {
		return found, nil
	}
	return nil, fmt.Errorf("no condition %s", c.conditionType)
}

// Set implements conditions.Condition.
func (c condition) Set(ctx context.Context, status metav1.ConditionStatus, options ...conditions.Option) error {
	o := &apiv2.OperatorCondition{}
	if err := c.client.Get(ctx, c.key, o); err != nil {
		return err
	}
	wanted := metav1.Condition{Type: c.conditionType, Status: status}
	for _, option := range options {
		option(&wanted)
	}
	meta.SetStatusCondition(&o.Spec.Conditions, wanted)
	return c.client.Update(ctx, o)
}
