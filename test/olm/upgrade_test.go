//go:build e2e_olm

// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package olm

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/test/harness"
)

// gated keeps a gateway's pods from being ready until openGates lets them, so that OLM, given the chance, would start the second upgrade
// before the gateways are through with the first.
const gated = `{"spec": {"patches": [{"target": {"kind": "Deployment"}, "patch":
	"[{\"op\": \"add\", \"path\": \"/spec/template/spec/readinessGates\", \"value\": [{\"conditionType\": \"` + gate + `\"}]}]"}]}}`

// TestUpgrade installs the oldest version from a catalog, offers two newer ones at once, and removes the operator, while clients of both
// eras call each gateway all the time.
func TestUpgrade(t *testing.T) {
	const namespace, team = "vmcp-upgrade", "vmcp-upgrade-team"
	first, last := setting.Versions[0], setting.Versions[len(setting.Versions)-1]
	makeNamespaces(t, namespace, team)
	operator := install(t, namespace, first)
	apply(t, gatewayManifests(team))
	must(t, "--namespace", team, "patch", "virtualmcpserver", "team", "--type=merge", "--patch", gated)
	var held atomic.Bool // OLM holds back the second upgrade
	openGates(t, team, func(version string) bool { return version != setting.Versions[1] || held.Load() })
	awaitGateways(t, team)
	awaitRuntime(t, team, first)

	pods := podsOf(t, team)
	upgrade, err := harness.Watch[clusterServiceVersion](t.Context(), kubectl, namespace, "clusterserviceversions", csvName(last))
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var clients []*traffic
	for _, c := range []struct {
		gateway, revision string
		tool              calledTool
	}{
		{"team", legacy, filesTool},
		{"team", modern, everythingTool},
		{"plain", legacy, everythingTool},
		{"plain", modern, filesTool},
	} {
		clients = append(clients, startTraffic(t, endpoint(t, team, c.gateway), c.gateway, c.revision, c.tool))
	}
	operator.offer(t, last)
	operator.awaitOLM(t, "to hold back "+csvName(last), func(context.Context) error {
		states := upgrade.Since(began)
		held.Store(slices.ContainsFunc(states, func(s harness.State[clusterServiceVersion]) bool {
			return s.Object.Status.Reason == reasonNotUpgradeable
		}))
		if !held.Load() {
			return fmt.Errorf("it has had %d states", len(states))
		}
		return nil
	})
	operator.awaitVersion(t, last)
	awaitRuntime(t, team, last)
	awaitGateways(t, team)

	states := pods.Since(began)
	if err := pods.Err(); err != nil {
		t.Fatal("following the pods:", err)
	}
	t.Run("both rolls happened while clients called", func(t *testing.T) {
		rolled(t, periods(states), clients)
	})
	t.Run("the second upgrade waited for the first to be rolled out", func(t *testing.T) {
		oneAtATime(t, states)
		waited(t, upgrade.Since(began), periods(states))
	})
	t.Run("uninstalling keeps what was declared, and gateways serve", func(t *testing.T) {
		declared := func() []string {
			return strings.Fields(must(t, "--namespace", team, "get", "virtualmcpservers,mcpgroups,mcpbackends", "--output=name"))
		}
		before := declared()
		operator.remove(t)
		after := declared()
		t.Logf("left are %q", after)
		if len(before) == 0 || !slices.Equal(after, before) {
			t.Errorf("declared were %q, and left are %q", before, after)
		}
		for _, client := range clients {
			since := time.Now()
			eventually(t, startLimit, "waiting for calls to be answered without the operator", func(context.Context) error {
				if n := client.between(since, time.Now()); n < 100 {
					return fmt.Errorf("%d calls of %s in %s at %s were answered", n, client.tool.name, client.revision, client.gateway)
				}
				return nil
			})
		}
	})
	t.Run("installing again replaces no pod", func(t *testing.T) {
		before := runtimePods(t, team)
		operator.subscribe(t)
		operator.awaitVersion(t, last)
		awaitGateways(t, team)
		if after := runtimePods(t, team); !maps.EqualFunc(after, before, slices.Equal) {
			t.Errorf("there were %v and are %v", before, after)
		}
	})
	for _, client := range clients {
		client.stop()
		client.check(t)
	}
	t.Logf("%s in all", time.Since(began).Round(time.Second))
}

// rolled fails the test unless pods of every version followed one another, each of them while calls were answered: two of the one gateway, one of
// the other, and one of the stdio server, with the bridge of that version.
func rolled(t *testing.T, periods []period, clients []*traffic) {
	t.Helper()
	var versions []string
	for _, p := range periods {
		versions = append(versions, p.version)
		var calls []int
		for _, client := range clients {
			calls = append(calls, client.between(p.from, p.to))
		}
		t.Logf("v%s ran from %s to %s in %v; of each client's calls %d were answered in that time",
			p.version, p.from.Format(time.TimeOnly), p.to.Format(time.TimeOnly), p.pods, calls)
		bridged := slices.ContainsFunc(p.pods, func(pod string) bool { return strings.HasPrefix(pod, v1alpha1.WorkloadName("files")+"-") })
		if slices.Contains(calls, 0) || len(p.pods) < 4 || !bridged {
			t.Errorf("v%s: pods %v, calls %d", p.version, p.pods, calls)
		}
	}
	if !slices.Equal(versions, setting.Versions) {
		t.Errorf("pods of %v ran, want %v", versions, setting.Versions)
	}
}

// waited fails the test unless OLM was told to wait before it installed the last version, and went on when no pod of the first was left.
func waited(t *testing.T, states []harness.State[clusterServiceVersion], periods []period) {
	t.Helper()
	var told, went time.Time
	for _, s := range states {
		status := s.Object.Status
		switch {
		case told.IsZero() && status.Reason == reasonNotUpgradeable:
			told = s.At
			t.Logf("at %s OLM held the upgrade back: %s", s.At.Format(time.TimeOnly), status.Message)
		case went.IsZero() && (status.Phase == phaseInstallReady || status.Phase == phaseInstalling):
			went = s.At
			t.Logf("at %s OLM went on", s.At.Format(time.TimeOnly))
		}
	}
	if told.IsZero() || went.IsZero() {
		t.Errorf("OLM was told to wait at %s, and installed at %s", told, went)
	}
	if oldest := periods[0]; went.Before(oldest.to) {
		t.Errorf("OLM went on at %s, when pods of v%s were there until %s", went.Format(time.TimeOnly), oldest.version, oldest.to.Format(time.TimeOnly))
	}
}
