// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	vmcpac "github.com/vmcp-dev/vmcp-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/auth"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/catalog"
	"github.com/vmcp-dev/vmcp-operator/runtime/discovery"
	"github.com/vmcp-dev/vmcp-operator/runtime/status"
)

// TestOneVerdict drives a control through random lists of backends, moods of servers, calls, configurations and hand-overs. After each
// of these what is reported, what is listed and what is routed agree, and after a while in which nothing happens they are true as well.
func TestOneVerdict(t *testing.T) {
	base := rand.Uint64()
	for i := range uint64(12) {
		seed := base + i
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { oneVerdict(t, seed, 40) })
	}
}

// TestAnotherGroupComesInOneStep: a backend of the next group takes the place of its namesake when all the others are known, too.
func TestAnotherGroupComesInOneStep(t *testing.T) {
	at := func(name, host string) backend.Target {
		return backend.Target{
			Key: backend.Key{Kind: v1alpha1.KindMCPBackend, Name: name}, URL: "http://" + host + "/mcp", Transport: v1alpha1.TransportStreamableHTTP,
		}
	}
	for name, next := range map[string][]discovery.Finding{
		"all of it": {{Complete: true, Targets: []backend.Target{at("a", "h3"), at("c", "h4")}}},
		"one is gone meanwhile": {
			{Complete: true, Targets: []backend.Target{at("a", "h3"), at("c", "h4")}},
			{Complete: true, Targets: []backend.Target{at("c", "h4")}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			inUniverse(t, 1, func(u *universe) {
				for _, host := range allHosts {
					u.alter(host, func(p *place) { p.tools = []string{"x"} })
				}
				u.alter("h4", func(p *place) { p.mood = hanging })
				u.find("team", discovery.Finding{Complete: true, Targets: []backend.Target{at("a", "h1"), at("b", "h2")}})
				time.Sleep(time.Minute) // virtual time
				u.expectAgreement()
				u.config.Group, u.config.Generation = "other", 2
				config := u.config
				u.find("other", next[0])
				u.configs <- &config
				for _, f := range next {
					u.find("other", f)
					u.expectAgreement()
					if want := []string{"a_x", "b_x"}; !slices.Equal(u.offered, want) {
						t.Errorf("%v is listed while another group is awaited, want %v", u.offered, want)
					}
					for _, tool := range u.offered {
						u.callTool(tool)
					}
					if last := u.last(); last.Generation != 1 || len(last.Backends) != 2 {
						t.Errorf("generation %d with %d backends is reported while another group is awaited", last.Generation, len(last.Backends))
					}
				}
				time.Sleep(settleDeadline)
				u.expectAgreement()
				if got := len(u.last().Backends); got != len(next[len(next)-1].Targets) {
					t.Errorf("%d backends are reported in the end", got)
				}
			})
		})
	}
}

// inUniverse runs a test with a control that runs in virtual time.
func inUniverse(t *testing.T, seed uint64, test func(u *universe)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		u := newUniverse(t, seed)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- u.control.run(ctx) }()
		defer func() {
			_ = u.control.gateway.Close(t.Context()) // it ends what is open
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}()
		test(u)
	})
}

func oneVerdict(t *testing.T, seed uint64, steps int) {
	t.Helper()
	inUniverse(t, seed, func(u *universe) {
		u.expectAgreement()
		for step := 0; step < steps && !u.t.Failed(); step++ {
			u.happen()
			u.expectAgreement()
			if step%10 == 9 {
				u.expectTruth()
			}
		}
		if u.t.Failed() {
			u.t.Logf("what happened:\n%s", strings.Join(u.log, "\n"))
		}
	})
}

// expectAgreement compares the status, the list and the routes of this moment.
func (u *universe) expectAgreement() {
	u.t.Helper()
	synctest.Wait()
	c := u.control
	u.offered = u.list()
	origin := map[string]catalog.Entry{}
	for _, tool := range c.catalog.Tools {
		origin[tool.Name] = tool
	}
	if len(origin) != len(u.offered) {
		u.t.Errorf("%d tools are listed, and %d are in the catalog", len(u.offered), len(origin))
	}
	for _, name := range u.offered {
		if _, routed := c.routes.Upstream(origin[name].Backend); !routed {
			u.t.Errorf("%s is in the list, and %s is not called", name, origin[name].Backend)
		}
	}
	u.callNothing()
	if report, there := u.reported(); there {
		u.expectReported(status.Build(report, status.Identity{Reporter: "test"}, &v1alpha1.VirtualMCPServerStatus{}, time.Now()), origin)
	}
	u.tell()
}

// tell orders what was looked at here before what the control does next. It looks at everything anew, and finds nothing.
func (u *universe) tell() {
	signal(u.control.changed)
	synctest.Wait()
}

// reported is what the status is made of: the last report, or, while a round holds reports back, the one that is held back. While
// another group is awaited the last one stays, as does what is served.
func (u *universe) reported() (status.Report, bool) {
	c := u.control
	switch waiting := len(c.leaving) > 0; {
	case c.round.complete && c.ready.Load():
		return u.last(), true
	case waiting:
		return status.Report{}, false
	default:
		return c.report(c.views()), true
	}
}

func (u *universe) expectReported(s *vmcpac.VirtualMCPServerStatusApplyConfiguration, origin map[string]catalog.Entry) {
	u.t.Helper()
	c := u.control
	if got := int(*s.Catalog.Tools); got != len(u.offered) {
		u.t.Errorf("%d tools are reported, and %d are listed", got, len(u.offered))
	}
	offers := map[backend.Key]int{}
	for _, tool := range origin {
		offers[tool.Backend]++
	}
	var ready, served int
	listed := map[backend.Key]bool{}
	for _, b := range s.DiscoveredBackends {
		key := backend.Key{Kind: *b.Kind, Name: *b.Name}
		listed[key] = true
		if *b.Status == v1alpha1.BackendReady {
			ready++
		}
		isServed := b.Status.Served()
		if isServed {
			served++
		}
		if _, routed := c.routes.Upstream(key); routed != isServed {
			u.t.Errorf("%s is reported as %s, and is called: %t", key, *b.Status, routed)
		}
		if missing := slices.Contains(c.catalog.Missing, key); missing == isServed {
			u.t.Errorf("%s is reported as %s, and is said to be missing: %t", key, *b.Status, missing)
		}
		switch {
		case isServed != (b.Tools != nil):
			u.t.Errorf("%s is reported as %s with the tools %v", key, *b.Status, b.Tools)
		case !isServed && offers[key] > 0:
			u.t.Errorf("%s is reported as %s, and %d of its tools are listed", key, *b.Status, offers[key])
		case isServed && offers[key] > int(*b.Tools), isServed && u.isPlain() && offers[key] != int(*b.Tools):
			u.t.Errorf("%s is reported with %d tools, and %d are listed", key, *b.Tools, offers[key])
		}
	}
	for key := range offers {
		if !listed[key] {
			u.t.Errorf("tools of %s are listed, and it is not reported", key)
		}
	}
	if int(*s.Backends.Ready) != ready || int(*s.Backends.Total) != len(s.DiscoveredBackends) || len(c.routes.members) != served {
		u.t.Errorf("of %d backends %d are ready and %d served; reported are %d of %d, called %d",
			len(s.DiscoveredBackends), ready, served, *s.Backends.Ready, *s.Backends.Total, len(c.routes.members))
	}
	if want := phaseOf(len(s.DiscoveredBackends), ready, served, c); *s.Phase != want {
		u.t.Errorf("the phase is %s, want %s: of %d backends %d are ready and %d served", *s.Phase, want, len(s.DiscoveredBackends), ready, served)
	}
}

// isPlain says that all tools of all backends are offered.
func (u *universe) isPlain() bool {
	a := u.control.builtBy.Aggregation
	return len(a.Tools) == 0 && (a.ConflictResolution.Strategy == "" || a.ConflictResolution.Strategy == v1alpha1.ConflictResolutionPrefix)
}

func phaseOf(total, ready, served int, c *control) v1alpha1.Phase {
	conflict := slices.ContainsFunc(c.catalog.Conflicts, func(c catalog.Conflict) bool { return !c.Resolved })
	switch {
	case !c.listed, total > 0 && served == 0:
		return v1alpha1.PhaseFailed
	case total > 0 && ready == total && !conflict:
		return v1alpha1.PhaseReady
	default:
		return v1alpha1.PhaseDegraded
	}
}

// expectTruth lets time pass in which nothing happens, and compares what is said with what is.
func (u *universe) expectTruth() {
	u.t.Helper()
	u.takeDuty(true)
	u.note("nothing happens")
	time.Sleep(90 * time.Second) // virtual time; several probes of one that hangs
	u.expectAgreement()
	f := u.findings[u.config.Group]
	if !f.Complete {
		return // then the list is an older one
	}
	want := map[string]v1alpha1.BackendStatus{}
	offered := 0
	for _, b := range f.Targets {
		p := u.at(strings.TrimSuffix(strings.TrimPrefix(b.URL, "http://"), "/mcp"))
		switch {
		case b.Refused.Status != "":
			want[b.Name] = b.Refused.Status
		case b.Refused != backend.Refusal{}:
			want[b.Name] = v1alpha1.BackendUnavailable
		default:
			value := ""
			if b.Credential == auth.NewCredential("one") {
				value = "one"
			} else if b.Credential == auth.NewCredential("two") {
				value = "two"
			}
			want[b.Name] = p.verdict(value)
		}
		if want[b.Name].Served() {
			offered += len(p.tools)
		}
	}
	got := map[string]v1alpha1.BackendStatus{}
	for _, b := range u.last().Backends {
		got[b.Target.Name] = b.Verdict.Status
	}
	if !maps.Equal(got, want) {
		u.t.Errorf("reported is %v, and true is %v", got, want)
	}
	if u.isPlain() && len(u.offered) != offered {
		u.t.Errorf("%d tools are listed, and there are %d", len(u.offered), offered)
	}
}
