// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/config"
	"github.com/vmcp-dev/vmcp-operator/runtime/kube"
	"github.com/vmcp-dev/vmcp-operator/runtime/telemetry"
)

// awaitStart is the configuration that the runtime of a pod begins with: that of the file, if the pod was rolled for its source, else the
// first such one of the ConfigMap behind it.
//
// During a switch of modes the ConfigMap is that of the new mode before the last pod of the old one is gone, and the kubelet brings it to
// the old pod's file, too. A container that is started again there has neither the rights nor the mounts for it, and the configuration
// that it had is nowhere any more. It holds still: it lives, so that the kubelet does not start it over and over; it is not ready, so that
// the Service leads elsewhere and the rollout replaces its pod first; it takes no Lease and reports nothing, so that neither backends without
// credentials nor a generation that no pod serves gets into the status. It goes on when the mode is switched back. The same
// helps a new pod whose file is behind.
func awaitStart(ctx context.Context, o ClusterOptions, clients *kube.Clients, metrics *telemetry.Metrics) (*configv1alpha1.RuntimeConfiguration, error) {
	initial, err := config.ReadFile(o.ConfigFile)
	if err != nil || o.Source == "" || config.SourceOf(initial) == o.Source {
		return initial, err
	}
	o.Logger.Warn("The configuration is for pods of another source of backends; this one waits, without serving, to be replaced or for its own",
		"source", config.SourceOf(initial), "ownSource", o.Source, "generation", initial.Generation)
	l, err := listen(ctx, o.AdminListen, "probes and metrics")
	if err != nil {
		return nil, err
	}
	admin := newServer(telemetry.Admin(metrics, func() bool { return false }), o.Logger)
	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := admin.Serve(l); err != nil {
			cancel(fmt.Errorf("serving probes and metrics: %w", err))
		}
	}()
	own := config.Await(ctx, initial, o.Source, clients.ConfigMaps, v1alpha1.OperandName(o.Name), o.Logger)
	if err := admin.Close(); err != nil && !errors.Is(err, http.ErrServerClosed) {
		o.Logger.Debug("Closing the listener for probes", "error", err)
	}
	<-ended
	defer cancel(nil)
	if own == nil {
		return nil, context.Cause(ctx)
	}
	return own, nil
}
