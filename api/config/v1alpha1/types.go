// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"errors"
	"fmt"

	"sigs.k8s.io/yaml"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	vmcpv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

const (
	// APIVersion is the apiVersion of a RuntimeConfiguration.
	APIVersion = "config.vmcp.dev/v1alpha1"
	// Kind is the kind of a RuntimeConfiguration.
	Kind = "RuntimeConfiguration"
	// FileName is the key of the ConfigMap, and the name of the mounted file, that holds a RuntimeConfiguration.
	FileName = "config.yaml"
)

// RuntimeConfiguration is what a runtime is to serve: intent only, never the health of anything, so that a backend that
// comes or goes changes no configuration.
type RuntimeConfiguration struct {
	metav1.TypeMeta `json:",inline"`

	// generation is metadata.generation of the VirtualMCPServer that this was rendered from. Of two configurations the one
	// with the greater generation wins; the runtime reports it as status.runtime.observedGeneration.
	Generation int64 `json:"generation"`

	// uid is metadata.uid of that VirtualMCPServer. A runtime serves and reports for this object only, not for another one that was
	// created under the same name while the runtime's pod is still there.
	UID types.UID `json:"uid,omitempty"`

	// group is the name of the MCPGroup whose backends are served.
	Group string `json:"group"`

	// source says who finds the backends.
	Source vmcpv1alpha1.OutgoingAuthSource `json:"source"`

	// aggregation says how what the backends offer becomes one catalog.
	Aggregation vmcpv1alpha1.Aggregation `json:"aggregation,omitzero"`

	// allowedHosts are the values of the Host header, without a port, that the endpoint answers to, beside localhost and
	// loopback addresses. Browsers that were tricked into resolving a foreign name to the gateway (DNS rebinding) send
	// that name.
	AllowedHosts []string `json:"allowedHosts,omitempty"`
}

// Marshal encodes a configuration as YAML with a fixed order of keys.
func Marshal(c *RuntimeConfiguration) ([]byte, error) {
	c = c.DeepCopy()
	c.APIVersion, c.Kind = APIVersion, Kind
	return yaml.Marshal(c)
}

// Parse decodes and validates a configuration. Unknown fields are errors: they would be settings that are ignored.
func Parse(data []byte) (*RuntimeConfiguration, error) {
	c := &RuntimeConfiguration{}
	if err := yaml.UnmarshalStrict(data, c); err != nil {
		return nil, fmt.Errorf("decoding %s: %w", Kind, err)
	}
	if c.APIVersion != APIVersion || c.Kind != Kind {
		return nil, fmt.Errorf("expected %s %s, found %q %q", APIVersion, Kind, c.APIVersion, c.Kind)
	}
	if c.Group == "" {
		return nil, errors.New("group: required")
	}
	spec := vmcpv1alpha1.VirtualMCPServerSpec{
		GroupRef:     vmcpv1alpha1.LocalReference{Name: c.Group},
		OutgoingAuth: vmcpv1alpha1.OutgoingAuth{Source: c.Source},
		Aggregation:  c.Aggregation,
	}
	if err := spec.Validate(nil).ToAggregate(); err != nil {
		return nil, fmt.Errorf("invalid %s: %w", Kind, err)
	}
	return c, nil
}
