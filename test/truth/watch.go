// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// The watcher looks from outside, as users do: at the VirtualMCPServer over a watch and by reading it, at the tools with MCP clients of
// both eras, and it calls the tools of some backends.

// eras are the revisions of MCP that the clients speak, one of each era.
var eras = []string{"2025-11-25", "2026-07-28"}

const (
	lookInterval = 500 * time.Millisecond
	lookTimeout  = 5 * time.Second
	callInterval = 250 * time.Millisecond
	// callTimeout is more than a slow backend takes.
	callTimeout = 15 * time.Second
	stallTick   = 100 * time.Millisecond
)

// watcher is the one that looks.
type watcher struct {
	book   *book
	client client.WithWatch
	key    client.ObjectKey
	// endpoint and ready are URLs of the runtime.
	endpoint, ready string
	http            *http.Client
}

// reportOf is what a VirtualMCPServer says.
func reportOf(s *v1alpha1.VirtualMCPServer, at span) (r reported, resource uint64) {
	r = reported{span: at, phase: s.Status.Phase, message: s.Status.Message, backends: map[string]v1alpha1.BackendStatus{}}
	for i := range s.Status.DiscoveredBackends {
		r.backends[s.Status.DiscoveredBackends[i].Name] = s.Status.DiscoveredBackends[i].Status
	}
	written := s.Status.DeepCopy()
	written.Conditions, written.ObservedGeneration = nil, 0 // the operator's, in part or as a whole
	if data, err := json.Marshal(written); err == nil {
		r.written = string(data)
	}
	resource, _ = strconv.ParseUint(s.ResourceVersion, 10, 64) // decimal since Kubernetes 1.35 promises it (KEP-5504)
	return r, resource
}

// read reads the status until ctx ends.
func (w *watcher) read(ctx context.Context) {
	every(ctx, lookInterval, func() {
		asking, cancel := context.WithTimeout(ctx, lookTimeout)
		defer cancel()
		s, sent := &v1alpha1.VirtualMCPServer{}, w.book.now()
		if err := w.client.Get(asking, w.key, s); err != nil {
			return // the API server is away: nobody can read what is not so
		}
		w.book.report(reportOf(s, span{sent, w.book.now()}))
	})
}

// watch watches the status until ctx ends.
func (w *watcher) watch(ctx context.Context) {
	every(ctx, lookInterval, func() {
		events, err := w.client.Watch(ctx, &v1alpha1.VirtualMCPServerList{}, client.InNamespace(w.key.Namespace), client.MatchingFields{"metadata.name": w.key.Name})
		if err != nil {
			return
		}
		defer events.Stop()
		for e := range events.ResultChan() {
			if s, ok := e.Object.(*v1alpha1.VirtualMCPServer); ok {
				now := w.book.now()
				w.book.report(reportOf(s, span{now - resolution, now}))
			}
		}
	})
}

// list lists the tools with a client of an era until ctx ends, as long as the runtime is ready: a Service leads nobody elsewhere. It
// keeps its session until a request fails.
func (w *watcher) list(ctx context.Context, era string) {
	var session *mcp.ClientSession
	closed := func() {
		if session != nil {
			_ = session.Close() // it may be gone already
			session = nil
		}
	}
	defer closed()
	every(ctx, lookInterval, func() {
		asking, cancel := context.WithTimeout(ctx, lookTimeout)
		defer cancel()
		if !w.isReady(asking) {
			return
		}
		if session == nil {
			connected, err := w.connect(asking, era)
			if err != nil {
				return
			}
			session = connected
		}
		l := listed{era: era, span: span{sent: w.book.now()}}
		tools := map[string][]string{}
		for tool, err := range session.Tools(asking, nil) {
			if err != nil {
				closed()
				return
			}
			backend, name, _ := strings.Cut(tool.Name, "_")
			tools[backend] = append(tools[backend], name)
		}
		l.received, l.tools = w.book.now(), map[string]string{}
		for backend, list := range tools {
			slices.Sort(list)
			l.tools[backend] = strings.Join(list, " ")
		}
		w.book.list(l)
	})
}

// call calls a tool of whatever is in a slot until ctx ends.
func (w *watcher) call(ctx context.Context, backend func() string) {
	var session *mcp.ClientSession
	every(ctx, callInterval, func() {
		asking, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		if session == nil {
			connected, err := w.connect(asking, eras[0])
			if err != nil {
				return
			}
			session = connected
		}
		_, err := session.CallTool(asking, &mcp.CallToolParams{Name: backend() + "_" + baseTool, Arguments: map[string]any{}})
		if _, answered := errors.AsType[*jsonrpc.Error](err); err != nil && !answered && asking.Err() == nil {
			_ = session.Close() // it may be gone already
			session = nil
		}
	})
	if session != nil {
		_ = session.Close() // as above
	}
}

func (w *watcher) connect(ctx context.Context, era string) (*mcp.ClientSession, error) {
	// What the gateway announces makes real clients look again at once; these look all the time.
	c := mcp.NewClient(&mcp.Implementation{Name: "vmcp-truth", Version: "1"}, &mcp.ClientOptions{
		ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) {},
	})
	session, err := c.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: w.endpoint, HTTPClient: w.http, MaxRetries: -1}, &mcp.ClientSessionOptions{ProtocolVersion: era})
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", w.endpoint, err)
	}
	if got := session.InitializeResult().ProtocolVersion; got != era {
		_ = session.Close() // it is of no use
		return nil, fmt.Errorf("connecting to %s: it speaks %s, want %s", w.endpoint, got, era)
	}
	return session, nil
}

func (w *watcher) isReady(ctx context.Context) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, w.ready, http.NoBody)
	if err != nil {
		return false
	}
	response, err := w.http.Do(request)
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// every does something, and again an interval after it was last begun, until ctx ends.
func every(ctx context.Context, interval time.Duration, do func()) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		do()
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// stalls finds out for how long this program got no time at most, until ctx ends: then nobody may have got any.
func stalls(ctx context.Context) (longest time.Duration) {
	looked := time.Now()
	every(ctx, stallTick, func() {
		now := time.Now()
		longest = max(longest, now.Sub(looked)-stallTick)
		looked = now
	})
	return longest
}
