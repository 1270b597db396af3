// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
)

// balancer sends each request of a client to the next replica, on a connection of its own. It cuts the streams of some calls.
type balancer struct {
	replicas []*replica
	requests atomic.Int64
	cuts     atomic.Int64 // streams that are still to be cut, after an event
}

func (b *balancer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Host = b.replicas[b.requests.Add(1)%int64(len(b.replicas))].Listener.Addr().String()
	r.Close = true
	response, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && r.Method == http.MethodPost && response.Header.Get("Content-Type") == "text/event-stream" && b.cuts.Add(-1) >= 0 {
		response.Body = &cut{response.Body, bufio.NewReader(response.Body)}
	}
	return response, err
}

// cut is a stream that breaks after its first event with content.
type cut struct {
	io.Closer
	from *bufio.Reader
}

func (c *cut) Read(p []byte) (int, error) {
	if c.from == nil {
		return 0, io.ErrUnexpectedEOF
	}
	var said []byte
	for {
		line, err := c.from.ReadBytes('\n')
		said = append(said, line...)
		if err != nil || len(line) == 1 && bytes.Contains(said, []byte("data: {")) {
			c.from = nil
			return copy(p, said), err // some hundred bytes
		}
	}
}

// TestClientOfGoSDKAmongReplicas drives several replicas with a client that knows of one address, as behind a Service.
func TestClientOfGoSDKAmongReplicas(t *testing.T) {
	var stateMu sync.Mutex
	rounds := map[string]int{}
	upstreams := exchanges(func(ctx context.Context, q *relay.Request, sink relay.Sink) (*relay.Answer, error) {
		for n := range 3 {
			if err := sink.Notify(progress(n, "")); err != nil {
				return nil, err
			}
		}
		if q.Era == relay.Modern {
			stateMu.Lock()
			defer stateMu.Unlock()
			text := outgoing(q)
			if !strings.Contains(text, `"requestState":"theirs"`) {
				rounds["first"]++
				return answeredIn(q.Era, `"result":{"resultType":"input_required","inputRequests":{"k":{"method":"elicitation/create","params":{"mode":"form","message":"?","requestedSchema":{"type":"object","properties":{}}}}},"requestState":"theirs"}`)
			}
			rounds["second"]++
			return answeredIn(q.Era, `"result":{"resultType":"complete","content":[{"type":"text","text":"done"}]}`)
		}
		for _, ask := range []string{
			`"method":"elicitation/create","params":{"message":"?","requestedSchema":{"type":"object","properties":{}}}`,
			`"method":"sampling/createMessage","params":{"messages":[],"maxTokens":1}`, `"method":"roots/list"`,
		} {
			replies := make(chan rpc.Kind, 1)
			if err := sink.Ask(parsed(`{"jsonrpc":"2.0","id":"theirs",`+ask+`}`), func(m rpc.Message) { replies <- m.Kind }); err != nil {
				return nil, err
			}
			select {
			case kind := <-replies:
				if kind != rpc.Result {
					return nil, fmt.Errorf("%s was answered with an error", ask)
				}
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		return answeredIn(q.Era, `"result":{"content":[{"type":"text","text":"done"}]}`)
	})
	versions(t, func(t *testing.T, version string) {
		r := startReplicas(t, 3, shared(upstreams))
		between := &balancer{replicas: r}
		var progressed atomic.Int64
		client := mcp.NewClient(&mcp.Implementation{Name: "independent", Version: "1"}, &mcp.ClientOptions{
			ProgressNotificationHandler: func(context.Context, *mcp.ProgressNotificationClientRequest) { progressed.Add(1) },
			ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
				return &mcp.ElicitResult{Action: "decline"}, nil
			},
			//nolint:staticcheck // SA1019: deprecated, and part of the revisions that are served
			CreateMessageHandler: func(context.Context, *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
				return &mcp.CreateMessageResult{Role: "assistant", Model: "m", Content: &mcp.TextContent{Text: "hi"}}, nil //nolint:staticcheck // as above
			},
		})
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		session, err := client.Connect(ctx, &mcp.StreamableClientTransport{
			Endpoint: r[0].endpoint(), HTTPClient: &http.Client{Transport: between},
		}, &mcp.ClientSessionOptions{ProtocolVersion: version})
		if err != nil {
			t.Fatal(err)
		}
		defer session.Close()
		if version != modern && version != legacy && version != "2025-06-18" {
			return // it has no elicitation
		}
		for n := range 10 {
			if n == 5 && version == legacy {
				between.cuts.Store(1) // the client goes on a second later
			}
			params := &mcp.CallToolParams{Name: "docs_search"}
			params.SetProgressToken(fmt.Sprintf("call %d", n))
			result, err := session.CallTool(ctx, params)
			if err != nil || result.IsError || len(result.Content) != 1 {
				t.Fatalf("call %d: %+v, %v", n, result, err)
			}
		}
		eventually(t, "all progress was heard", func() bool { return progressed.Load() >= 30 })
	})
}

// TestListensAmongReplicas: each stream of the modern era hears of changes from the replica that it reached.
func TestListensAmongReplicas(t *testing.T) {
	r := startReplicas(t, 2, shared(answer(`{"content":[]}`)))
	for i, one := range r {
		s := one.as(modern, `{}`).stream(`"l"`, "subscriptions/listen", `"notifications":{"toolsListChanged":true}`, "")
		if e, _ := s.next(); !strings.Contains(e.data, "acknowledged") {
			t.Errorf("heard %s", e.data)
		}
		one.SetSnapshot(snapshot(backend.Inventory{}))
		if e, _ := s.next(); !strings.Contains(e.data, "tools/list_changed") {
			t.Errorf("replica %d said %s", i, e.data)
		}
	}
}
