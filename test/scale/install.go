// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

const (
	operatorNamespace = "vmcp-system"
	operatorAccount   = "vmcp-operator"
	scraperAccount    = "scale-scraper"
	metricsReader     = "vmcp-operator-metrics-reader"
)

// install applies config/default but for the operator's Deployment, which it returns: the operator runs as a process here, and has
// from the Deployment what a pod would have.
func install(ctx context.Context, c client.Client) (*appsv1.Deployment, error) {
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
		if err := c.Apply(ctx, client.ApplyConfigurationFromUnstructured(o), client.FieldOwner("vmcp-scale"), client.ForceOwnership); err != nil {
			return nil, fmt.Errorf("applying %s %s: %w", o.GetKind(), o.GetName(), err)
		}
	}
	if deployment == nil {
		return nil, errors.New("config/default has no Deployment")
	}
	// The kinds are served a moment after their definitions are there.
	err = poll(ctx, 30*time.Second, func(ctx context.Context) (bool, error) {
		return c.List(ctx, &v1alpha1.VirtualMCPServerList{}) == nil, nil
	})
	if err != nil {
		return nil, fmt.Errorf("waiting for the CRDs: %w", err)
	}
	err = create(ctx, c, []client.Object{
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: scraperAccount}},
		&rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: scraperAccount},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: metricsReader},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: operatorNamespace, Name: scraperAccount}},
		},
	})
	return deployment, err
}

// token asks for one of a ServiceAccount in the operator's namespace.
func token(ctx context.Context, c client.Client, account string) (string, error) {
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: new(int64(6 * 3600))}}
	o := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: account}}
	if err := c.SubResource("token").Create(ctx, o, request); err != nil {
		return "", fmt.Errorf("asking for a token of ServiceAccount %s: %w", account, err)
	}
	return request.Status.Token, nil
}

// writeKubeconfig writes one that holds a token.
func writeKubeconfig(path string, config *rest.Config, token string) error {
	const name = "scale"
	return clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{name: {Server: config.Host, CertificateAuthorityData: config.CAData}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{name: {Token: token}},
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: name}},
		CurrentContext: name,
	}, path)
}

// launcher starts operators that are all the same.
type launcher struct {
	program, folder, kubeconfig, scraperToken string
	deployment                                *appsv1.Deployment
}

func newLauncher(ctx context.Context, c client.Client, config *rest.Config, deployment *appsv1.Deployment, program, folder string) (*launcher, error) {
	l := &launcher{program: program, folder: folder, kubeconfig: filepath.Join(folder, "operator.kubeconfig"), deployment: deployment}
	operatorToken, err := token(ctx, c, operatorAccount)
	if err != nil {
		return nil, err
	}
	if l.scraperToken, err = token(ctx, c, scraperAccount); err != nil {
		return nil, err
	}
	if err := writeKubeconfig(l.kubeconfig, config, operatorToken); err != nil {
		return nil, fmt.Errorf("writing the operator's kubeconfig: %w", err)
	}
	return l, nil
}

// launch starts an operator with the arguments and variables of its Deployment, on addresses of its own.
func (l *launcher) launch() (*operator, error) {
	container := l.deployment.Spec.Template.Spec.Containers[0]
	environment := []string{"KUBECONFIG=" + l.kubeconfig, "POD_NAMESPACE=" + operatorNamespace, "PATH=" + os.Getenv("PATH")}
	for _, v := range container.Env {
		if v.ValueFrom == nil {
			environment = append(environment, v.Name+"="+v.Value)
		}
	}
	var metrics, probes, profiles string
	for _, address := range []*string{&metrics, &probes, &profiles} {
		var err error
		if *address, err = freeAddress(); err != nil {
			return nil, err
		}
	}
	args := append(container.Args, //nolint:gocritic // container is a copy.
		"--metrics-bind-address="+metrics, "--health-probe-bind-address="+probes, "--pprof-bind-address="+profiles)
	p, err := start(filepath.Join(l.folder, "operator.log"), environment, l.program, args...)
	if err != nil {
		return nil, err
	}
	return &operator{process: p, metrics: metrics, profiles: profiles, token: l.scraperToken}, nil
}
