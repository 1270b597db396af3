// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package kube holds the runtime's clients of the API server. They are typed clients over plain REST, so that a runtime makes no
// request to discover the API, but for a kind of others that may not be installed, and starts, and serves, while the API server is away.
package kube

import (
	"fmt"
	"net"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/gentype"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"
	eventsclient "k8s.io/client-go/kubernetes/typed/events/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/connrotation"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	vmcpac "github.com/vmcp-dev/vmcp-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
)

// VirtualMCPServers reads VirtualMCPServers of one namespace and applies their status.
type VirtualMCPServers = gentype.ClientWithListAndApply[*v1alpha1.VirtualMCPServer, *v1alpha1.VirtualMCPServerList, *vmcpac.VirtualMCPServerApplyConfiguration]

// MCPBackends reads the MCPBackends of one namespace.
type MCPBackends = gentype.ClientWithList[*v1alpha1.MCPBackend, *v1alpha1.MCPBackendList]

// MCPExternalAuthConfigs reads the MCPExternalAuthConfigs of one namespace.
type MCPExternalAuthConfigs = gentype.ClientWithList[*v1alpha1.MCPExternalAuthConfig, *v1alpha1.MCPExternalAuthConfigList]

// Clients are the clients of a runtime, each bound to the runtime's namespace.
type Clients struct {
	VirtualMCPServers      *VirtualMCPServers
	MCPBackends            *MCPBackends
	MCPExternalAuthConfigs *MCPExternalAuthConfigs
	Leases                 coordinationclient.LeaseInterface
	ConfigMaps             coreclient.ConfigMapInterface
	Secrets                coreclient.SecretInterface
	Services               coreclient.ServiceInterface
	MCPServers             *MCPServers
	Events                 eventsclient.EventInterface

	connections *connrotation.ConnectionTracker
}

// Reconnect closes all connections to the API server, so that what is asked next takes a new one. A connection whose other end is
// gone without a word would else be used until HTTP/2's own check of it fails, up to 45 s later.
func (c *Clients) Reconnect() { c.connections.CloseAll() }

// A dial is given up after dialTimeout: whoever waits for it may have better luck with the next.
const (
	dialTimeout = 5 * time.Second
	keepAlive   = 30 * time.Second
)

// UserAgent is what the API server's audit log shows for the runtime of a VirtualMCPServer.
func UserAgent(virtualMCPServer string) string { return "vmcp-runtime/" + virtualMCPServer }

// New makes the clients of the runtime that serves the named VirtualMCPServer. It sends nothing.
func New(config *rest.Config, namespace, virtualMCPServer string) (*Clients, error) {
	config = rest.CopyConfig(config)
	config.UserAgent = UserAgent(virtualMCPServer)
	dial := config.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}).DialContext
	}
	connections := connrotation.NewConnectionTracker()
	config.Dial = connrotation.NewDialerWithTracker(dial, connections).DialContext
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("making the HTTP client of the API server: %w", err)
	}
	vmcp, err := newVMCPClient(config, httpClient)
	if err != nil {
		return nil, err
	}
	coordination, err := coordinationclient.NewForConfigAndClient(config, httpClient)
	if err != nil {
		return nil, fmt.Errorf("making the client of Leases: %w", err)
	}
	core, err := coreclient.NewForConfigAndClient(config, httpClient)
	if err != nil {
		return nil, fmt.Errorf("making the client of ConfigMaps, Secrets and Services: %w", err)
	}
	events, err := eventsclient.NewForConfigAndClient(config, httpClient)
	if err != nil {
		return nil, fmt.Errorf("making the client of Events: %w", err)
	}
	mcpServers, err := newMCPServers(config, httpClient, namespace)
	if err != nil {
		return nil, err
	}
	scheme, err := vmcpScheme()
	if err != nil {
		return nil, err
	}
	params := runtime.NewParameterCodec(scheme)
	return &Clients{
		VirtualMCPServers: gentype.NewClientWithListAndApply[*v1alpha1.VirtualMCPServer, *v1alpha1.VirtualMCPServerList, *vmcpac.VirtualMCPServerApplyConfiguration](
			"virtualmcpservers", vmcp, params, namespace,
			func() *v1alpha1.VirtualMCPServer { return &v1alpha1.VirtualMCPServer{} },
			func() *v1alpha1.VirtualMCPServerList { return &v1alpha1.VirtualMCPServerList{} },
		),
		MCPBackends: gentype.NewClientWithList[*v1alpha1.MCPBackend, *v1alpha1.MCPBackendList](
			"mcpbackends", vmcp, params, namespace,
			func() *v1alpha1.MCPBackend { return &v1alpha1.MCPBackend{} },
			func() *v1alpha1.MCPBackendList { return &v1alpha1.MCPBackendList{} },
		),
		MCPExternalAuthConfigs: gentype.NewClientWithList[*v1alpha1.MCPExternalAuthConfig, *v1alpha1.MCPExternalAuthConfigList](
			"mcpexternalauthconfigs", vmcp, params, namespace,
			func() *v1alpha1.MCPExternalAuthConfig { return &v1alpha1.MCPExternalAuthConfig{} },
			func() *v1alpha1.MCPExternalAuthConfigList { return &v1alpha1.MCPExternalAuthConfigList{} },
		),
		MCPServers: mcpServers,
		Secrets:    core.Secrets(namespace),
		Services:   core.Services(namespace),
		Leases:     coordination.Leases(namespace),
		ConfigMaps: core.ConfigMaps(namespace),
		Events:     events.Events(namespace),

		connections: connections,
	}, nil
}

func newVMCPClient(config *rest.Config, httpClient *http.Client) (rest.Interface, error) {
	scheme, err := vmcpScheme()
	if err != nil {
		return nil, err
	}
	config = rest.CopyConfig(config)
	config.APIPath = "/apis"
	config.GroupVersion = &v1alpha1.GroupVersion
	config.NegotiatedSerializer = rest.CodecFactoryForGeneratedClient(scheme, serializer.NewCodecFactory(scheme)).WithoutConversion()
	client, err := rest.RESTClientForConfigAndClient(config, httpClient)
	if err != nil {
		return nil, fmt.Errorf("making the client of %s: %w", v1alpha1.GroupVersion, err)
	}
	return client, nil
}

func vmcpScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("registering %s: %w", v1alpha1.GroupVersion, err)
	}
	return scheme, nil
}
