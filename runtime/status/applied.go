// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	vmcpac "github.com/vmcp-dev/vmcp-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
)

// applied says that the object already holds the status, and that all of it is ours. A field that somebody else took over is not,
// nor is one that somebody else changed: both make a difference.
func applied(object *v1alpha1.VirtualMCPServer, status *vmcpac.VirtualMCPServerStatusApplyConfiguration) (bool, error) {
	owned, err := vmcpac.ExtractVirtualMCPServerStatus(object, fieldManager)
	if err != nil {
		return false, fmt.Errorf("extracting the fields of %s: %w", fieldManager, err)
	}
	if owned.Status == nil {
		return false, nil
	}
	have, err := canonical(owned.Status)
	if err != nil {
		return false, err
	}
	want, err := canonical(status)
	if err != nil {
		return false, err
	}
	return equality.Semantic.DeepEqual(have, want), nil
}

// canonical is a status without what the type of the API does not tell apart: the order of lists that are maps, and fields that
// are absent or empty.
func canonical(status *vmcpac.VirtualMCPServerStatusApplyConfiguration) (*v1alpha1.VirtualMCPServerStatus, error) {
	data, err := json.Marshal(status)
	if err != nil {
		return nil, fmt.Errorf("encoding a status: %w", err)
	}
	c := &v1alpha1.VirtualMCPServerStatus{}
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("decoding a status: %w", err)
	}
	slices.SortFunc(c.Conditions, func(a, b metav1.Condition) int { return cmp.Compare(a.Type, b.Type) })
	slices.SortFunc(c.DiscoveredBackends, func(a, b v1alpha1.DiscoveredBackend) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind))
	})
	return c, nil
}
