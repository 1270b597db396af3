// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/controllers/operand"
)

// operandCache keeps what was rendered last for each object, so that a reconciliation in steady state does not render. The zero
// value is ready for use.
type operandCache struct{ perObject[renderedOperand] }

type renderedOperand struct {
	input   operand.Input
	operand *operand.Operand
	err     error
}

// render returns what operand.Render returns for in. It may render for several objects at once, never for one object: the work queue
// sees to that.
func (c *operandCache) render(key client.ObjectKey, in operand.Input) (*operand.Operand, error) {
	entry, ok := c.get(key)
	if ok && equality.Semantic.DeepEqual(entry.input, in) {
		return entry.operand, entry.err
	}
	entry = renderedOperand{input: in}
	entry.operand, entry.err = operand.Render(in)
	c.set(key, entry)
	return entry.operand, entry.err
}
