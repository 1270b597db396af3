// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/relay"
	"github.com/vmcp-dev/vmcp-operator/runtime/rpc"
)

const toDiscover = `{"resultType":"complete","supportedVersions":%s,"capabilities":{}}`

// TestEra_IsJudgedByWhatTheServerSays has servers that give one answer to server/discover and, where they get that far, initialize well.
func TestEra_IsJudgedByWhatTheServerSays(t *testing.T) {
	text := func(status int, contentType, body string) func(http.ResponseWriter, request) {
		return func(w http.ResponseWriter, _ request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}
	}
	result := func(versions string) func(http.ResponseWriter, request) {
		return func(w http.ResponseWriter, m request) { whole(w, m, fmt.Sprintf(toDiscover, versions)) }
	}
	fails := func(status, code int, data string) func(http.ResponseWriter, request) {
		return func(w http.ResponseWriter, m request) { failure(w, m, status, code, data) }
	}
	for name, tc := range map[string]struct {
		discover func(http.ResponseWriter, request)
		version  string // "" means that there is no verdict
		reason   string // of the probe's error
	}{
		"modern":                   {result(`["2026-07-28","2025-11-25"]`), "2026-07-28", ""},
		"legacy revisions only":    {result(`["2025-11-25","2025-06-18"]`), "2025-11-25", ""},
		"unknown revisions only":   {result(`["2099-01-01"]`), "2025-11-25", ""},
		"-32022 with a modern one": {fails(400, -32022, `{"supported":["2026-07-28"]}`), "2026-07-28", v1alpha1.ReasonProtocolError},
		"-32022 with legacy ones":  {fails(400, -32022, `{"supported":["2025-11-25"]}`), "2025-11-25", ""},
		"-32022 without data":      {fails(400, -32022, `null`), "2025-11-25", ""},
		"-32020":                   {fails(400, -32020, `null`), "", v1alpha1.ReasonProtocolError},
		"-32021":                   {fails(400, -32021, `null`), "", v1alpha1.ReasonProtocolError},
		"-32602 with 400":          {fails(400, -32602, `null`), "", v1alpha1.ReasonProtocolError},
		"-32602 with 200":          {fails(200, -32602, `null`), "2025-11-25", ""},
		"-32601 with 200":          {fails(200, -32601, `null`), "2025-11-25", ""},
		"-32601 with 404":          {fails(404, -32601, `null`), "2025-11-25", ""},
		"code 0":                   {fails(200, 0, `null`), "2025-11-25", ""},
		"-32000 with 400":          {fails(400, -32000, `null`), "2025-11-25", ""},
		"404 without a body":       {text(404, "text/plain", ""), "2025-11-25", ""},
		"404 session not found":    {text(404, "text/plain", "session not found"), "2025-11-25", ""},
		"405":                      {text(405, "text/plain", ""), "2025-11-25", ""},
		"400":                      {text(400, "text/plain", "Bad Request"), "2025-11-25", ""},
		"HTML":                     {text(200, "text/html", "<html>"), "2025-11-25", ""},
		"202":                      {text(202, "text/plain", ""), "2025-11-25", ""},
		"other JSON":               {text(200, "application/json", `{"a":1}`), "2025-11-25", ""},
		"a stream with the result": {func(w http.ResponseWriter, m request) {
			event(w, data(`{"jsonrpc":"2.0","id":%s,"result":`+toDiscover+`}`, m.ID, `["2026-07-28"]`))
		}, "2026-07-28", ""},
		"401":                              {text(401, "text/plain", ""), "", v1alpha1.ReasonUnauthorized},
		"403":                              {text(403, "text/plain", ""), "", v1alpha1.ReasonUnauthorized},
		"429":                              {text(429, "text/plain", ""), "", v1alpha1.ReasonServerError},
		"503":                              {text(503, "text/plain", ""), "", v1alpha1.ReasonServerError},
		"508 of a gateway":                 {fails(508, -32603, `null`), "", v1alpha1.ReasonProtocolError},
		"508":                              {text(508, "text/plain", ""), "", v1alpha1.ReasonServerError},
		"504":                              {text(504, "text/plain", ""), "", v1alpha1.ReasonTimeout},
		"500, of a server that falls over": {text(500, "text/plain", ""), "2025-11-25", ""},
		"a stream that breaks":             {func(w http.ResponseWriter, _ request) { event(w, ": nothing") }, "", v1alpha1.ReasonConnectionFailed},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScripted(t)
			s.before = func(w http.ResponseWriter, _ *http.Request, m request) bool {
				if m.Method != "server/discover" {
					return false
				}
				tc.discover(w, m)
				return true
			}
			c := newClient(t, s.URL, v1alpha1.TransportStreamableHTTP, backend.Limits{})
			err := c.Probe(deadline(t, 10*time.Second))
			if f := backend.Classify(docs, err); f.Reason != tc.reason {
				t.Errorf("the probe said %q (%v), want %q", f.Reason, err, tc.reason)
			}
			if got := c.ProtocolVersion(); got != tc.version {
				t.Errorf("speaks %q, want %q", got, tc.version)
			}
			if got, want := s.count("initialize"), map[string]int{"2025-11-25": 1}[tc.version]; got != want {
				t.Errorf("%d sessions were opened, want %d", got, want)
			}
			h := s.last("server/discover").Header
			if h.Get("Mcp-Method") != "server/discover" || h.Get("Mcp-Protocol-Version") != "2026-07-28" || h.Get("Mcp-Session-Id") != "" {
				t.Errorf("discover with %v", h)
			}
		})
	}
}

// TestEra_IsRemembered sees that only health asks again in the modern era, and nobody in the legacy one.
func TestEra_IsRemembered(t *testing.T) {
	s, url := newModern(t, func(w http.ResponseWriter, _ *http.Request, m request) bool {
		if m.Method == "tools/call" {
			whole(w, m, `{"content":[]}`)
		}
		return m.Method == "tools/call"
	})
	c := newClient(t, url, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	ctx := deadline(t, 10*time.Second)
	for range 3 {
		if _, err := c.Call(ctx, "tools/call", json.RawMessage(`{"name":"a"}`)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(s.all("server/discover")); n != 1 {
		t.Errorf("discovered %d times", n)
	}
	if err := c.Probe(ctx); err != nil || len(s.all("server/discover")) != 2 {
		t.Errorf("the probe: %v", err)
	}
}

// TestEra_FollowsTheBackend replaces the server behind the address by one of the other era, both ways.
func TestEra_FollowsTheBackend(t *testing.T) {
	old := newScripted(t)
	old.answers["tools/call"] = func(request) string { return `{"from":"legacy"}` }
	old.answers["resources/subscribe"] = func(request) string { return `{}` }
	young := &modern{capabilities: `{"resources":{"subscribe":true}}`, answer: func(w http.ResponseWriter, r *http.Request, m request) bool {
		switch m.Method {
		case "tools/call":
			whole(w, m, `{"from":"modern"}`)
		case "subscriptions/listen":
			event(w, data(`{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":%s}`, m.Params))
			<-r.Context().Done()
		default:
			return false
		}
		return true
	}}
	var isModern atomic.Bool
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !isModern.Load():
			old.ServeHTTP(w, r)
		case r.Header.Get("Mcp-Protocol-Version") == "2026-07-28":
			young.ServeHTTP(w, r)
		default:
			http.NotFound(w, r)
		}
	}))
	// A legacy server that, as the Go SDK does, tells a modern request which revisions it would take.
	old.before = func(w http.ResponseWriter, r *http.Request, m request) bool {
		if r.Header.Get("Mcp-Protocol-Version") != "2026-07-28" {
			return false
		}
		failure(w, m, 400, -32022, `{"supported":["2025-11-25"]}`)
		return true
	}
	c := newClient(t, url, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	ctx := deadline(t, 20*time.Second)
	call := func(want string) error {
		got, err := c.Call(ctx, "tools/call", json.RawMessage(`{"name":"a"}`))
		if err == nil && string(got) != `{"from":"`+want+`"}` {
			t.Fatalf("got %s, want one from %s", got, want)
		}
		return err
	}
	var heard sync.Map // of the parameters
	session := c.NewSession(relay.SessionOptions{OnNotification: func(m rpc.Message) { heard.Store(string(m.Params.Of(m.Raw)), true) }})
	defer session.Close()
	isModern.Store(true)
	if err := call("modern"); err != nil {
		t.Fatal(err)
	}
	if err := session.Subscribe(ctx, "x://a"); err != nil {
		t.Fatal(err)
	}
	isModern.Store(false)
	if err := call("legacy"); err != nil {
		t.Errorf("the first call after the change: %v", err)
	}
	if got := c.ProtocolVersion(); got != "2025-11-25" {
		t.Errorf("speaks %s", got)
	}
	eventually(t, "the subscription has moved", func() bool { return string(old.last("resources/subscribe").Params) == `{"uri":"x://a"}` })
	if err := session.Subscribe(ctx, "x://b"); err != nil {
		t.Fatal(err)
	}
	isModern.Store(true) // its 404 looks like a lost session, and the verdict is too young to be doubted at once
	eventually(t, "the backend is found to be modern", func() bool { return call("modern") == nil && c.ProtocolVersion() == "2026-07-28" })
	eventually(t, "the subscriptions have moved", func() bool {
		all := young.all("subscriptions/listen")
		_, told := heard.Load(`{"uri":"x://b"}`)
		return told && len(all) > 1 && strings.Contains(string(all[len(all)-1].Params), `"resourceSubscriptions":["x://a","x://b"]`)
	})
}

// TestEra_AnOutageIsNoVerdict keeps what is known while the backend is away.
func TestEra_AnOutageIsNoVerdict(t *testing.T) {
	s, url := newModern(t, nil)
	c := newClient(t, url, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	ctx := deadline(t, 10*time.Second)
	if err := c.Probe(ctx); err != nil {
		t.Fatal(err)
	}
	for _, status := range []int{500, 502, 503, 401} {
		s.set(func(w http.ResponseWriter, _ *http.Request, _ request) bool {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "away")
			return true
		})
		if err := c.Probe(ctx); err == nil || c.ProtocolVersion() != "2026-07-28" {
			t.Errorf("%d: %v, %s", status, err, c.ProtocolVersion())
		}
	}
}

// TestEra_AWebPageIsForgotten has a backend answer with a web page for a while, as one does behind a proxy that is being set up. The first
// probe after that finds it again.
func TestEra_AWebPageIsForgotten(t *testing.T) {
	s, url := newModern(t, nil)
	c := newClient(t, url, v1alpha1.TransportStreamableHTTP, backend.Limits{})
	ctx := deadline(t, 10*time.Second)
	if err := c.Probe(ctx); err != nil {
		t.Fatal(err)
	}
	s.set(func(w http.ResponseWriter, _ *http.Request, _ request) bool {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<!DOCTYPE html>")
		return true
	})
	for range 2 {
		if f := c.Classify(c.Probe(ctx)); f.Reason != v1alpha1.ReasonNotMCP {
			t.Fatalf("a web page is %+v, want reason %s", f, v1alpha1.ReasonNotMCP)
		}
	}
	s.set(nil)
	if err := c.Probe(ctx); err != nil || c.ProtocolVersion() != "2026-07-28" {
		t.Errorf("the first probe of the backend that is back: %v, it speaks %q", err, c.ProtocolVersion())
	}
}
