//go:build e2e_olm

// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package olm

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/test/harness"
)

// gatewayPods selects the pods of all gateways, filesPods those of the stdio server behind them.
const (
	gatewayPods = "--selector=" + v1alpha1.VirtualMCPServerLabel
	filesPods   = "--selector=" + v1alpha1.BackendLabel + "=files"
)

// sampleInterval is how often the pods of the gateways are looked at.
const sampleInterval = 250 * time.Millisecond

// podsOf follows the pods of the gateways in a namespace until the test ends.
func podsOf(t *testing.T, namespace string) *harness.History[corev1.PodList] {
	t.Helper()
	query := url.Values{"labelSelector": {v1alpha1.VirtualMCPServerLabel}}
	pods, err := harness.Sample[corev1.PodList](t.Context(), kubectl, "/api/v1/namespaces/"+namespace+"/pods?"+query.Encode(), sampleInterval)
	if err != nil {
		t.Fatal(err)
	}
	return pods
}

// gate is the condition without which pods that name it are not ready.
const gate = "vmcp.dev/e2e-olm"

// openGates lets pods of a namespace be ready whose version may, until the test ends.
func openGates(t *testing.T, namespace string, may func(version string) bool) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var opening sync.WaitGroup
	t.Cleanup(func() { cancel(); opening.Wait() })
	opening.Go(func() {
		tick := time.NewTicker(sampleInterval)
		defer tick.Stop()
		opened := map[string]bool{}
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			pods, err := getRuntimePods(ctx, namespace)
			if err != nil {
				continue // the test waits for what comes of it
			}
			for version, names := range pods {
				for _, name := range names {
					if !opened[name] && may(version) {
						_, err := kubectl.Run(ctx, "--namespace", namespace, "patch", "pod", name, "--subresource=status",
							"--patch", `{"status": {"conditions": [{"type": "`+gate+`", "status": "True"}]}}`)
						opened[name] = err == nil
					}
				}
			}
		}
	})
}

// period is the time during which pods of one version were there.
type period struct {
	version  string
	from, to time.Time // first and last seen
	pods     []string
}

// periods are those of the versions, in the order of their first pods.
func periods(states []harness.State[corev1.PodList]) []period {
	seen := map[string]*period{}
	for _, s := range states {
		for version, pods := range byVersion(s.Object) {
			p := seen[version]
			if p == nil {
				p = &period{version: version, from: s.At}
				seen[version] = p
			}
			p.to = s.At
			for _, pod := range pods {
				if !slices.Contains(p.pods, pod) {
					p.pods = append(p.pods, pod)
				}
			}
		}
	}
	list := make([]period, 0, len(seen))
	for _, p := range seen {
		list = append(list, *p)
	}
	slices.SortFunc(list, func(a, b period) int { return a.from.Compare(b.from) })
	return list
}

// byVersion are the names of pods by the version of their runtime, which is the tag of its image. A pod that was told to end has been
// replaced, and is not among them: it may take half a minute to let its last requests finish.
func byVersion(list *corev1.PodList) map[string][]string {
	pods := map[string][]string{}
	for i := range list.Items {
		pod := &list.Items[i]
		if pod.DeletionTimestamp != nil {
			continue
		}
		for _, container := range pod.Spec.Containers {
			if _, tag, ok := strings.Cut(container.Image, "/vmcp-runtime:v"); ok {
				pods[tag] = append(pods[tag], pod.Name)
			}
		}
	}
	return pods
}

// oneAtATime fails the test if pods of more than two versions were there at once, or of two that do not follow one another.
func oneAtATime(t *testing.T, states []harness.State[corev1.PodList]) {
	t.Helper()
	for _, s := range states {
		versions := slices.Sorted(maps.Keys(byVersion(s.Object)))
		switch {
		case len(versions) < 2:
		case len(versions) == 2 && slices.Index(setting.Versions, versions[1])-slices.Index(setting.Versions, versions[0]) == 1:
		default:
			t.Errorf("at %s there were pods of %v", s.At.Format(time.TimeOnly), versions)
			return
		}
	}
}

// awaitRuntime waits until all pods of the gateways in a namespace are of one version.
func awaitRuntime(t *testing.T, namespace, version string) {
	t.Helper()
	eventually(t, installLimit, "waiting for every pod of the gateways to be of "+version, func(ctx context.Context) error {
		pods, err := getRuntimePods(ctx, namespace)
		if err == nil && (len(pods) != 1 || len(pods[version]) == 0) {
			err = fmt.Errorf("the pods are %v", pods)
		}
		return err
	})
}

func runtimePods(t *testing.T, namespace string) map[string][]string {
	t.Helper()
	pods, err := getRuntimePods(t.Context(), namespace)
	if err != nil {
		t.Fatal(err)
	}
	return pods
}

// getRuntimePods are the pods of the gateways in a namespace, by version.
func getRuntimePods(ctx context.Context, namespace string) (map[string][]string, error) {
	list := &corev1.PodList{}
	if err := kubectl.GetJSON(ctx, list, "--namespace", namespace, "pods", gatewayPods); err != nil {
		return nil, err
	}
	return byVersion(list), nil
}
