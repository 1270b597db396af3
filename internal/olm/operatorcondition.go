// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package olm tells the Operator Lifecycle Manager about the operator, through the OperatorCondition that OLM keeps for each
// ClusterServiceVersion. OLM names it in OPERATOR_CONDITION_NAME and grants get, update and patch on it, and nothing else.
package olm

import (
	"context"
	"fmt"

	apiv2 "github.com/operator-framework/api/pkg/operators/v2"
	"github.com/operator-framework/operator-lib/conditions"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// ConditionNameVariable is the environment variable in which OLM names the OperatorCondition of the operator that it runs. An
// operator that OLM did not install has none.
const ConditionNameVariable = "OPERATOR_CONDITION_NAME"

// Statement is a condition of the operator, without its time.
type Statement struct {
	Type    string
	Status  metav1.ConditionStatus
	Reason  string
	Message string
}

// saidBy says whether these conditions say the same already.
func (s Statement) saidBy(stated []metav1.Condition) bool {
	c := meta.FindStatusCondition(stated, s.Type)
	return c != nil && c.Status == s.Status && c.Reason == s.Reason && c.Message == s.Message
}

// NewFactory builds the conditions of an OperatorCondition that a client reaches. That of operator-lib, conditions.InClusterFactory,
// finds the namespace in the files of the pod's ServiceAccount and nowhere else, so that what runs outside of a pod needs another.
type NewFactory func(client.Client) conditions.Factory

// OperatorCondition is the object through which an operator speaks to OLM. It is safe for concurrent use.
type OperatorCondition struct {
	client  client.Client
	factory conditions.Factory
}

// New makes an OperatorCondition with a client of its own, which reads from no cache: the object lies in the operator's namespace,
// which need not be one that the operator watches. Nothing is asked of the API server yet.
func New(config *rest.Config, mapper meta.RESTMapper, factory NewFactory) (*OperatorCondition, error) {
	scheme := runtime.NewScheme()
	if err := apiv2.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("registering the kinds of OLM: %w", err)
	}
	c, err := client.New(config, client.Options{Scheme: scheme, Mapper: mapper})
	if err != nil {
		return nil, fmt.Errorf("building the client of the OperatorCondition: %w", err)
	}
	return NewWithClient(c, factory), nil
}

// NewWithClient makes an OperatorCondition with a client whose scheme knows the kind.
func NewWithClient(c client.Client, factory NewFactory) *OperatorCondition {
	return &OperatorCondition{client: c, factory: factory(c)}
}

// stated reads what the operator has said so far. What OLM made of it, and what an administrator overrides, is elsewhere in the object.
func (o *OperatorCondition) stated(ctx context.Context) ([]metav1.Condition, error) {
	key, err := o.factory.GetNamespacedName()
	if err != nil {
		return nil, fmt.Errorf("finding the OperatorCondition: %w", err)
	}
	object := &apiv2.OperatorCondition{}
	if err := o.client.Get(ctx, *key, object); err != nil {
		return nil, fmt.Errorf("reading OperatorCondition %s: %w", key, err)
	}
	return object.Spec.Conditions, nil
}

// State makes the OperatorCondition say these things and leaves its other conditions alone. It reads once, writes only what differs,
// because operator-lib's Set writes in any case, and returns what it has written.
func (o *OperatorCondition) State(ctx context.Context, statements ...Statement) ([]Statement, error) {
	stated, err := o.stated(ctx)
	if err != nil {
		return nil, err
	}
	var written []Statement
	for _, s := range statements {
		if s.saidBy(stated) {
			continue
		}
		if err := o.set(ctx, s); err != nil {
			return written, err
		}
		written = append(written, s)
	}
	return written, nil
}

// set writes one condition. OLM writes the object, too, and whoever loses that race tries again a few times, with growing pauses.
func (o *OperatorCondition) set(ctx context.Context, s Statement) error {
	condition, err := o.factory.NewCondition(apiv2.ConditionType(s.Type))
	if err != nil {
		return fmt.Errorf("finding the OperatorCondition: %w", err)
	}
	err = retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		return condition.Set(ctx, s.Status, conditions.WithReason(s.Reason), conditions.WithMessage(s.Message))
	})
	if err != nil {
		return fmt.Errorf("stating the condition %s: %w", s.Type, err)
	}
	return nil
}
