// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/catalog"
	"github.com/vmcp-dev/vmcp-operator/runtime/gateway"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
)

// heard counts the notifications that a client got.
type heard struct {
	mu                        sync.Mutex
	tools, prompts, resources int
}

func (h *heard) counts() [3]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return [3]int{h.tools, h.prompts, h.resources}
}

func (h *heard) add(n *int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	*n++
}

// connect connects a client of another implementation, at the newest revision if version is "".
func connect(t *testing.T, f *fixture, version string) (*mcp.ClientSession, *heard) {
	t.Helper()
	h := &heard{}
	client := mcp.NewClient(&mcp.Implementation{Name: "independent", Version: "1"}, &mcp.ClientOptions{
		ToolListChangedHandler:     func(context.Context, *mcp.ToolListChangedRequest) { h.add(&h.tools) },
		PromptListChangedHandler:   func(context.Context, *mcp.PromptListChangedRequest) { h.add(&h.prompts) },
		ResourceListChangedHandler: func(context.Context, *mcp.ResourceListChangedRequest) { h.add(&h.resources) },
	})
	transport := &http.Transport{}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint: f.endpoint(), HTTPClient: &http.Client{Transport: transport},
	}, &mcp.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = session.Close()
		transport.CloseIdleConnections()
	})
	return session, h
}

// versions runs a test with an independent client at each revision that it speaks.
func versions(t *testing.T, test func(t *testing.T, version string)) {
	t.Helper()
	for _, version := range []string{"2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26"} {
		t.Run(version, func(t *testing.T) { test(t, version) })
	}
}

// independentBackend is a server of another implementation, and a client of ours for it.
func independentBackend(t *testing.T, key backend.Key) *backend.Client {
	t.Helper()
	server := mcp.NewServer(&mcp.Implementation{Name: "independent", Version: "1"}, nil)
	type input struct {
		Text string `json:"text"`
	}
	mcp.AddTool(server, &mcp.Tool{Name: "echo"}, func(_ context.Context, _ *mcp.CallToolRequest, in input) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: key.Name + ": " + in.Text}}}, nil, nil
	})
	server.AddPrompt(&mcp.Prompt{Name: "greet"}, func(context.Context, *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{{Role: "user", Content: &mcp.TextContent{Text: "from " + key.Name}}}}, nil
	})
	read := func(_ context.Context, r *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: r.Params.URI, Text: "from " + key.Name}}}, nil
	}
	server.AddResource(&mcp.Resource{Name: "readme", URI: key.Name + ":///readme"}, read)
	server.AddResourceTemplate(&mcp.ResourceTemplate{Name: "rows", URITemplate: key.Name + "://{table}"}, read)

	s := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil))
	client := backend.NewClient(backend.Target{Key: key, URL: s.URL, Transport: v1alpha1.TransportStreamableHTTP}, backend.Options{})
	t.Cleanup(func() {
		client.Close()
		s.CloseClientConnections()
		s.Close()
	})
	return client
}

// TestIndependentClientAndServers puts the gateway between a client and two servers of another implementation.
func TestIndependentClientAndServers(t *testing.T) {
	clients := backends{}
	var members []catalog.Member
	for _, name := range []string{"docs", "team"} {
		key := backend.Key{Kind: v1alpha1.KindMCPBackend, Name: name}
		client := independentBackend(t, key)
		clients[key] = client
		inventory, err := client.Inventory(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		members = append(members, catalog.Member{Key: key, Inventory: inventory})
	}
	versions(t, func(t *testing.T, version string) {
		f := start(t, gateway.Options{Upstreams: clients, Instructions: "be kind"})
		f.SetSnapshot(catalog.Build(members, v1alpha1.Aggregation{}))
		session, _ := connect(t, f, version)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()

		hello := session.InitializeResult()
		if hello.ProtocolVersion != version || hello.ServerInfo.Name != "team" || hello.Instructions != "be kind" {
			t.Errorf("the handshake gives %+v", hello)
		}
		if c := hello.Capabilities; !c.Tools.ListChanged || !c.Prompts.ListChanged || !c.Resources.ListChanged || !c.Resources.Subscribe || c.Completions == nil {
			t.Errorf("capabilities %+v", c)
		}
		tools, err := session.ListTools(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, tool := range tools.Tools {
			names = append(names, tool.Name)
		}
		if diff := cmp.Diff([]string{"docs_echo", "team_echo"}, names); diff != "" {
			t.Error(diff)
		}
		for _, name := range []string{"docs", "team"} {
			called, err := session.CallTool(ctx, &mcp.CallToolParams{Name: name + "_echo", Arguments: map[string]any{"text": "hi"}})
			if err != nil || called.IsError || called.Content[0].(*mcp.TextContent).Text != name+": hi" {
				t.Errorf("calling %s: %+v, %v", name, called, err)
			}
			prompt, err := session.GetPrompt(ctx, &mcp.GetPromptParams{Name: name + "_greet"})
			if err != nil || prompt.Messages[0].Content.(*mcp.TextContent).Text != "from "+name {
				t.Errorf("prompting %s: %+v, %v", name, prompt, err)
			}
			for _, uri := range []string{name + ":///readme", name + "://orders"} {
				read, err := session.ReadResource(ctx, &mcp.ReadResourceParams{URI: uri})
				if err != nil || read.Contents[0].Text != "from "+name || read.Contents[0].URI != uri {
					t.Errorf("reading %s: %+v, %v", uri, read, err)
				}
			}
		}
		if resources, err := session.ListResources(ctx, nil); err != nil || len(resources.Resources) != 2 {
			t.Errorf("resources: %+v, %v", resources, err)
		}
		if templates, err := session.ListResourceTemplates(ctx, nil); err != nil || len(templates.ResourceTemplates) != 2 {
			t.Errorf("templates: %+v, %v", templates, err)
		}
		if _, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "echo"}); err == nil {
			t.Error("a tool without its prefix can be called")
		}
	})
}

func TestListChangedOncePerChange(t *testing.T) {
	versions(t, func(t *testing.T, version string) {
		f := start(t, gateway.Options{})
		_, first := connect(t, f, version)
		_, second := connect(t, f, version)
		both := func(want [3]int) {
			t.Helper()
			eventually(t, "both sessions heard of the change", func() bool { return first.counts() == want && second.counts() == want })
		}
		// Streams open in the background. Until they are open an announcement waits in the session, so nothing is missed.
		f.SetSnapshot(standard()) // the same again
		tool := backend.Inventory{
			Tools:     items("name", `{"name":"search","inputSchema":{"type":"object"},"title":"new"}`),
			Prompts:   items("name", `{"name":"greet"}`),
			Resources: items("uri", `{"uri":"file:///readme","name":"readme"}`),
			Templates: items("uriTemplate", `{"uriTemplate":"db://{table}","name":"rows"}`),
		}
		f.SetSnapshot(snapshot(tool))
		both([3]int{1, 0, 0})
		tool.Prompts = items("name", `{"name":"other"}`)
		f.SetSnapshot(snapshot(tool))
		both([3]int{1, 1, 0})
		tool.Resources, tool.Templates = nil, nil
		f.SetSnapshot(snapshot(tool))
		both([3]int{1, 1, 1})
		f.SetSnapshot(snapshot(backend.Inventory{}))
		both([3]int{2, 2, 1})
	})
}

// TestAnnouncementsDuringCalls has every call change the catalog: an announcement that comes as an answer goes out is not lost.
func TestAnnouncementsDuringCalls(t *testing.T) {
	versions(t, func(t *testing.T, version string) {
		var f *fixture
		var n atomic.Int64
		f = start(t, gateway.Options{Upstreams: exchanges(
			func(_ context.Context, r *relay.Request, _ relay.Sink) (*relay.Answer, error) {
				f.SetSnapshot(snapshot(backend.Inventory{
					Tools: items("name", fmt.Sprintf(`{"name":"search","inputSchema":{"type":"object"},"title":"%d"}`, n.Add(1))),
				}))
				return answeredIn(r.Era, `"result":{"content":[]}`)
			})})
		f.SetSnapshot(snapshot(backend.Inventory{Tools: items("name", `{"name":"search","inputSchema":{"type":"object"}}`)}))
		session, h := connect(t, f, version)
		const calls = 30
		for range calls {
			if _, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "docs_search"}); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "a change was announced", func() bool { return h.counts()[0] > 0 })
		f.SetSnapshot(standard())
		eventually(t, "the last change was announced", func() bool { return h.counts()[2] == 1 })
		if n := h.counts()[0]; n > calls+1 {
			t.Errorf("%d changes were announced %d times", calls+1, n)
		}
	})
}

func TestCloseDrains(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	f := start(t, gateway.Options{Upstreams: exchanges(
		func(ctx context.Context, r *relay.Request, _ relay.Sink) (*relay.Answer, error) {
			close(begun)
			select {
			case <-release:
				return answeredIn(r.Era, `"result":{"content":[],"late":true}`)
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		})})
	session, _ := connect(t, f, legacy) // holds a stream open
	connect(t, f, modern)               // so does this one
	type outcome struct {
		result *mcp.CallToolResult
		err    error
	}
	called := make(chan outcome, 1)
	go func() {
		result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "docs_search"})
		called <- outcome{result, err}
	}()
	<-begun
	closed := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		closed <- f.Gateway.Close(ctx)
	}()
	eventually(t, "new requests are refused", func() bool {
		response, _ := f.do(http.MethodPost, gateway.Path, `{}`)
		return response.StatusCode == http.StatusServiceUnavailable
	})
	select {
	case err := <-closed:
		t.Fatalf("Close did not wait for the call: %v", err)
	default:
	}
	close(release)
	if got := <-called; got.err != nil {
		t.Errorf("the call in flight: %v", got.err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

func TestCloseGivesUpOnHungCalls(t *testing.T) {
	begun, ended := make(chan struct{}), make(chan struct{})
	g := gateway.New(gateway.Options{Upstreams: exchanges(
		func(ctx context.Context, r *relay.Request, _ relay.Sink) (*relay.Answer, error) {
			close(begun)
			<-ctx.Done()
			close(ended)
			return nil, ctx.Err()
		})})
	g.SetSnapshot(standard())
	s := httptest.NewServer(g.Handler())
	defer s.Close()
	f := &fixture{Gateway: g, Server: s, t: t}
	session := f.initialize()
	done := make(chan struct{})
	go func() {
		defer close(done)
		response, body := f.do(http.MethodPost, gateway.Path, callBody, "Mcp-Session-Id", session)
		if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" || !strings.Contains(body, `"code":-32603,"message":"the gateway shuts down`) {
			t.Errorf("the call that was cut: %s %s", response.Status, body)
		}
	}()
	<-begun
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := g.Close(ctx); err == nil {
		t.Error("Close reports no call that it gave up on")
	}
	<-ended
	<-done
	http.DefaultClient.CloseIdleConnections()
}
