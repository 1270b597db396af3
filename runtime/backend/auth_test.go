// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/auth"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
)

const (
	oldValue = "Bearer first-s3cr3t"
	newValue = "Bearer second-s3cr3t"
)

var docsAuth = auth.Strategy{
	Config: "docs-token", Type: v1alpha1.ExternalAuthTypeHeaderInjection,
	Header: v1alpha1.HeaderInjection{HeaderName: "Authorization", SecretRef: v1alpha1.SecretKeyReference{Name: "docs", Key: "value"}},
}

// guarded is a server that lets requests with one value of Authorization pass, and remembers all requests.
type guarded struct {
	http.Handler

	mu    sync.Mutex
	value string
	got   map[string]int // requests by HTTP method and value
}

func (g *guarded) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	value := strings.Join(r.Header.Values("Authorization"), ", ")
	g.mu.Lock()
	if g.got == nil {
		g.got = map[string]int{}
	}
	g.got[r.Method+" "+value]++
	want := g.value
	g.mu.Unlock()
	if value != want {
		http.Error(w, "no", http.StatusUnauthorized)
		return
	}
	g.Handler.ServeHTTP(w, r)
}

func (g *guarded) accept(value string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.value = value
}

// count says how many requests of an HTTP method came with a value of Authorization.
func (g *guarded) count(method, value string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.got[method+" "+value]
}

func newAuthorizedClient(t *testing.T, url string, transport v1alpha1.Transport, value string) *backend.Client {
	t.Helper()
	c := backend.NewClient(backend.Target{Key: docs, URL: url, Transport: transport, Auth: docsAuth, Credential: auth.NewCredential(value)},
		backend.Options{})
	t.Cleanup(c.Close)
	return c
}

// TestAuth_OnEveryRequest has real servers, of each transport, behind a check of the header: what came without it would have
// been refused, and is counted.
func TestAuth_OnEveryRequest(t *testing.T) {
	server := func(*http.Request) *mcp.Server { return sdkServer() }
	for name, tc := range map[string]struct {
		handler   http.Handler
		transport v1alpha1.Transport
		methods   []string
	}{
		"sessions": {
			mcp.NewStreamableHTTPHandler(server, nil), v1alpha1.TransportStreamableHTTP,
			[]string{http.MethodPost, http.MethodGet, http.MethodDelete},
		},
		"stateless": {
			mcp.NewStreamableHTTPHandler(server, &mcp.StreamableHTTPOptions{Stateless: true}), v1alpha1.TransportStreamableHTTP,
			[]string{http.MethodPost},
		},
		"SSE": {mcp.NewSSEHandler(server, nil), v1alpha1.TransportSSE, []string{http.MethodPost, http.MethodGet}},
	} {
		t.Run(name, func(t *testing.T) {
			g := &guarded{Handler: tc.handler, value: oldValue}
			c := newAuthorizedClient(t, serve(t, g)+"/mcp", tc.transport, oldValue)
			ctx := deadline(t, 10*time.Second)
			for range 2 { // opens a session, pings
				if err := c.Probe(ctx); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := c.Inventory(ctx); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Call(ctx, "tools/call", json.RawMessage(`{"name":"beta","arguments":{"x":1}}`)); err != nil {
				t.Fatal(err)
			}
			if slices.Contains(tc.methods, http.MethodGet) {
				eventually(t, "the stream of notifications was asked for", func() bool { return g.count(http.MethodGet, oldValue) > 0 })
			}
			c.Close()
			for _, method := range tc.methods {
				if g.count(method, oldValue) == 0 {
					t.Errorf("no %s came with the credentials: %v", method, g.got)
				}
			}
			for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodDelete} {
				if n := g.count(method, ""); n != 0 {
					t.Errorf("%d %s came without credentials", n, method)
				}
			}
		})
	}
}

func TestAuth_RotationKeepsTheSession(t *testing.T) {
	s := newScripted(t)
	g := &guarded{Handler: s, value: oldValue}
	c := newAuthorizedClient(t, serve(t, g), v1alpha1.TransportStreamableHTTP, oldValue)
	ctx := deadline(t, 10*time.Second)
	if err := c.Probe(ctx); err != nil {
		t.Fatal(err)
	}
	g.accept(newValue)
	if f := c.Classify(c.Probe(ctx)); !f.Unauthorized {
		t.Fatalf("the old value is %+v", f)
	}
	c.UseCredential(auth.NewCredential(newValue))
	if err := c.Probe(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Call(ctx, "ping", nil); err != nil {
		t.Fatal(err)
	}
	if n := s.count("initialize"); n != 1 {
		t.Errorf("%d sessions were opened, want 1: a server that takes the new value did not need another", n)
	}
}

// A server may bind a session to the credentials that it was opened with.
func TestAuth_RotationOpensAnotherSessionWhereNeeded(t *testing.T) {
	for name, next := range map[string]func(context.Context, *backend.Client) error{
		"for a probe": func(ctx context.Context, c *backend.Client) error { return c.Probe(ctx) },
		"for a call": func(ctx context.Context, c *backend.Client) error {
			_, err := c.Call(ctx, "ping", nil)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScripted(t)
			s.before = func(w http.ResponseWriter, r *http.Request, _ request) bool {
				if r.Header.Get("Mcp-Session-Id") == "session-1" && r.Header.Get("Authorization") != oldValue {
					w.WriteHeader(http.StatusForbidden)
					return true
				}
				return false
			}
			c := newAuthorizedClient(t, s.URL, v1alpha1.TransportStreamableHTTP, oldValue)
			ctx := deadline(t, 10*time.Second)
			if err := c.Probe(ctx); err != nil {
				t.Fatal(err)
			}
			c.UseCredential(auth.NewCredential(newValue))
			if err := next(ctx, c); err != nil {
				t.Fatal(err)
			}
			if n := s.count("initialize"); n != 2 {
				t.Errorf("%d sessions were opened, want 2", n)
			}
		})
	}
}

func TestAuth_CredentialsDoNotFollowARedirect(t *testing.T) {
	elsewhere := &guarded{Handler: http.NotFoundHandler()}
	other := serve(t, elsewhere)
	for name, to := range map[string]func(base string) string{
		"to another port": func(string) string { return other + "/mcp" },
		"to another name": func(base string) string { return strings.Replace(base, "127.0.0.1", "localhost", 1) + "/elsewhere" },
		"to TLS":          func(base string) string { return strings.Replace(base, "http:", "https:", 1) + "/elsewhere" },
	} {
		for _, transport := range []v1alpha1.Transport{v1alpha1.TransportStreamableHTTP, v1alpha1.TransportSSE} {
			t.Run(name+" over "+string(transport), func(t *testing.T) {
				var base string
				g := &guarded{value: oldValue, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/elsewhere" {
						t.Error("the redirect was followed")
					}
					http.Redirect(w, r, to(base), http.StatusTemporaryRedirect)
				})}
				base = serve(t, g)
				c := newAuthorizedClient(t, base+"/mcp", transport, oldValue)
				f := c.Classify(c.Probe(deadline(t, 5*time.Second)))
				if f.Reason != v1alpha1.ReasonRedirected || !strings.Contains(f.Message, "name the final address in the backend's definition") {
					t.Errorf("got %+v", f)
				}
				if len(elsewhere.got) != 0 {
					t.Errorf("elsewhere got %v", elsewhere.got)
				}
			})
		}
	}
	t.Run("within the origin they do", func(t *testing.T) {
		s := newScripted(t)
		g := &guarded{value: oldValue, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/mcp" {
				http.Redirect(w, r, "/v2", http.StatusTemporaryRedirect)
				return
			}
			s.ServeHTTP(w, r)
		})}
		c := newAuthorizedClient(t, serve(t, g)+"/mcp", v1alpha1.TransportStreamableHTTP, oldValue)
		if err := c.Probe(deadline(t, 5*time.Second)); err != nil {
			t.Error(err)
		}
	})
}

func TestAuth_RefusalNamesTheConfig(t *testing.T) {
	g := &guarded{Handler: http.NotFoundHandler(), value: newValue}
	url := serve(t, g) + "/mcp"
	for transport, request := range map[v1alpha1.Transport]string{
		v1alpha1.TransportStreamableHTTP: "server/discover", v1alpha1.TransportSSE: "initialize",
	} {
		c := newAuthorizedClient(t, url, transport, oldValue)
		f := c.Classify(c.Probe(deadline(t, 5*time.Second)))
		want := url + ` answered 401 Unauthorized to an MCP ` + request + ` request: it refuses the credentials of MCPExternalAuthConfig "docs-token"`
		if f.Reason != v1alpha1.ReasonUnauthorized || !f.Unauthorized || f.Message != want {
			t.Errorf("%s: %+v, want %s", transport, f, want)
		}
		if strings.Contains(f.Public, "docs-token") {
			t.Errorf("clients are told %q", f.Public)
		}
	}
}

// What a backend quotes of the credentials gets neither to clients nor into the status.
func TestAuth_ErrorsOfTheBackendAreRedacted(t *testing.T) {
	s := newScripted(t)
	s.before = func(w http.ResponseWriter, r *http.Request, m request) bool {
		if m.Method != "ping" {
			return false
		}
		value := r.Header.Get("Authorization")
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32000,"message":"what is %s","data":{"header":%q}}}`, m.ID, value, value)
		return true
	}
	c := newAuthorizedClient(t, s.URL, v1alpha1.TransportStreamableHTTP, oldValue)
	ctx := deadline(t, 5*time.Second)
	_, err := c.Call(ctx, "ping", nil)
	var rpc *backend.RPCError
	if !errors.As(err, &rpc) || rpc.Message != "what is [redacted]" || string(rpc.Data) != `{"header":"[redacted]"}` {
		t.Errorf("got %v with %s", err, rpc.Data)
	}
	if f := c.Classify(c.Probe(ctx)); f.Reason != v1alpha1.ReasonProtocolError || strings.Contains(f.Message, "s3cr3t") {
		t.Errorf("got %+v", f)
	}
}

func TestAuth_NothingIsSentWithoutTheCredential(t *testing.T) {
	g := &guarded{Handler: http.NotFoundHandler()}
	c := backend.NewClient(backend.Target{Key: docs, URL: serve(t, g), Transport: v1alpha1.TransportStreamableHTTP, Auth: docsAuth}, backend.Options{})
	defer c.Close()
	if err := c.Probe(deadline(t, 5*time.Second)); err == nil {
		t.Error("the probe succeeded")
	}
	if len(g.got) != 0 {
		t.Errorf("the backend got %v", g.got)
	}
}
