// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"errors"
	"fmt"
	"path/filepath"

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

	// source says who finds the backends: with discovered the runtime does, with inline they are those in backends.
	Source vmcpv1alpha1.OutgoingAuthSource `json:"source"`

	// discovery says which kinds of objects join the group by a label, for source discovered.
	Discovery vmcpv1alpha1.GroupDiscovery `json:"discovery,omitzero"`

	// defaultAuth and backendAuths are spec.outgoingAuth.default and spec.outgoingAuth.backends, for source discovered.
	DefaultAuth  *vmcpv1alpha1.DefaultAuth  `json:"defaultAuth,omitempty"`
	BackendAuths []vmcpv1alpha1.BackendAuth `json:"backendAuths,omitempty"`

	// backends are the backends that are served, for source inline, in the one order of backends. They hold intent only: neither
	// health nor credentials.
	Backends []Backend `json:"backends,omitempty"`

	// aggregation says how what the backends offer becomes one catalog.
	Aggregation vmcpv1alpha1.Aggregation `json:"aggregation,omitzero"`

	// health says when a backend counts as slow or gone.
	Health vmcpv1alpha1.Health `json:"health,omitzero"`

	// allowedHosts are the values of the Host header, without a port, that the endpoint answers to, beside localhost and
	// loopback addresses. Browsers that were tricked into resolving a foreign name to the gateway (DNS rebinding) send
	// that name.
	AllowedHosts []string `json:"allowedHosts,omitempty"`

	// allowedOrigins are the origins of the web pages that may use the endpoint. Empty means the http and https origins of the hosts
	// that the endpoint answers to.
	AllowedOrigins []string `json:"allowedOrigins,omitempty"`

	// ownURLs are the URLs at which clients reach the endpoint. A backend at one of them would be the gateway itself.
	OwnURLs []string `json:"ownURLs,omitempty"`
}

// Backend is a backend as the operator resolved it.
type Backend struct {
	// kind and name are those of the object that describes the backend; no two backends share both.
	Kind string `json:"kind"`
	Name string `json:"name"`

	// source says where the backend is.
	Source vmcpv1alpha1.BackendSource `json:"source"`

	// url is the MCP endpoint. It is empty if the backend is refused because of it.
	URL string `json:"url,omitempty"`

	// transport is the transport on the wire to url, declaredTransport the one that the object names: stdio where a bridge stands
	// before the server.
	Transport         vmcpv1alpha1.Transport `json:"transport"`
	DeclaredTransport vmcpv1alpha1.Transport `json:"declaredTransport"`

	// auth says how to authenticate to the backend. Absent means without credentials.
	Auth *Auth `json:"auth,omitempty"`

	// refused, if present, says why the backend must not be called at all.
	Refused *Refusal `json:"refused,omitempty"`
}

// Auth is how the runtime authenticates to a backend. It holds no secret: where a Secret is named, the runtime reads the
// file CredentialFile.
type Auth struct {
	// configRef names the MCPExternalAuthConfig that was chosen.
	ConfigRef vmcpv1alpha1.LocalReference `json:"configRef"`

	// spec is what that MCPExternalAuthConfig says. It is empty if the backend is refused because of it.
	Spec vmcpv1alpha1.MCPExternalAuthConfigSpec `json:"spec,omitzero"`
}

// Refusal says why a backend must not be called.
type Refusal struct {
	// status is the status that the backend has.
	Status vmcpv1alpha1.BackendStatus `json:"status"`
	// reason says in a word, message in a sentence, why.
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// CredentialsDir is the folder in which the operator mounts one folder for each Secret that a configuration of source inline names. A
// runtime out of the cluster may have it elsewhere.
const CredentialsDir = "/etc/vmcp/credentials" //nolint:gosec // G101: the name of a folder, not a secret.

// CredentialFile is the file below dir that holds a key of a Secret. The folder of a Secret that is mounted exists even while
// the Secret, or its key, does not.
func CredentialFile(dir string, ref vmcpv1alpha1.SecretKeyReference) string {
	return filepath.Join(dir, ref.Name, ref.Key)
}

// OutgoingAuth is the authentication that c gives to backends, for source discovered.
func (c *RuntimeConfiguration) OutgoingAuth() vmcpv1alpha1.OutgoingAuth {
	return vmcpv1alpha1.OutgoingAuth{Source: c.Source, Default: c.DefaultAuth, Backends: c.BackendAuths}
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
		OutgoingAuth: c.OutgoingAuth(),
		Aggregation:  c.Aggregation,
	}
	if err := spec.Validate(nil).ToAggregate(); err != nil {
		return nil, fmt.Errorf("invalid %s: %w", Kind, err)
	}
	return c, nil
}
