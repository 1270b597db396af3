// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package runtime_test

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/auth"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
	"github.com/vmcp-dev/vmcp-operator/runtime/health"
	"github.com/vmcp-dev/vmcp-operator/runtime/status"
)

// handled serves a handler and returns the address of its MCP endpoint.
func handled(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s.URL + "/mcp"
}

// answering serves one answer to everything.
func answering(t *testing.T, status int, contentType, body string) string {
	t.Helper()
	return handled(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	})
}

// accepting takes connections and has each dealt with.
func accepting(t *testing.T, deal func(net.Conn)) string {
	t.Helper()
	l := listenLoopback(t)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go deal(c)
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-ended })
	return "http://" + l.Addr().String() + "/mcp"
}

// TestRun_SaysWhatIsWrong has one gateway before all that can be wrong with a backend, and one that is well: each has its own status
// and reason, with a message that names the cause, and none of them harms the other.
func TestRun_SaysWhatIsWrong(t *testing.T) {
	const (
		secret = "s3cr3t"
		down   = v1alpha1.BackendUnavailable
		locked = v1alpha1.BackendUnauthenticated
	)
	unused := listenLoopback(t)
	_ = unused.Close()
	tlsServer := httptest.NewUnstartedServer(http.NotFoundHandler())
	tlsServer.Config.ErrorLog = log.New(io.Discard, "", 0)
	tlsServer.StartTLS()
	t.Cleanup(tlsServer.Close)
	vault := answering(t, http.StatusUnauthorized, "application/json", `{"token":"`+secret+`"}`)
	healthy := startMCPServer(t, "echo")

	at := func(url string) func(*backend.Target) { return func(b *backend.Target) { b.URL = url } }
	cases := map[string]struct {
		target  func(*backend.Target)
		status  v1alpha1.BackendStatus
		reason  string
		message string // part of it
	}{
		"healthy":   {at(healthy.url()), v1alpha1.BackendReady, v1alpha1.ReasonProbeSucceeded, "The backend answers."},
		"nameless":  {at("http://no-such-host.invalid/mcp"), down, v1alpha1.ReasonNameNotResolved, `"no-such-host.invalid"`},
		"absent":    {at("http://" + unused.Addr().String() + "/mcp"), down, v1alpha1.ReasonConnectionRefused, "Nothing listens at http://" + unused.Addr().String()},
		"resetting": {at(accepting(t, func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0); _ = c.Close() })), down, v1alpha1.ReasonConnectionFailed, "before it answered"},
		"silent":    {at(accepting(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c); _ = c.Close() })), down, v1alpha1.ReasonTimeout, "no answer within 2s"},
		"untrusted": {at(tlsServer.URL + "/mcp"), down, v1alpha1.ReasonCertificateUntrusted, "The certificate of https://"},
		"plain":     {at(strings.Replace(healthy.url(), "http:", "https:", 1)), down, v1alpha1.ReasonTLSFailed, "server gave HTTP response to HTTPS client"},
		"locked":    {at(vault), locked, v1alpha1.ReasonUnauthorized, "name an MCPExternalAuthConfig"},
		"wrongkey": {func(b *backend.Target) {
			b.URL, b.Auth, b.Credential = vault, auth.StrategyOf("token", headerInjection("token")), auth.NewCredential(secret)
		}, locked, v1alpha1.ReasonUnauthorized, `it refuses the credentials of MCPExternalAuthConfig "token"`},
		"keyless": {func(b *backend.Target) {
			b.Refused = backend.Refusal{Status: locked, Reason: v1alpha1.ReasonSecretNotFound, Message: "create it"}
		}, locked, v1alpha1.ReasonSecretNotFound, "Create it."},
		"forbidden": {at(answering(t, http.StatusForbidden, "text/plain", "")), locked, v1alpha1.ReasonUnauthorized, "403 Forbidden"},
		"busy":      {at(answering(t, http.StatusServiceUnavailable, "text/plain", "")), down, v1alpha1.ReasonServerError, "503 Service Unavailable"},
		"elsewhere": {at(answering(t, http.StatusNotFound, "text/plain", "")), down, v1alpha1.ReasonNotMCP, "404 Not Found to an MCP initialize request: check the path"},
		"methods":   {at(answering(t, http.StatusMethodNotAllowed, "text/plain", "")), down, v1alpha1.ReasonNotMCP, "405 Method Not Allowed"},
		"moved": {at(handled(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://elsewhere.invalid/mcp?token="+secret, http.StatusPermanentRedirect)
		})), down, v1alpha1.ReasonRedirected, "redirects to http://elsewhere.invalid/mcp, which is another host"},
		"webpage": {at(answering(t, http.StatusOK, "text/html", "<html>")), down, v1alpha1.ReasonNotMCP, "content type text/html"},
		"api":     {at(answering(t, http.StatusOK, "application/json", `{"hello":"world"}`)), down, v1alpha1.ReasonNotMCP, "JSON that is no JSON-RPC response"},
		"garbage": {at(answering(t, http.StatusOK, "application/json", `{"jsonrpc":`)), down, v1alpha1.ReasonNotMCP, "malformed JSON"},
		"future": {at(answering(t, http.StatusBadRequest, "application/json",
			`{"jsonrpc":"2.0","id":1,"error":{"code":-32022,"message":"no","data":{"supported":["2042-01-01"]}}}`)), down, v1alpha1.ReasonUnsupportedVersion, "it speaks 2042-01-01"},
		"broken": {at(answering(t, http.StatusOK, "application/json", `{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"out of order"}}`)),
			down, v1alpha1.ReasonProtocolError, "MCP error -32603: out of order"},
	}
	var targets []backend.Target
	for name, c := range cases {
		b := target(name, "")
		c.target(&b)
		targets = append(targets, b)
	}
	reports := &recorder{}
	o := standalone(newDiscoverer(targets...), reports)
	o.Health = health.DefaultPolicy()
	o.Health.Interval, o.Health.RetryInterval = 100*time.Millisecond, 50*time.Millisecond
	o.Health.NoAnswerAfter = 2 * time.Second
	r := start(t, o)

	reports.expectPhase(t, soon, v1alpha1.PhaseDegraded)
	report, _ := reports.last()
	built := status.Build(report, status.Identity{Reporter: "test"}, &v1alpha1.VirtualMCPServerStatus{}, time.Now())
	if len(built.DiscoveredBackends) != len(cases) {
		t.Fatalf("%d backends are reported, want %d", len(built.DiscoveredBackends), len(cases))
	}
	for _, entry := range built.DiscoveredBackends {
		want := cases[*entry.Name]
		if *entry.Status != want.status || *entry.Reason != want.reason || !strings.Contains(*entry.Message, want.message) {
			t.Errorf("%s is %s (%s: %s), want %s (%s: … %s …)", *entry.Name, *entry.Status, *entry.Reason, *entry.Message, want.status, want.reason, want.message)
		}
		if strings.Contains(*entry.Message, secret) {
			t.Errorf("the message of %s quotes a secret: %s", *entry.Name, *entry.Message)
		}
	}
	session, _ := r.connect(t)
	expectTools(t, session, soon, "healthy_echo")
}
