// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package kube asks the API server the few questions that starting a cluster
// raises. It is not client-go, to keep this program small and quick to build.
package kube

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// Client reads from one API server as an administrator.
type Client struct {
	server string
	http   *http.Client
}

// New returns a client with the certificates of a directory made by package pki.
func New(server, pkiDir string) (*Client, error) {
	ca, err := os.ReadFile(filepath.Join(pkiDir, "ca.crt"))
	if err != nil {
		return nil, fmt.Errorf("API client: %w", err)
	}
	// The administrator's is in the kubeconfig only; this one has the same group.
	base := filepath.Join(pkiDir, "apiserver-kubelet-client")
	cert, err := tls.LoadX509KeyPair(base+".crt", base+".key")
	if err != nil {
		return nil, fmt.Errorf("API client: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	return &Client{server: server, http: &http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}}},
	}}, nil
}

// get returns the body of a 200 answer.
func (c *Client) get(ctx context.Context, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.server+path, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("User-Agent", "vmcp-cluster")
	response, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s: %.200s", path, response.Status, body)
	}
	return body, nil
}

// Ready returns nil when the API server says that it is ready.
func (c *Client) Ready(ctx context.Context) error {
	_, err := c.get(ctx, "/readyz")
	return err
}

// DefaultServiceAccount returns nil when pods can be created in namespace
// default: the controller manager has started and made its ServiceAccount.
func (c *Client) DefaultServiceAccount(ctx context.Context) error {
	_, err := c.get(ctx, "/api/v1/namespaces/default/serviceaccounts/default")
	return err
}

// status is the part of a Node's and a Deployment's status that says how it is.
type status struct {
	Status struct {
		Conditions []struct{ Type, Status, Reason, Message string }
	}
}

// NodeReady returns nil when the node is Ready, else why not.
func (c *Client) NodeReady(ctx context.Context, name string) error {
	return c.condition(ctx, "/api/v1/nodes/"+name, "Ready")
}

// DeploymentAvailable returns nil when the Deployment is Available, else why not.
func (c *Client) DeploymentAvailable(ctx context.Context, namespace, name string) error {
	return c.condition(ctx, "/apis/apps/v1/namespaces/"+namespace+"/deployments/"+name, "Available")
}

// CSVSucceeded returns nil when OLM has installed the ClusterServiceVersion, else how far it is.
func (c *Client) CSVSucceeded(ctx context.Context, namespace, name string) error {
	body, err := c.get(ctx, "/apis/operators.coreos.com/v1alpha1/namespaces/"+namespace+"/clusterserviceversions/"+name)
	if err != nil {
		return err
	}
	return csvSucceeded(body)
}

func csvSucceeded(body []byte) error {
	var csv struct {
		Status struct{ Phase, Reason, Message string }
	}
	if err := json.Unmarshal(body, &csv); err != nil {
		return fmt.Errorf("read phase: %w", err)
	}
	if csv.Status.Phase == "Succeeded" {
		return nil
	}
	return fmt.Errorf("phase is %q: %s: %s", csv.Status.Phase, csv.Status.Reason, csv.Status.Message)
}

func (c *Client) condition(ctx context.Context, path, kind string) error {
	body, err := c.get(ctx, path)
	if err != nil {
		return err
	}
	return conditionTrue(body, kind)
}

func conditionTrue(body []byte, kind string) error {
	var s status
	if err := json.Unmarshal(body, &s); err != nil {
		return fmt.Errorf("read conditions: %w", err)
	}
	for _, condition := range s.Status.Conditions {
		if condition.Type != kind {
			continue
		}
		if condition.Status == "True" {
			return nil
		}
		return fmt.Errorf("condition %s is %s: %s: %s", kind, condition.Status, condition.Reason, condition.Message)
	}
	return fmt.Errorf("no condition %s yet", kind)
}
