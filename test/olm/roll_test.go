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

// operandPods selects the pods that the operator provisions: those of all gateways, and those of the servers behind them.
const operandPods = v1alpha1.ManagedByLabel + "=" + v1alpha1.ManagedByValue

// sampleInterval is how often the pods are looked at.
const sampleInterval = 250 * time.Millisecond

// podsOf follows the pods of the gateways and servers in a namespace until the test ends.
func podsOf(t *testing.T, namespace string) *harness.History[corev1.PodList] {
	t.Helper()
	query := url.Values{"labelSelector": {operandPods}}
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
			pods, err := getRuntimePods(ctx, namespace, v1alpha1.VirtualMCPServerLabel)
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

// byVersion are the names of pods by the version of their runtime, which is the tag of its image: the pods of gateways run it, those of a stdio
// server have the bridge from it. Others have none, and are not among them. A pod that was told to end has been
// replaced, and is not among them: it may take half a minute to let its last requests finish.
func byVersion(list *corev1.PodList) map[string][]string {
	pods := map[string][]string{}
	for i := range list.Items {
		pod := &list.Items[i]
		if pod.DeletionTimestamp != nil {
			continue
		}
		for _, container := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
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

// awaitRuntime waits until all pods of the gateways and stdio servers in a namespace are of one version.
func awaitRuntime(t *testing.T, namespace, version string) {
	t.Helper()
	eventually(t, installLimit, "waiting for every pod with a runtime to be of "+version, func(ctx context.Context) error {
		pods, err := getRuntimePods(ctx, namespace, operandPods)
		if err == nil && (len(pods) != 1 || len(pods[version]) == 0) {
			err = fmt.Errorf("the pods are %v", pods)
		}
		return err
	})
}

func runtimePods(t *testing.T, namespace string) map[string][]string {
	t.Helper()
	pods, err := getRuntimePods(t.Context(), namespace, operandPods)
	if err != nil {
		t.Fatal(err)
	}
	return pods
}

// getRuntimePods are the pods of a namespace that a selector of labels selects, by version.
func getRuntimePods(ctx context.Context, namespace, selector string) (map[string][]string, error) {
	list := &corev1.PodList{}
	if err := kubectl.GetJSON(ctx, list, "--namespace", namespace, "pods", "--selector="+selector); err != nil {
		return nil, err
	}
	return byVersion(list), nil
}
