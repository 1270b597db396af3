// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/vmcp-dev/vmcp-operator/runtime/gateway"
)

func TestHostAndOrigin(t *testing.T) {
	f := start(t, gateway.Options{AllowedHosts: []string{"vmcp-team.default.svc", "Gateway.Example.com:443", "10.0.0.7", "fd00::7"}})
	for name, tc := range map[string]struct {
		host, origin string
		want         int
	}{
		"loopback":                    {"", "", 200},
		"localhost":                   {"localhost:4483", "", 200},
		"another loopback address":    {"127.8.9.10", "", 200},
		"IPv6 loopback":               {"[::1]:80", "", 200},
		"allowed name":                {"vmcp-team.default.svc", "", 200},
		"allowed name, any port":      {"gateway.example.com:8443", "", 200},
		"case and final dot":          {"GATEWAY.example.com.", "", 200},
		"allowed address":             {"10.0.0.7:8080", "", 200},
		"allowed IPv6 address":        {"[fd00::7]:8080", "", 200},
		"foreign name":                {"evil.example.com", "", 403},
		"name that begins alike":      {"localhost.evil.example.com", "", 403},
		"name that ends alike":        {"evil-vmcp-team.default.svc", "", 403},
		"address that is not listed":  {"10.0.0.8", "", 200},
		"IPv6, not listed, with port": {"[fd00::8]:80", "", 200},
		"name that looks like one":    {"10.0.0.8.evil.example.com", "", 403},
		"origin of an address":        {"10.0.0.8", "http://10.0.0.8", 403},
		"own origin":                  {"", "http://localhost:6274", 200},
		"allowed origin":              {"", "https://gateway.example.com", 200},
		"foreign origin":              {"", "https://evil.example.com", 403},
		"foreign origin, own host":    {"localhost", "http://localhost.evil.example.com", 403},
		"origin with user":            {"", "http://localhost@evil.example.com", 403},
		"opaque origin":               {"", "null", 403},
		"origin of another scheme":    {"", "file://localhost", 403},
		"origin that is no URL":       {"", "http://[::1", 403},
		"extension":                   {"", "chrome-extension://localhost", 403},
		"origin without a scheme":     {"", "localhost", 403},
		"foreign host and own origin": {"evil.example.com", "http://localhost", 403},
	} {
		t.Run(name, func(t *testing.T) {
			for _, request := range []struct{ method, body string }{
				{http.MethodPost, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"a","version":"1"}}}`},
				{http.MethodGet, ""}, {http.MethodDelete, ""}, {http.MethodOptions, ""}, {http.MethodPut, "x"},
			} {
				var headers []string
				if tc.host != "" {
					headers = append(headers, "Host", tc.host)
				}
				if tc.origin != "" {
					headers = append(headers, "Origin", tc.origin)
				}
				response, body := f.do(request.method, gateway.Path, request.body, headers...)
				switch {
				case tc.want == http.StatusForbidden && response.StatusCode != http.StatusForbidden:
					t.Errorf("%s passes: %s", request.method, response.Status)
				case tc.want != http.StatusForbidden && response.StatusCode == http.StatusForbidden:
					t.Errorf("%s is refused: %s", request.method, body)
				case tc.want == http.StatusOK && request.method == http.MethodPost && response.StatusCode != http.StatusOK:
					t.Errorf("initialize: %s %s", response.Status, body)
				}
			}
		})
	}
}

func TestSetAllowedHosts(t *testing.T) {
	f := start(t, gateway.Options{AllowedHosts: []string{"old.example.com"}})
	f.SetAllowedHosts([]string{"new.example.com"})
	for host, want := range map[string]bool{"old.example.com": false, "new.example.com": true, "localhost": true} {
		response, _ := f.do(http.MethodGet, gateway.Path, "", "Host", host)
		if got := response.StatusCode != http.StatusForbidden; got != want {
			t.Errorf("%s: %s", host, response.Status)
		}
	}
}

func TestAllowedOrigins(t *testing.T) {
	f := start(t, gateway.Options{AllowedHosts: []string{"gateway.example.com"}, AllowedOrigins: []string{
		"https://app.example.com", "http://localhost:3000", "HTTPS://Default.example.com:443", "no origin",
	}})
	check := func(want map[string]bool) {
		t.Helper()
		for origin, allowed := range want {
			response, _ := f.do(http.MethodPost, gateway.Path, initializeBody, "Origin", origin)
			if got := response.StatusCode == http.StatusOK; got != allowed || !got && response.StatusCode != http.StatusForbidden {
				t.Errorf("%s: %s", origin, response.Status)
			}
		}
	}
	check(map[string]bool{
		"https://app.example.com": true, "https://APP.example.com:443": true, "http://localhost:3000": true, "https://default.example.com": true,
		"http://app.example.com": false, "https://app.example.com:8443": false, "http://localhost": false, "http://localhost:3001": false,
		"https://gateway.example.com": false, "https://app.example.com.evil.example": false, "no origin": false, "null": false,
	})
	f.SetAllowedOrigins([]string{"nothing that is one"})
	check(map[string]bool{"https://app.example.com": false, "https://gateway.example.com": false, "http://localhost": false})
	f.SetAllowedOrigins(nil)
	check(map[string]bool{"https://app.example.com": false, "https://gateway.example.com": true, "http://localhost:3001": true})
}

func TestWhatIsServed(t *testing.T) {
	f := start(t, gateway.Options{})
	for name, tc := range map[string]struct {
		method, path string
		want         int
	}{
		"another path":        {http.MethodPost, "/", 404},
		"below the endpoint":  {http.MethodPost, "/mcp/", 404},
		"PUT":                 {http.MethodPut, "/mcp", 405},
		"HEAD":                {http.MethodHead, "/mcp", 405},
		"OPTIONS":             {http.MethodOptions, "/mcp", 405},
		"GET, no session":     {http.MethodGet, "/mcp", 400},
		"DELETE, no session":  {http.MethodDelete, "/mcp", 400},
		"POST without JSON":   {http.MethodPost, "/mcp", 400},
		"foreign, other path": {http.MethodGet, "/metrics", 404},
	} {
		if response, _ := f.do(tc.method, tc.path, ""); response.StatusCode != tc.want {
			t.Errorf("%s: %s, want %d", name, response.Status, tc.want)
		}
	}
}

func TestModernClientsHaveNoStreams(t *testing.T) {
	f := start(t, gateway.Options{})
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		response, _ := f.do(method, gateway.Path, "", "Mcp-Protocol-Version", modern)
		if response.StatusCode != http.StatusMethodNotAllowed || response.Header.Get("Allow") != http.MethodPost {
			t.Errorf("%s: %s, Allow: %s", method, response.Status, response.Header.Get("Allow"))
		}
	}
}

func TestBodyLimit(t *testing.T) {
	f := start(t, gateway.Options{})
	pad := func(size int) string {
		const head, tail = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"`, `","version":"1"}}}`
		return head + strings.Repeat("x", size-len(head)-len(tail)) + tail
	}
	if response, body := f.do(http.MethodPost, gateway.Path, pad(4<<20)); response.StatusCode != http.StatusOK {
		t.Errorf("4 MiB: %s %s", response.Status, body)
	}
	if response, _ := f.do(http.MethodPost, gateway.Path, pad(4<<20+1)); response.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("4 MiB and a byte: %s", response.Status)
	}
}
