// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package status_test

import (
	"testing"

	"github.com/vmcp-dev/vmcp-operator/runtime/kube/kubetest"
)

func TestMain(m *testing.M) { kubetest.Main(m) }
