// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"path/filepath"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/test/podless"
)

const (
	scraperAccount = "scale-scraper"
	metricsReader  = "vmcp-operator-metrics-reader"
)

// install applies config/default but for the operator's Deployment, which it returns, and what may scrape the operator.
func install(ctx context.Context, c client.Client) (*appsv1.Deployment, error) {
	deployment, err := podless.Install(ctx, c, "vmcp-scale")
	if err != nil {
		return nil, err
	}
	err = create(ctx, c, []client.Object{
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: podless.OperatorNamespace, Name: scraperAccount}},
		&rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: scraperAccount},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: metricsReader},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: podless.OperatorNamespace, Name: scraperAccount}},
		},
	})
	return deployment, err
}

// launcher starts operators that are all the same.
type launcher struct {
	program, folder, kubeconfig, scraperToken string
	deployment                                *appsv1.Deployment
}

func newLauncher(ctx context.Context, c client.Client, config *rest.Config, deployment *appsv1.Deployment, program, folder string) (*launcher, error) {
	l := &launcher{program: program, folder: folder, kubeconfig: filepath.Join(folder, "operator.kubeconfig"), deployment: deployment}
	if err := podless.WriteKubeconfig(ctx, c, config, podless.OperatorNamespace, podless.OperatorAccount, l.kubeconfig); err != nil {
		return nil, err
	}
	var err error
	l.scraperToken, err = podless.Token(ctx, c, podless.OperatorNamespace, scraperAccount)
	return l, err
}

// launch starts an operator with the arguments and variables of its Deployment, on addresses of its own.
func (l *launcher) launch() (*operator, error) {
	args, environment := podless.Container(l.deployment)
	environment = append(environment, "KUBECONFIG="+l.kubeconfig, "POD_NAMESPACE="+podless.OperatorNamespace, "PATH="+os.Getenv("PATH"))
	var metrics, probes, profiles string
	for _, address := range []*string{&metrics, &probes, &profiles} {
		var err error
		if *address, err = freeAddress(); err != nil {
			return nil, err
		}
	}
	args = append(args, "--metrics-bind-address="+metrics, "--health-probe-bind-address="+probes, "--pprof-bind-address="+profiles)
	p, err := start(filepath.Join(l.folder, "operator.log"), environment, l.program, args...)
	if err != nil {
		return nil, err
	}
	return &operator{process: p, metrics: metrics, profiles: profiles, token: l.scraperToken}, nil
}
