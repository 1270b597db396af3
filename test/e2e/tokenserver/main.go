// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Tokenserver is an MCP server that wants a bearer token, made from the parts that the official Go SDK has for it. It has one tool,
// whoami, that says whose token the call came with.
package main

import (
	"context"
	"crypto/subtle"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

func main() {
	address := flag.String("http", ":8080", "address to listen on")
	tokens := flag.String("tokens", "/tokens", "folder of files: the name is that of a user, the content is their token")
	flag.Parse()
	if err := serve(*address, os.DirFS(*tokens)); err != nil {
		log.Fatal(err)
	}
}

// serve serves until the process is told to end.
func serve(address string, tokens fs.FS) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	server := mcp.NewServer(&mcp.Implementation{Name: "tokenserver", Version: "1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "whoami", Description: "Says whose token the call came with"}, whoami)
	endpoint := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server },
		&mcp.StreamableHTTPOptions{DisableLocalhostProtection: true})
	verify := func(_ context.Context, token string, _ *http.Request) (*auth.TokenInfo, error) {
		return owner(tokens, token)
	}
	mux := http.NewServeMux()
	mux.Handle("/mcp", logged(auth.RequireBearerToken(verify, nil)(endpoint)))
	s := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- s.ListenAndServe() }()
	select {
	case err := <-ended:
		return fmt.Errorf("serving at %s: %w", address, err)
	case <-ctx.Done():
		return s.Close()
	}
}

type nothing struct{}

func whoami(_ context.Context, request *mcp.CallToolRequest, _ nothing) (*mcp.CallToolResult, any, error) {
	if request.Extra == nil || request.Extra.TokenInfo == nil {
		return nil, nil, errors.New("the call came without a token")
	}
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: request.Extra.TokenInfo.UserID}}}, nil, nil
}

// owner finds whose token it is.
func owner(tokens fs.FS, token string) (*auth.TokenInfo, error) {
	files, err := fs.Glob(tokens, "*")
	if err != nil {
		return nil, err
	}
	for _, name := range files {
		want, err := fs.ReadFile(tokens, name)
		if err != nil {
			continue // a folder of the kubelet
		}
		if subtle.ConstantTimeCompare([]byte(strings.TrimSpace(string(want))), []byte(token)) == 1 {
			return &auth.TokenInfo{UserID: name, Expiration: time.Now().Add(time.Hour)}, nil
		}
	}
	return nil, auth.ErrInvalidToken
}

// logged prints the status of each request, so that a test can count them from outside.
func logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		recorder := &statusRecorder{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(recorder, r)
		log.Printf("%s %d", r.Method, recorder.status)
	})
}

type statusRecorder struct {
	http.ResponseWriter
	status int
}

func (r *statusRecorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap lets the SDK flush its streams.
func (r *statusRecorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
