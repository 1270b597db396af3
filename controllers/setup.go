// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
)

// Settings are what the controllers need to know beyond the cluster.
type Settings struct {
	// RuntimeImage is the image of the runtime.
	RuntimeImage string
	// ProxyEnv are the proxy variables that runtimes get, possibly none.
	ProxyEnv []corev1.EnvVar
	// Namespaces are those that the manager watches; none means all.
	Namespaces []string
	// MCPServersInterval is the time between two looks whether MCPServers of mcp.x-k8s.io are installed by now, MCPServersPatience the time
	// that reading them may take before somebody hears of it. Zero means a minute, and half of one.
	MCPServersInterval, MCPServersPatience time.Duration
	// OLM is nil where OLM did not install the operator: then nothing is told to it.
	OLM *OLMSettings
}

// Setup adds every controller of the operator to the manager.
func Setup(ctx context.Context, mgr ctrl.Manager, settings Settings) error {
	if err := SetupIndexes(ctx, mgr.GetFieldIndexer()); err != nil {
		return err
	}
	servers, backends := &examinations{}, &examinations{}
	for _, setup := range []struct {
		name  string
		start func(Client) error
	}{
		{VirtualMCPServerController, func(c Client) error {
			r := &VirtualMCPServerReconciler{
				Client: c, RuntimeImage: settings.RuntimeImage, ProxyEnv: settings.ProxyEnv, examined: servers,
				mcpServers: mcpServers{namespaces: settings.Namespaces, interval: settings.MCPServersInterval, patience: settings.MCPServersPatience},
			}
			return r.SetupWithManager(mgr)
		}},
		{MCPBackendController, func(c Client) error {
			return (&MCPBackendReconciler{Client: c, RuntimeImage: settings.RuntimeImage, examined: backends}).SetupWithManager(mgr)
		}},
		{MCPGroupController, func(c Client) error {
			return (&MCPGroupReconciler{Client: c}).SetupWithManager(mgr)
		}},
		{MCPExternalAuthConfigController, func(c Client) error {
			return (&MCPExternalAuthConfigReconciler{Client: c}).SetupWithManager(mgr)
		}},
		{SessionKeysController, func(c Client) error {
			return (&SessionKeysReconciler{Client: c}).SetupWithManager(mgr)
		}},
	} {
		c, err := NewClient(mgr, setup.name)
		if err != nil {
			return err
		}
		if err := setup.start(c); err != nil {
			return fmt.Errorf("setting up the controller %s: %w", setup.name, err)
		}
	}
	if settings.OLM == nil {
		return nil
	}
	if err := setupOperatorCondition(mgr, settings.OLM, servers, backends); err != nil {
		return fmt.Errorf("setting up the controller %s: %w", OperatorConditionController, err)
	}
	return nil
}
