// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// UserAgentPrefix begins the user agent of every client of the operator; what follows is the part of it that asks.
const UserAgentPrefix = "vmcp-operator/"

// Client is how one controller talks to the API server.
type Client struct {
	// Controller names the controller in the operator's metrics.
	Controller string
	// Client reads from the manager's shared cache and writes to the API server.
	client.Client
	// Live reads from the API server, for the few decisions that a cache cannot make.
	Live client.Reader
	// Events records events; nil records none.
	Events events.EventRecorder
}

// NewClient builds the client of the controller of that name. Each controller has its own user agent, so that the audit log of
// the API server says which of them asked for what; it is also the reporting controller of its events.
func NewClient(mgr ctrl.Manager, controller string) (Client, error) {
	config := rest.CopyConfig(mgr.GetConfig())
	config.UserAgent = UserAgentPrefix + controller
	options := client.Options{
		Scheme:     mgr.GetScheme(),
		Mapper:     mgr.GetRESTMapper(),
		FieldOwner: v1alpha1.OperatorFieldManager,
	}
	live, err := client.New(config, options)
	if err != nil {
		return Client{}, fmt.Errorf("building the client of %s: %w", controller, err)
	}
	options.Cache = &client.CacheOptions{Reader: mgr.GetCache()}
	cached, err := client.New(config, options)
	if err != nil {
		return Client{}, fmt.Errorf("building the cached client of %s: %w", controller, err)
	}
	return Client{Controller: controller, Client: cached, Live: live, Events: mgr.GetEventRecorder(config.UserAgent)}, nil
}
