// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	mcpgo "github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	mcpgotypes "github.com/mark3labs/mcp-go/mcp"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/gateway"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
)

// TestClientOfMCPGo drives the gateway with mcp-go's client, of both eras.
func TestClientOfMCPGo(t *testing.T) {
	results := map[string]string{
		"tools/call":     `{"content":[{"type":"text","text":"hi"}]}`,
		"prompts/get":    `{"messages":[{"role":"user","content":{"type":"text","text":"hi"}}]}`,
		"resources/read": `{"contents":[{"uri":"db://orders","text":"hi"}]}`,
	}
	eras(t, func(t *testing.T, era string) {
		f := start(t, gateway.Options{Upstreams: exchanges(func(_ context.Context, r *relay.Request, sink relay.Sink) (*relay.Answer, error) {
			if err := sink.Notify(progress(1, "working")); err != nil {
				return nil, err
			}
			return answeredIn(relay.Legacy, `"result":`+results[r.Message.Method])
		})})
		pool := &http.Transport{}
		defer pool.CloseIdleConnections()
		wire, err := transport.NewStreamableHTTP(f.endpoint(), transport.WithHTTPBasicClient(&http.Client{Transport: pool}))
		if err != nil {
			t.Fatal(err)
		}
		c := mcpgo.NewClient(wire, mcpgo.WithProtocolVersion(era))
		defer c.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := c.Start(ctx); err != nil {
			t.Fatal(err)
		}
		var begin mcpgotypes.InitializeRequest
		begin.Params.ProtocolVersion = era
		begin.Params.ClientInfo = mcpgotypes.Implementation{Name: "independent", Version: "1"}
		hello, err := c.Initialize(ctx, begin)
		if err != nil || hello.ProtocolVersion != era {
			t.Fatalf("%+v, %v", hello, err)
		}
		tools, err := c.ListTools(ctx, mcpgotypes.ListToolsRequest{})
		if err != nil || len(tools.Tools) != 1 || tools.Tools[0].Name != "docs_search" {
			t.Errorf("%+v, %v", tools, err)
		}
		var call mcpgotypes.CallToolRequest
		call.Params.Name = "docs_search"
		call.Params.Meta = &mcpgotypes.Meta{ProgressToken: "p"}
		if called, err := c.CallTool(ctx, call); err != nil || len(called.Content) != 1 {
			t.Errorf("%+v, %v", called, err)
		}
		var get mcpgotypes.GetPromptRequest
		get.Params.Name = "docs_greet"
		if got, err := c.GetPrompt(ctx, get); err != nil || len(got.Messages) != 1 {
			t.Errorf("%+v, %v", got, err)
		}
		var read mcpgotypes.ReadResourceRequest
		read.Params.URI = "db://orders"
		if got, err := c.ReadResource(ctx, read); err != nil || len(got.Contents) != 1 {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

// TestClientOfGoSDK drives what its other tests do not with the Go SDK's client: progress of calls side by side, and questions back.
func TestClientOfGoSDK(t *testing.T) {
	asking := asker("elicitation/create")
	versions(t, func(t *testing.T, version string) {
		f := start(t, gateway.Options{Upstreams: exchanges(func(ctx context.Context, r *relay.Request, sink relay.Sink) (*relay.Answer, error) {
			if !r.Progress && r.Era == relay.Legacy {
				return asking(ctx, r, sink)
			}
			for n := range 100 {
				if err := sink.Notify(progress(n, "")); err != nil {
					return nil, err
				}
			}
			return answeredIn(r.Era, `"result":{"content":[]}`)
		})})
		var mu sync.Mutex
		heard := map[string][]float64{}
		client := mcp.NewClient(&mcp.Implementation{Name: "independent", Version: "1"}, &mcp.ClientOptions{
			ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) {
				mu.Lock()
				defer mu.Unlock()
				token := fmt.Sprint(r.Params.ProgressToken)
				heard[token] = append(heard[token], r.Params.Progress)
			},
			ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
				return &mcp.ElicitResult{Action: "decline"}, nil
			},
		})
		pool := &http.Transport{}
		defer pool.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		session, err := client.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: f.endpoint(), HTTPClient: &http.Client{Transport: pool}},
			&mcp.ClientSessionOptions{ProtocolVersion: version})
		if err != nil {
			t.Fatal(err)
		}
		defer session.Close()
		var calling sync.WaitGroup
		for n := range 16 {
			calling.Go(func() {
				params := &mcp.CallToolParams{Name: "docs_search"}
				params.SetProgressToken(fmt.Sprintf("call %d", n))
				if _, err := session.CallTool(ctx, params); err != nil {
					t.Errorf("call %d: %v", n, err)
				}
			})
		}
		calling.Wait()
		eventually(t, "all progress was heard", func() bool {
			mu.Lock()
			defer mu.Unlock()
			total := 0
			for _, values := range heard {
				total += len(values)
			}
			return total >= 1600
		})
		mu.Lock()
		for n := range 16 {
			if values := heard[fmt.Sprintf("call %d", n)]; len(values) != 100 || !slices.IsSorted(values) {
				t.Errorf("call %d heard %v", n, values)
			}
		}
		mu.Unlock()
		if version == modern {
			return
		}
		result, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "docs_search"})
		if err != nil || result.IsError {
			t.Errorf("%+v, %v", result, err)
		}
	})
}

// independent is a server that somebody else wrote, and the edge's client of it.
func independent(t *testing.T, server *mcp.Server, options *mcp.StreamableHTTPOptions) *backend.Client {
	t.Helper()
	s := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, options))
	client := backend.NewClient(backend.Target{Key: docs, URL: s.URL, Transport: v1alpha1.TransportStreamableHTTP}, backend.Options{})
	t.Cleanup(func() {
		client.Close()
		s.CloseClientConnections()
		s.Close()
	})
	return client
}

// everyEra runs a test for clients of each era with the backends of each. isModern is the backend's era.
func everyEra(t *testing.T, test func(t *testing.T, era string, options *mcp.StreamableHTTPOptions, isModern bool)) {
	t.Helper()
	for name, options := range map[string]*mcp.StreamableHTTPOptions{"legacy backend": nil, "modern backend": {Stateless: true}} {
		for _, era := range []string{legacy, modern} {
			t.Run(name+"/"+era, func(t *testing.T) { test(t, era, options, options != nil) })
		}
	}
}

// TestNothingIsLostThroughBothEdges: neither of the definition of a tool nor of an error.
func TestNothingIsLostThroughBothEdges(t *testing.T) {
	const schema = `{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","$defs":{"d":{"type":"string","x-vendor":1}},` +
		`"properties":{"region":{"type":"string","x-mcp-header":"Region"},"d":{"$ref":"#/$defs/d"}},"required":["region"],` +
		`"allOf":[{"properties":{"region":{"minLength":1}}}],"if":{"required":["d"]},"then":{"properties":{"d":{"const":"x"}}},"else":{"maxProperties":1},` +
		`"unevaluatedProperties":false,"x-vendor":{"big":12345678901234567890,"list":[1,null,"\u003c"]}}`
	const data = `{"requiredScopes":["a"],"n":12345678901234567890,"nested":{"k":null}}`
	everyEra(t, func(t *testing.T, era string, options *mcp.StreamableHTTPOptions, isModern bool) {
		server := mcp.NewServer(&mcp.Implementation{Name: "independent", Version: "1"}, nil)
		tool := &mcp.Tool{Name: "search", Title: "Search", InputSchema: json.RawMessage(schema), OutputSchema: json.RawMessage(schema), Meta: mcp.Meta{"com.example/k": []any{1}}}
		server.AddTool(tool, func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return nil, &jsonrpc.Error{Code: 4711, Message: "no <scope>", Data: json.RawMessage(data)}
		})
		client := independent(t, server, options)
		inventory, err := client.Inventory(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if (client.ProtocolVersion() == modern) != isModern {
			t.Fatalf("the backend speaks %s", client.ProtocolVersion())
		}
		f := start(t, gateway.Options{Upstreams: only{client}})
		f.SetSnapshot(snapshot(*inventory))
		c := f.as(era, `{}`)
		var listed struct {
			Result struct{ Tools []map[string]any }
		}
		_, body := c.do("1", "tools/list", "", "")
		number := func(text string, into any) {
			t.Helper()
			d := json.NewDecoder(strings.NewReader(text))
			d.UseNumber()
			if err := d.Decode(into); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
		}
		number(body, &listed)
		var want any
		number(schema, &want)
		if len(listed.Result.Tools) != 1 {
			t.Fatal(body)
		}
		got := listed.Result.Tools[0]
		for _, field := range []string{"inputSchema", "outputSchema"} {
			if diff := cmp.Diff(want, got[field]); diff != "" {
				t.Errorf("%s: %s", field, diff)
			}
		}
		if got["title"] != "Search" || fmt.Sprint(got["_meta"]) != "map[com.example/k:[1]]" {
			t.Errorf("the tool is %v", got)
		}
		request, headers := c.request("1", "tools/call", `"name":"docs_search","arguments":{"region":"eu"}`, "")
		_, body = f.do(http.MethodPost, gateway.Path, request, append(headers, "Mcp-Param-Region", "eu")...)
		_, body, _ = strings.Cut(body, "{") // it may be on a stream
		var failed struct {
			Error struct{ Code, Message, Data any }
		}
		number("{"+body, &failed)
		var wantData any
		number(data, &wantData)
		if diff := cmp.Diff(wantData, failed.Error.Data); diff != "" || fmt.Sprint(failed.Error.Code) != "4711" || failed.Error.Message != "no <scope>" {
			t.Errorf("the error arrives as %s: %s", body, diff)
		}
	})
}

// TestProgressThroughBothEdges is TestProgressOfParallelCalls with backends that are somebody else's, of each era.
func TestProgressThroughBothEdges(t *testing.T) {
	everyEra(t, func(t *testing.T, era string, options *mcp.StreamableHTTPOptions, isModern bool) {
		server := mcp.NewServer(&mcp.Implementation{Name: "independent", Version: "1"}, nil)
		type input struct {
			N int `json:"n"`
		}
		mcp.AddTool(server, &mcp.Tool{Name: "search"}, func(ctx context.Context, r *mcp.CallToolRequest, in input) (*mcp.CallToolResult, any, error) {
			for i := range progressNotifications {
				if err := r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{
					ProgressToken: r.Params.GetProgressToken(), Progress: float64(i), Message: fmt.Sprint(in.N),
				}); err != nil {
					return nil, nil, err
				}
			}
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: fmt.Sprintf("own %d.", in.N)}}}, nil, nil
		})
		client := independent(t, server, options)
		inventory, err := client.Inventory(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if (client.ProtocolVersion() == modern) != isModern {
			t.Fatalf("the backend speaks %s", client.ProtocolVersion())
		}
		f := start(t, gateway.Options{Upstreams: only{client}})
		f.SetSnapshot(snapshot(*inventory))
		expectOwnProgress(t, f, era, false)
		if era == legacy {
			expectOwnProgress(t, f, era, true)
		}
	})
}
