// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/controllers/operand"
)

// operandCache keeps what was rendered for the present generation of each object, so that a reconciliation in steady state does
// not render. The zero value is ready for use.
type operandCache struct{ perObject[renderedOperand] }

type renderedOperand struct {
	uid        types.UID
	generation int64
	operand    *operand.Operand
	err        error
}

// get returns what render returned for this generation of o. It may run render for several objects at once, never for one object:
// the work queue sees to that.
func (c *operandCache) get(o client.Object, render func() (*operand.Operand, error)) (*operand.Operand, error) {
	key := client.ObjectKeyFromObject(o)
	entry, ok := c.perObject.get(key)
	if ok && entry.uid == o.GetUID() && entry.generation == o.GetGeneration() {
		return entry.operand, entry.err
	}
	entry = renderedOperand{uid: o.GetUID(), generation: o.GetGeneration()}
	entry.operand, entry.err = render()
	c.set(key, entry)
	return entry.operand, entry.err
}
