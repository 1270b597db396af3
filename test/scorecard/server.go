// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

const (
	serverPort = 8080
	serverPath = "/mcp"
)

// serve is an MCP server by the official SDK, with one tool, until ctx ends.
func serve(ctx context.Context) error {
	server := mcp.NewServer(&mcp.Implementation{Name: "scorecard", Version: "1"}, nil)
	type input struct {
		Text string `json:"text"`
	}
	mcp.AddTool(server, &mcp.Tool{Name: "echo", Description: "Answers with what it is given."},
		func(_ context.Context, _ *mcp.CallToolRequest, in input) (*mcp.CallToolResult, any, error) {
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: in.Text}}}, nil, nil
		})
	mux := http.NewServeMux()
	mux.Handle(serverPath, mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil))
	h := &http.Server{
		Addr: fmt.Sprintf(":%d", serverPort), Handler: mux, ReadHeaderTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	ended := make(chan error, 1)
	go func() { ended <- h.ListenAndServe() }()
	select {
	case err := <-ended:
		return fmt.Errorf("serving MCP: %w", err)
	case <-ctx.Done():
	}
	if err := h.Close(); err != nil {
		return fmt.Errorf("ending the MCP server: %w", err)
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving MCP: %w", err)
	}
	return nil
}
