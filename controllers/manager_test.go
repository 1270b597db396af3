// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"testing"

	. "github.com/onsi/gomega"

	"github.com/vmcp-dev/vmcp-operator/controllers"
)

func TestParseNamespaces(t *testing.T) {
	t.Parallel()
	for value, want := range map[string][]string{
		"":             nil,
		" , ":          nil,
		"tools":        {"tools"},
		"tools, data,": {"tools", "data"},
	} {
		g := NewWithT(t)
		g.Expect(controllers.ParseNamespaces(value)).To(Equal(want), "%q", value)
	}
}
