// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package runtime_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/config"
)

// configurations are a config.Source that a test feeds.
type configurations struct {
	initial configv1alpha1.RuntimeConfiguration
	next    chan configv1alpha1.RuntimeConfiguration
}

func (c *configurations) Initial() *configv1alpha1.RuntimeConfiguration { return &c.initial }

func (c *configurations) Run(ctx context.Context, publish func(config.Update)) error {
	for {
		select {
		case next := <-c.next:
			publish(config.Update{Configuration: &next})
		case <-ctx.Done():
			return nil
		}
	}
}

// ping is the answer to a request of a web page of an origin that addresses the gateway by a name.
func (s *started) ping(t *testing.T, host, origin string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.endpoint, strings.NewReader(
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Host = host
	request.Header = http.Header{
		"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}, "Origin": {origin},
	}
	response, err := s.http.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// What the configuration says of the catalog and of the endpoint holds from the start, and changes while the gateway serves.
func TestRun_FollowsItsConfiguration(t *testing.T) {
	alpha, beta := startMCPServer(t, "echo", "sum"), startMCPServer(t, "echo")
	reports, source := &recorder{}, &configurations{next: make(chan configv1alpha1.RuntimeConfiguration)}
	source.initial = configv1alpha1.RuntimeConfiguration{
		Group: "team", AllowedHosts: []string{"old.example.com"}, AllowedOrigins: []string{"https://old.example.com"},
		Aggregation: v1alpha1.Aggregation{ConflictResolution: v1alpha1.ConflictResolution{
			Strategy: v1alpha1.ConflictResolutionPriority, Priority: []string{"beta"},
		}},
	}
	options := standalone(newDiscoverer(target("alpha", alpha.url()), target("beta", beta.url())), reports)
	options.Config = source
	r := start(t, options)
	reports.expectPhase(t, soon, v1alpha1.PhaseReady) // a clash that the configuration resolves is no reason to be Degraded
	session, _ := r.connect(t)
	expectTools(t, session, soon, "echo", "sum")
	expect := func(host, origin string, want int) {
		t.Helper()
		eventually(t, soon, func() string {
			if got := r.ping(t, host, origin); got != want {
				return fmt.Sprintf("a page of %s that asks %s gets %d, want %d", origin, host, got, want)
			}
			return ""
		})
	}
	expect("old.example.com", "https://old.example.com", http.StatusOK)
	expect("old.example.com", "https://new.example.com", http.StatusForbidden)

	source.next <- configv1alpha1.RuntimeConfiguration{
		Generation: 1, Group: "team", AllowedHosts: []string{"new.example.com"}, AllowedOrigins: []string{"https://new.example.com"},
		Aggregation: v1alpha1.Aggregation{
			ConflictResolution: v1alpha1.ConflictResolution{Strategy: v1alpha1.ConflictResolutionManual},
			Tools: []v1alpha1.BackendTools{
				{Backend: "alpha", Exclude: []v1alpha1.ToolPattern{"s*"}, Overrides: []v1alpha1.ToolOverride{{Tool: "echo", Name: "shout"}}},
			},
		},
	}
	expectTools(t, session, soon, "shout", "echo")
	expect("new.example.com", "https://new.example.com", http.StatusOK)
	expect("new.example.com", "https://old.example.com", http.StatusForbidden)
	expect("old.example.com", "https://new.example.com", http.StatusForbidden)
	if text, err := call(t, session, "shout", "hello"); err != nil || text != "echo: hello" {
		t.Fatalf("shout answered %q, %v", text, err)
	}
	if _, err := call(t, session, "sum", "hidden"); err == nil {
		t.Error("a tool that is filtered out can be called")
	}

	source.next <- configv1alpha1.RuntimeConfiguration{
		Generation: 2, Group: "team", Aggregation: v1alpha1.Aggregation{
			ConflictResolution: v1alpha1.ConflictResolution{Strategy: v1alpha1.ConflictResolutionManual},
		},
	}
	expectTools(t, session, soon, "sum")
	reports.expectPhase(t, soon, v1alpha1.PhaseDegraded)
	report, _ := reports.last()
	if issues := report.Catalog.Issues; len(issues) != 2 || issues[1].Reason != v1alpha1.ReasonNameConflict || issues[1].Backend.Name != "beta" {
		t.Errorf("issues are %+v", issues)
	}
}

// A tool whose schema changes while the gateway runs is served as it is now, and reported.
func TestRun_ReportsAChangedSchema(t *testing.T) {
	server := mcp.NewServer(&mcp.Implementation{Name: "fixture", Version: "1"}, nil)
	offer := func(property string) {
		server.AddTool(&mcp.Tool{Name: "pay", InputSchema: json.RawMessage(`{"type":"object","properties":{"` + property + `":{}}}`)},
			func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				return &mcp.CallToolResult{}, nil
			})
	}
	offer("amount")
	backend := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil))
	t.Cleanup(func() {
		backend.CloseClientConnections()
		backend.Close()
		for session := range server.Sessions() {
			_ = session.Close()
		}
	})
	reports := &recorder{}
	r := start(t, standalone(newDiscoverer(target("bank", backend.URL)), reports))
	reports.expectPhase(t, soon, v1alpha1.PhaseReady)
	if report, _ := reports.last(); len(report.Catalog.Issues) > 0 {
		t.Fatalf("issues are %+v", report.Catalog.Issues)
	}
	expect := func(want ...string) {
		t.Helper()
		eventually(t, soon, func() string {
			report, _ := reports.last()
			var got []string
			for _, i := range report.Catalog.Issues {
				got = append(got, i.Reason+" "+i.Name)
			}
			return cmp.Diff(want, got)
		})
	}
	session, _ := r.connect(t)
	offer("iban")
	expect("SchemaChanged pay")
	list, err := session.ListTools(t.Context(), nil)
	if err != nil || !strings.Contains(fmt.Sprint(list.Tools[0].InputSchema), "iban") {
		t.Errorf("%+v, %v", list, err)
	}
	offer("amount")
	expect()
}

// When a backend counts as slow is for the configuration to say, also of members that are there already.
func TestRun_HeedsTheHealthOfItsConfiguration(t *testing.T) {
	slow := startMCPServer(t, "echo")
	slow.stop()
	slow.wrap = func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-time.After(1500 * time.Millisecond):
			case <-r.Context().Done():
			}
			next.ServeHTTP(w, r)
		})
	}
	slow.start(t)
	reports, source := &recorder{}, &configurations{next: make(chan configv1alpha1.RuntimeConfiguration)}
	source.initial = configv1alpha1.RuntimeConfiguration{Group: "team", Health: v1alpha1.Health{SlowSeconds: 1}}
	options := standalone(newDiscoverer(target("slow", slow.url())), reports)
	options.Config = source
	start(t, options)
	reports.expectPhase(t, soon, v1alpha1.PhaseDegraded)
	source.next <- configv1alpha1.RuntimeConfiguration{Generation: 1, Group: "team", Health: v1alpha1.Health{SlowSeconds: 10, TimeoutSeconds: 20}}
	reports.expectPhase(t, soon, v1alpha1.PhaseReady)
}
