// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"net/http"

	"github.com/vmcp-dev/vmcp-operator/test/harness"
)

// findAPIServer finds the process of the API server, which bin/cluster started.
func (w *world) findAPIServer(context.Context) (err error) {
	w.api, err = harness.FindDaemon(w.cluster, "kube-apiserver")
	return err
}

// startAPIServer starts it again, and waits until it answers.
func (w *world) startAPIServer(ctx context.Context) error {
	if err := w.api.Start(); err != nil {
		return err
	}
	return w.await(ctx, func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, w.config.Host+"/readyz", http.NoBody)
		if err != nil {
			return err
		}
		response, err := w.admin.Do(request)
		if err != nil {
			return err
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return errors.New(response.Status)
		}
		return nil
	})
}
