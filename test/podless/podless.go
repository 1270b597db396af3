// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package podless installs the operator in a cluster that has no kubelets: what pods would run are processes beside the control
// plane, and this package gives them what a pod would have, the rights of its ServiceAccount above all.
package podless

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// Names of config/default.
const (
	OperatorNamespace = "vmcp-system"
	OperatorAccount   = "vmcp-operator"
)

const (
	// servedTimeout is how long the API server may take to serve the kinds whose definitions were applied.
	servedTimeout = 30 * time.Second
	// tokenLifetime is more than any measurement takes.
	tokenLifetime = 6 * time.Hour
)

// Install applies config/default, found from the working folder, under a field manager, but for the operator's Deployment, which it
// returns: see Container.
func Install(ctx context.Context, c client.Client, manager string) (*appsv1.Deployment, error) {
	inOrder := krusty.MakeDefaultOptions()
	inOrder.Reorder = krusty.ReorderOptionLegacy // the namespace before what is in it
	rendered, err := krusty.MakeKustomizer(inOrder).Run(filesys.MakeFsOnDisk(), filepath.Join("config", "default"))
	if err != nil {
		return nil, fmt.Errorf("rendering config/default: %w", err)
	}
	var deployment *appsv1.Deployment
	for _, resource := range rendered.Resources() {
		content, err := resource.Map()
		if err != nil {
			return nil, fmt.Errorf("rendering config/default: %w", err)
		}
		o := &unstructured.Unstructured{Object: content}
		if o.GetKind() == "Deployment" {
			deployment = &appsv1.Deployment{}
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(content, deployment); err != nil {
				return nil, fmt.Errorf("reading the operator's Deployment: %w", err)
			}
			continue
		}
		if err := c.Apply(ctx, client.ApplyConfigurationFromUnstructured(o), client.FieldOwner(manager), client.ForceOwnership); err != nil {
			return nil, fmt.Errorf("applying %s %s: %w", o.GetKind(), o.GetName(), err)
		}
	}
	if deployment == nil {
		return nil, errors.New("config/default has no Deployment")
	}
	// The kinds are served a moment after their definitions are there.
	err = wait.PollUntilContextTimeout(ctx, time.Second, servedTimeout, true, func(ctx context.Context) (bool, error) {
		return c.List(ctx, &v1alpha1.VirtualMCPServerList{}) == nil, nil
	})
	if err != nil {
		return nil, fmt.Errorf("waiting for the CRDs: %w", err)
	}
	return deployment, nil
}

// Container returns the arguments and the variables of the only container of a Deployment that do not come from the pod.
func Container(d *appsv1.Deployment) (args, environment []string) {
	container := d.Spec.Template.Spec.Containers[0]
	for _, v := range container.Env {
		if v.ValueFrom == nil {
			environment = append(environment, v.Name+"="+v.Value)
		}
	}
	return append([]string(nil), container.Args...), environment
}

// Token asks for one of a ServiceAccount.
func Token(ctx context.Context, c client.Client, namespace, account string) (string, error) {
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: new(int64(tokenLifetime / time.Second))}}
	o := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: account}}
	if err := c.SubResource("token").Create(ctx, o, request); err != nil {
		return "", fmt.Errorf("asking for a token of ServiceAccount %s: %w", account, err)
	}
	return request.Status.Token, nil
}

// WriteKubeconfig writes a kubeconfig with the token of a ServiceAccount, for the API server of an administrator's configuration whose
// files are loaded (rest.LoadTLSFiles).
func WriteKubeconfig(ctx context.Context, c client.Client, admin *rest.Config, namespace, account, path string) error {
	token, err := Token(ctx, c, namespace, account)
	if err != nil {
		return err
	}
	const name = "podless"
	err = clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{name: {Server: admin.Host, CertificateAuthorityData: admin.CAData}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{name: {Token: token}},
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: name}},
		CurrentContext: name,
	}, path)
	if err != nil {
		return fmt.Errorf("writing the kubeconfig of %s: %w", account, err)
	}
	return nil
}
