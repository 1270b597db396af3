//go:build e2e_olm

// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package olm

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// clusterServiceVersion is the part of OLM's type of that name that matters here. The type itself drags in a logger.
type clusterServiceVersion struct {
	metav1.ObjectMeta `json:"metadata"`
	Status            struct {
		Phase, Reason, Message string
	} `json:"status"`
}

const (
	phaseSucceeded    = "Succeeded"
	phaseInstallReady = "InstallReady"
	phaseInstalling   = "Installing"
	// reasonNotUpgradeable is why OLM holds an upgrade back: the operator that is to be replaced asks for it.
	reasonNotUpgradeable = "OperatorConditionNotUpgradeable"
	// copiedFromLabel is on what OLM shows of an operator in the namespaces that it serves.
	copiedFromLabel = "olm.copiedFrom"
)

// installation is the operator in one namespace, as OLM keeps it.
type installation struct {
	namespace string
	// source is the name of its CatalogSource. OLM remembers for half an hour what a catalog of that name had in that namespace, even if
	// it is deleted meanwhile, and resolves from that until it has connected to the new one: each run has names of its own.
	source string
}

func newInstallation(namespace string) installation {
	return installation{namespace, "catalog-" + strconv.FormatInt(time.Now().Unix(), 36)}
}

// install subscribes to a catalog that ends with a version, for some target namespaces (none means all), and waits until that
// version is installed.
func install(t *testing.T, namespace, version string, targets ...string) installation {
	t.Helper()
	i := newInstallation(namespace)
	i.offer(t, version)
	i.subscribe(t, targets...)
	i.awaitVersion(t, version)
	return i
}

// subscribe asks OLM to install what the catalog has, for some target namespaces; none means all.
func (i installation) subscribe(t *testing.T, targets ...string) {
	t.Helper()
	group := "spec: {}"
	if len(targets) > 0 {
		group = "spec: {targetNamespaces: [" + strings.Join(targets, ", ") + "]}"
	}
	apply(t, strings.NewReplacer("NAMESPACE", i.namespace, "SPEC", group, "CHANNEL", channel, "PACKAGE", packageName, "SOURCE", i.source).Replace(`
apiVersion: operators.coreos.com/v1
kind: OperatorGroup
metadata: {name: group, namespace: NAMESPACE}
SPEC
---
apiVersion: operators.coreos.com/v1alpha1
kind: Subscription
metadata: {name: PACKAGE, namespace: NAMESPACE}
spec: {channel: CHANNEL, name: PACKAGE, source: SOURCE, sourceNamespace: NAMESPACE}
`))
}

// offer makes a catalog of all versions up to one, or gives it more than it had, and waits for nothing.
func (i installation) offer(t *testing.T, version string) {
	t.Helper()
	i.catalog(t, catalogImage(version))
}

// catalog makes a CatalogSource of an image, or gives it another. OLM's own opm serves what the image holds: it has nothing else.
func (i installation) catalog(t *testing.T, image string) {
	t.Helper()
	apply(t, fmt.Sprintf(`
apiVersion: operators.coreos.com/v1alpha1
kind: CatalogSource
metadata: {name: %s, namespace: %s}
spec:
  sourceType: grpc
  image: %s
  grpcPodConfig: {securityContextConfig: restricted, extractContent: {catalogDir: /configs}}
`, i.source, i.namespace, image))
}

// nudgeInterval is how long OLM gets to do by itself what a test waits for, before the test nudges it.
const nudgeInterval = 20 * time.Second

// awaitOLM waits until OLM has done something in the namespace of the operator, and touches the Subscriptions there meanwhile.
//
// While OLM replaces one version by another, there is a time when its resolver finds the old ClusterServiceVersion "exists and is not
// referenced by a subscription". It fails a dozen times within seconds, each time its limiter doubles the time to the next attempt, up to
// minutes, and when the cause is gone only that time, or an event of a Subscription or OperatorGroup, makes it resolve again. Users see
// that an upgrade goes on by itself after minutes; on a slow machine that is more than installLimit.
func (i installation) awaitOLM(t *testing.T, what string, condition func(context.Context) error) {
	t.Helper()
	nudges, began := 0, time.Now()
	last := began
	eventually(t, installLimit, "waiting for OLM "+what+" in "+i.namespace, func(ctx context.Context) error {
		err := condition(ctx)
		if err == nil {
			return nil
		}
		if time.Since(last) >= nudgeInterval {
			last = time.Now()
			if _, failed := kubectl.Run(ctx, "--namespace", i.namespace, "annotate", "subscriptions.operators.coreos.com", "--all", "--overwrite",
				testLabel+"-nudge="+last.UTC().Format(time.RFC3339)); failed != nil {
				return fmt.Errorf("%w; nudged %d times, and then: %w", err, nudges, failed)
			}
			nudges++
		}
		return fmt.Errorf("%w; nudged %d times", err, nudges)
	})
	t.Logf("waiting for OLM %s in %s took %s, and it was nudged %d times", what, i.namespace, time.Since(began).Round(time.Second), nudges)
}

// awaitVersion waits until a version is installed and the one before it is gone.
func (i installation) awaitVersion(t *testing.T, version string) {
	t.Helper()
	i.awaitOLM(t, "to install "+csvName(version), func(ctx context.Context) error {
		versions, err := i.versions(ctx)
		if err != nil {
			return err
		}
		if len(versions) != 1 || versions[0].Name != csvName(version) || versions[0].Status.Phase != phaseSucceeded {
			return fmt.Errorf("there are %s", describe(versions))
		}
		return nil
	})
}

// versions are the ClusterServiceVersions that OLM has made here, those that it copies here from elsewhere aside.
func (i installation) versions(ctx context.Context) ([]clusterServiceVersion, error) {
	var list struct {
		Items []clusterServiceVersion `json:"items"`
	}
	if err := kubectl.GetJSON(ctx, &list, "--namespace", i.namespace, "clusterserviceversions"); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list.Items, func(csv clusterServiceVersion) bool {
		_, copied := csv.Labels[copiedFromLabel]
		return copied || !strings.HasPrefix(csv.Name, packageName+".")
	}), nil
}

func describe(versions []clusterServiceVersion) string {
	if len(versions) == 0 {
		return "no versions"
	}
	var parts []string
	for _, csv := range versions {
		parts = append(parts, fmt.Sprintf("%s: %s (%s: %s)", csv.Name, csv.Status.Phase, csv.Status.Reason, csv.Status.Message))
	}
	return strings.Join(parts, "; ")
}

// remove uninstalls the operator as OLM's documentation has it, and waits until nothing of it runs.
func (i installation) remove(t *testing.T) {
	t.Helper()
	must(t, "--namespace", i.namespace, "delete", "subscription", packageName)
	must(t, "--namespace", i.namespace, "delete", "clusterserviceversions", "--all", "--timeout="+startLimit.String())
	eventually(t, startLimit, "waiting for the operator to be gone", func(ctx context.Context) error {
		left, err := kubectl.Run(ctx, "--namespace", i.namespace, "get", "deployments,pods,serviceaccounts,roles,rolebindings",
			"--selector=olm.owner", "--output=name")
		if err != nil {
			return err
		}
		if left != "" {
			return fmt.Errorf("left are %s", strings.Fields(left))
		}
		return nil
	})
}
