// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/auth"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/discovery"
	"github.com/vmcp-dev/vmcp-operator/runtime/gateway"
	"github.com/vmcp-dev/vmcp-operator/runtime/health"
	"github.com/vmcp-dev/vmcp-operator/runtime/pause"
	"github.com/vmcp-dev/vmcp-operator/runtime/status"
	"github.com/vmcp-dev/vmcp-operator/runtime/telemetry"
)

var (
	allNames = []string{"a", "b", "c", "d"}
	allHosts = []string{"h1", "h2", "h3", "h4", "h5"}
	allTools = []string{"x", "y", "z"}
	groups   = []string{"team", "other"}
)

// universe is a control with all that it deals with, and the dice that decide what happens to it.
type universe struct {
	*world
	t       *testing.T
	dice    *rand.Rand
	control *control
	handler http.Handler
	config  configv1alpha1.RuntimeConfiguration
	log     []string // what happened
	offered []string // the tools in the list, in its order
}

func newUniverse(t *testing.T, seed uint64) *universe {
	t.Helper()
	u := &universe{t: t, dice: rand.New(rand.NewPCG(seed, 0)), world: &world{
		configs: make(chan *configv1alpha1.RuntimeConfiguration), places: map[string]*place{},
		findings: map[string]discovery.Finding{}, watching: map[string][]chan struct{}{}, dutyNews: make(chan struct{}, 1),
		duty: status.Duty{Reporting: true},
	}}
	for _, host := range allHosts {
		u.places[host] = &place{mood: well, tools: u.some(allTools)}
	}
	for _, group := range groups {
		u.find(group, u.finding(group))
	}
	u.config = configv1alpha1.RuntimeConfiguration{Group: groups[0], Generation: 1}
	initial := u.config
	u.initial = &initial
	logger := slog.New(slog.DiscardHandler)
	policy := health.DefaultPolicy()
	policy.Jitter = 0 // the dice are those of the test
	u.control = newControl(Options{
		Name: "team", Version: "v0", Listen: "127.0.0.1:1", Config: u.world, Reporter: reporter{u.world}, Replica: u.world,
		Discover: func(c *configv1alpha1.RuntimeConfiguration) discovery.Discoverer { return watch{u.world, c.Group} },
		Pauses:   &pause.Detector{}, Metrics: telemetry.NewMetrics("v0"), Logger: logger, Health: policy,
	})
	u.control.transport = u.world
	u.control.gateway = gateway.New(gateway.Options{Upstreams: u.control.routes, UID: "uid", Name: "team", Version: "v0", Logger: logger})
	u.handler = u.control.gateway.Handler()
	return u
}

// some is a random part of a list, in its order.
func (u *universe) some(of []string) []string {
	return slices.DeleteFunc(slices.Clone(of), func(string) bool { return u.dice.IntN(3) == 0 })
}

func (u *universe) one(of []string) string { return of[u.dice.IntN(len(of))] }

// chance is true once in n times.
func (u *universe) chance(n int) bool { return u.dice.IntN(n) == 0 }

// finding is a list of backends. Those of one group are other servers than those of another, mostly.
func (u *universe) finding(group string) discovery.Finding {
	if u.chance(8) {
		return discovery.Finding{Problem: errListing}
	}
	f := discovery.Finding{Complete: true}
	switch u.dice.IntN(10) {
	case 0: // the group is empty
		return f
	case 1, 2, 3: // other credentials
		f.Targets = slices.Clone(u.findings[group].Targets)
		for i := range f.Targets {
			if f.Targets[i].Auth != (auth.Strategy{}) {
				f.Targets[i].Credential = auth.NewCredential(u.one([]string{"one", "two"}))
			}
		}
		return f
	}
	for i, name := range u.some(allNames) {
		host := allHosts[(i+len(group))%len(allHosts)]
		if u.chance(6) {
			host = u.one(allHosts)
		}
		b := backend.Target{
			Key: backend.Key{Kind: v1alpha1.KindMCPBackend, Name: name}, Source: v1alpha1.BackendSourceRemote, URL: "http://" + host + "/mcp",
			Transport: v1alpha1.TransportStreamableHTTP, DeclaredTransport: v1alpha1.TransportStreamableHTTP,
		}
		switch u.dice.IntN(8) {
		case 0:
			b.Refused = backend.Refusal{Reason: v1alpha1.ReasonInvalidSpec, Message: "no"}
		case 1:
			b.Refused = backend.Refusal{Status: v1alpha1.BackendUnauthenticated, Reason: v1alpha1.ReasonSecretNotFound, Message: "no"}
		case 2, 3, 4:
			b.Auth = auth.StrategyOf("token", v1alpha1.MCPExternalAuthConfigSpec{
				Type: v1alpha1.ExternalAuthTypeHeaderInjection, HeaderInjection: &v1alpha1.HeaderInjection{HeaderName: "Authorization"},
			})
			b.Credential = auth.NewCredential(u.one([]string{"one", "two"}))
		}
		f.Targets = append(f.Targets, b)
	}
	if u.chance(10) {
		f.Problem = errListing
	}
	return f
}

// happen has something happen, and goes on before, or after, it has had all its effects.
func (u *universe) happen() {
	switch u.dice.IntN(12) {
	case 0, 1, 2:
		host, next := u.one(allHosts), mood(u.dice.IntN(moods))
		if u.chance(2) {
			next = well
		}
		u.note("%s becomes %d", host, next)
		u.alter(host, func(p *place) { p.mood = next })
	case 3:
		host, wants := u.one(allHosts), u.one([]string{"", "", "one", "two"})
		u.note("%s wants %q", host, wants)
		u.alter(host, func(p *place) { p.wants = wants })
	case 4:
		host, tools := u.one(allHosts), u.some(allTools)
		u.note("%s has the tools %v", host, tools)
		u.alter(host, func(p *place) { p.tools = tools })
		u.control.eachMonitored(func(m *member) { // all of them hear it
			if m.target.URL == "http://"+host+"/mcp" {
				m.monitor.Reload()
			}
		})
		u.tell()
	case 5, 6:
		group := u.config.Group
		if u.chance(5) {
			group = u.one(groups)
		}
		f := u.finding(group)
		u.note("group %s is %v, %v", group, f.Targets, f.Problem)
		u.find(group, f)
	case 7:
		u.configure()
	case 8, 9:
		u.callSomething()
	case 10:
		reporting := !u.chance(3)
		u.note("this replica reports: %t", reporting)
		u.takeDuty(reporting)
	case 11:
		// nothing but time
	}
	if u.chance(2) {
		d := time.Duration(u.dice.Int64N(int64(15 * time.Second)))
		u.note("%s pass", d)
		time.Sleep(d) // virtual time
	}
}

func (u *universe) note(format string, args ...any) {
	u.log = append(u.log, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

func (u *universe) configure() {
	u.config.Generation++
	switch u.dice.IntN(4) {
	case 0:
		u.config.Group = u.one(groups)
	case 1:
		u.config.Aggregation.ConflictResolution = v1alpha1.ConflictResolution{
			Strategy: []v1alpha1.ConflictResolutionStrategy{
				v1alpha1.ConflictResolutionPrefix, v1alpha1.ConflictResolutionPriority, v1alpha1.ConflictResolutionManual,
			}[u.dice.IntN(3)],
		}
		if u.config.Aggregation.ConflictResolution.Strategy == v1alpha1.ConflictResolutionPriority {
			u.config.Aggregation.ConflictResolution.Priority = u.some(allNames)
		}
	case 2:
		u.config.Aggregation.Tools = nil
		if !u.chance(2) {
			u.config.Aggregation.Tools = []v1alpha1.BackendTools{{Backend: u.one(allNames), Exclude: []v1alpha1.ToolPattern{v1alpha1.ToolPattern(u.one(allTools))}}}
		}
	case 3:
		u.config.Health = v1alpha1.Health{IntervalSeconds: int32(1 + u.dice.IntN(10)), FailureThreshold: int32(1 + u.dice.IntN(4))}
	}
	u.note("configuration %+v", u.config)
	next := u.config
	u.configs <- &next
}

// post sends a request of a client of MCP 2026-07-28 that waits for a time.
func (u *universe) post(patience time.Duration, method, name, params string) (result json.RawMessage, failed bool) {
	u.t.Helper()
	ctx, cancel := context.WithTimeout(u.t.Context(), patience)
	defer cancel()
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":{%s"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",`+
		`"io.modelcontextprotocol/clientCapabilities":{}}}}`, method, params)
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/mcp", strings.NewReader(body))
	for key, value := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "Mcp-Protocol-Version": "2026-07-28",
		"Mcp-Method": method, "Mcp-Name": name,
	} {
		if value != "" {
			r.Header.Set(key, value)
		}
	}
	w := httptest.NewRecorder()
	u.handler.ServeHTTP(w, r)
	answer := w.Body.Bytes()
	if strings.HasPrefix(w.Header().Get("Content-Type"), "text/event-stream") {
		_, answer, _ = bytes.Cut(answer[bytes.LastIndex(answer, []byte("data: ")):], []byte("data: "))
	}
	var m struct {
		Result json.RawMessage
		Error  json.RawMessage
	}
	if err := json.Unmarshal(answer, &m); err != nil && ctx.Err() == nil {
		u.t.Fatalf("%s %s answered %d %q: %v", method, name, w.Code, w.Body, err)
	}
	return m.Result, m.Result == nil
}

// call makes a call of a tool.
func (u *universe) call(tool string) {
	u.t.Helper()
	_, _ = u.post(4*time.Second, "tools/call", tool, fmt.Sprintf(`"name":%q,"arguments":{},`, tool))
}

func (u *universe) callSomething() {
	u.t.Helper()
	if len(u.offered) > 0 {
		u.callTool(u.one(u.offered))
	}
}

// callTool calls a tool of the list, for which a server must be asked, or be waited for: one that answered with garbage before has to
// say first which MCP it speaks.
func (u *universe) callTool(tool string) {
	u.t.Helper()
	u.note("%s is called", tool)
	before, _ := u.requests()
	began := time.Now()
	u.call(tool)
	if after, _ := u.requests(); after == before && time.Since(began) == 0 {
		u.t.Errorf("%s is in the list, and is refused", tool)
	}
}

// callNothing calls a tool that is not in the list, which must come to no server.
func (u *universe) callNothing() {
	u.t.Helper()
	tool := u.one(allTools)
	if u.chance(2) {
		tool = u.one(allNames) + "_" + tool
	}
	if slices.Contains(u.offered, tool) {
		return
	}
	_, before := u.requests()
	u.call(tool)
	if _, after := u.requests(); after != before {
		u.t.Errorf("%s is not in the list, and a server got the call", tool)
	}
}

func (u *universe) list() []string {
	u.t.Helper()
	raw, failed := u.post(time.Second, "tools/list", "", "")
	var result struct{ Tools []struct{ Name string } }
	if failed || json.Unmarshal(raw, &result) != nil {
		u.t.Fatalf("tools/list answered %s", raw)
	}
	var names []string
	for _, tool := range result.Tools {
		names = append(names, tool.Name)
	}
	return names
}
