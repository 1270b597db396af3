//go:build e2e

// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/vmcp-dev/vmcp-operator/test/harness"
)

// replicated is a gateway of two pods before a server with sessions, whose tools can ask the client.
const replicated = `
apiVersion: vmcp.dev/v1alpha1
kind: MCPGroup
metadata: {name: replicated}
---
apiVersion: vmcp.dev/v1alpha1
kind: MCPBackend
metadata: {name: replicated-asks}
spec: {groupRef: {name: replicated}, service: {name: replicated-asks, port: 80, path: /mcp}}
---
apiVersion: vmcp.dev/v1alpha1
kind: VirtualMCPServer
metadata: {name: replicated}
spec: {groupRef: {name: replicated}, replicas: 2}
`

// TestReplicas uses a gateway of two pods through its Service, as a client whose requests have a connection each, so that they reach pods at
// random: questions of a backend are answered, and calls resumed, wherever they land.
func TestReplicas(t *testing.T) {
	t.Parallel()
	asks := server{name: "replicated-asks", image: everythingImage(t), args: []string{"-http", ":8080", "-stateless=false"}}
	apply(t, asks.manifests(t)+replicated)
	eventually(t, startLimit, "waiting for every pod to serve the gateway", func(ctx context.Context) error {
		s, err := getGateway(ctx, "replicated")
		if err != nil {
			return err
		}
		return rolledOut(s)
	})
	const tool = "replicated-asks_test_elicitation"
	scatter := &scattering{transport: http.Transport{DisableKeepAlives: true}}
	endpoint := clusterEndpoint(t, "replicated")
	var asked atomic.Int64
	client := mcp.NewClient(&mcp.Implementation{Name: "vmcp-harness", Version: "1"}, &mcp.ClientOptions{
		ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			asked.Add(1)
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"username": "somebody"}}, nil
		},
	})
	var session *mcp.ClientSession
	// A pod takes a minute to see keys that came after it.
	eventually(t, startLimit, "waiting for both pods to know each other's sessions", func(ctx context.Context) error {
		if session != nil {
			_ = session.Close()
		}
		var err error
		session, err = client.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: endpoint, HTTPClient: &http.Client{Transport: scatter}},
			&mcp.ClientSessionOptions{ProtocolVersion: "2025-11-25"})
		for range 12 {
			if err != nil {
				return err
			}
			var names []string
			if names, err = harness.ToolNames(ctx, session); err == nil && !slices.Contains(names, tool) {
				err = fmt.Errorf("%s is not among %q", tool, names)
			}
		}
		return err
	})
	defer func() { _ = session.Close() }()
	const calls = 20
	for _, cutting := range []bool{false, true} {
		what, done := "elicitation", 0
		if cutting {
			what = "resumption"
		}
		for n := range calls {
			before, cuts := asked.Load(), scatter.done.Load()
			if cutting {
				scatter.cut.Store(1)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			text, err := harness.CallText(ctx, session, tool, map[string]any{"message": "who are you?"})
			cancel()
			switch {
			case err != nil:
				t.Errorf("%s %d: %v", what, n, err)
			case !strings.Contains(text, "somebody"):
				t.Errorf("%s %d: the tool says %s", what, n, text)
			case asked.Load() != before+1:
				t.Errorf("%s %d: the user was asked %d times", what, n, asked.Load()-before)
			case cutting && scatter.done.Load() != cuts+1:
				t.Errorf("%s %d: no connection was lost", what, n)
			default:
				done++
			}
		}
		t.Logf("%s: %d of %d", what, done, calls)
	}
}

// scattering gives each request a connection of its own, and cuts the streams of calls after their first message.
type scattering struct {
	transport http.Transport
	cut       atomic.Int64 // streams that are still to be cut
	done      atomic.Int64 // those that were
}

func (s *scattering) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := s.transport.RoundTrip(r)
	if err != nil {
		return nil, fmt.Errorf("asking the Service: %w", err)
	}
	isStream := strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream")
	if r.Method == http.MethodPost && isStream && s.cut.Add(-1) == 0 {
		s.done.Add(1)
		response.Body = &cutStream{response.Body, bufio.NewReader(response.Body)}
	}
	return response, nil
}

// cutStream breaks after its first event with content.
type cutStream struct {
	io.Closer
	from *bufio.Reader
}

func (c *cutStream) Read(p []byte) (int, error) {
	if c.from == nil {
		return 0, io.ErrUnexpectedEOF
	}
	var said []byte
	for {
		line, err := c.from.ReadBytes('\n')
		said = append(said, line...)
		if err != nil || len(line) == 1 && bytes.Contains(said, []byte("data: {")) {
			c.from = nil
			return copy(p, said), err // less than a buffer
		}
	}
}
