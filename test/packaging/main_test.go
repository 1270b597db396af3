// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package packaging_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// api reaches an API server that has our CRDs, and those of others that components name.
var api client.Client

func TestMain(m *testing.M) {
	code, err := withAPIServer(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(code)
}

func withAPIServer(run func() int) (code int, err error) {
	environment := &envtest.Environment{
		CRDDirectoryPaths:     []string{filepath.Join(root, "config", "crd", "bases"), filepath.Join("testdata", "crds")},
		ErrorIfCRDPathMissing: true,
	}
	config, err := environment.Start()
	if err != nil {
		return 0, fmt.Errorf("starting the API server (KUBEBUILDER_ASSETS must name the folder of kube-apiserver and etcd): %w", err)
	}
	defer func() {
		if stopped := environment.Stop(); err == nil && stopped != nil {
			err = fmt.Errorf("stopping the API server: %w", stopped)
		}
	}()
	if api, err = client.New(config, client.Options{}); err != nil {
		return 0, fmt.Errorf("building a client: %w", err)
	}
	return run(), nil
}
