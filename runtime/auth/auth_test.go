// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package auth_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/auth"
)

var strategy = auth.StrategyOf("docs-token", v1alpha1.MCPExternalAuthConfigSpec{
	Type: v1alpha1.ExternalAuthTypeHeaderInjection,
	HeaderInjection: &v1alpha1.HeaderInjection{
		HeaderName: "Authorization", SecretRef: v1alpha1.SecretKeyReference{Name: "docs", Key: "value"},
	},
})

// sent is the header that a request to a URL gets.
func sent(t *testing.T, c auth.Credential, backendURL, url string) (http.Header, error) {
	t.Helper()
	var header http.Header
	transport := auth.NewTransport(roundTripper(func(r *http.Request) (*http.Response, error) {
		header = r.Header
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
	}), strategy, backendURL)
	transport.Use(c)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return header, err
	}
	if got := request.Header.Get("Authorization"); got != "" {
		t.Errorf("the caller's request was changed")
	}
	return header, response.Body.Close()
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestFromSecret(t *testing.T) {
	for name, c := range map[string]struct {
		value   string
		secret  func(*corev1.Secret) *corev1.Secret
		want    string
		reason  string
		message string
	}{
		"a value":                   {value: "Bearer s3cr3t-value", want: "Bearer s3cr3t-value"},
		"white space around it":     {value: " \tBearer s3cr3t-value\r\n\n", want: "Bearer s3cr3t-value"},
		"a tab in it":               {value: "a\tb", want: "a\tb"},
		"bytes beyond ASCII":        {value: "caf\xc3\xa9", want: "caf\xc3\xa9"},
		"a line break in it":        {value: "s3cr3t\nX-Admin: yes", reason: v1alpha1.ReasonSecretUnusable, message: `the value of key "value" is no value of a header`},
		"a control character in it": {value: "s3cr3t\x00", reason: v1alpha1.ReasonSecretUnusable, message: "control character"},
		"nothing":                   {value: "", reason: v1alpha1.ReasonSecretUnusable, message: "is empty"},
		"white space only":          {value: "\n", reason: v1alpha1.ReasonSecretUnusable, message: "is empty"},
		"too much":                  {value: strings.Repeat("s3cr3t", 20000), reason: v1alpha1.ReasonSecretUnusable, message: "more than 65536 bytes"},
		"no Secret": {
			secret: func(*corev1.Secret) *corev1.Secret { return nil },
			reason: v1alpha1.ReasonSecretNotFound, message: `Secret "docs", which MCPExternalAuthConfig "docs-token" names, does not exist`,
		},
		"no label": {
			value:  "s3cr3t",
			secret: func(s *corev1.Secret) *corev1.Secret { s.Labels = nil; return s },
			reason: v1alpha1.ReasonSecretNotAllowed, message: `label it vmcp.dev/credential: "true"`,
		},
		"a label that says no": {
			value: "s3cr3t",
			secret: func(s *corev1.Secret) *corev1.Secret {
				s.Labels = map[string]string{v1alpha1.CredentialLabel: "false"}
				return s
			},
			reason: v1alpha1.ReasonSecretNotAllowed, message: `label it`,
		},
		"another key": {
			secret: func(s *corev1.Secret) *corev1.Secret {
				s.Data = map[string][]byte{"token": []byte("s3cr3t")}
				return s
			},
			reason: v1alpha1.ReasonSecretKeyNotFound, message: `has no key "value"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			secret := &corev1.Secret{
				ObjectMeta: metav1.ObjectMeta{Name: "docs", Labels: map[string]string{v1alpha1.CredentialLabel: "true"}},
				Data:       map[string][]byte{"value": []byte(c.value)},
			}
			if c.secret != nil {
				secret = c.secret(secret)
			}
			credential, err := strategy.FromSecret(secret)
			if c.reason == "" {
				if err != nil {
					t.Fatal(err)
				}
				header, err := sent(t, credential, "http://mcp.example.com", "http://mcp.example.com/mcp")
				if err != nil || header.Get("Authorization") != c.want {
					t.Errorf("sent %q, %v; want %q", header.Get("Authorization"), err, c.want)
				}
				return
			}
			var problem *auth.UnusableError
			if !errors.As(err, &problem) || problem.Reason != c.reason || !strings.Contains(problem.Message, c.message) {
				t.Errorf("got %#v, want %s: %s", err, c.reason, c.message)
			}
			if strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("the error tells the value: %v", err)
			}
			if !credential.IsZero() {
				t.Error("there is a credential all the same")
			}
		})
	}
}

func TestTransport_SendsToOneOriginOnly(t *testing.T) {
	for name, c := range map[string]struct {
		backend, request string
		ok               bool
	}{
		"the same":            {"https://mcp.example.com/mcp", "https://mcp.example.com/mcp", true},
		"another path":        {"https://mcp.example.com/mcp", "https://mcp.example.com/v2", true},
		"the default port":    {"https://mcp.example.com/mcp", "https://MCP.example.com:443/mcp", true},
		"IPv6":                {"http://[::1]:8080/mcp", "http://[::1]:8080/", true},
		"another host":        {"https://mcp.example.com/mcp", "https://example.com/mcp", false},
		"another port":        {"https://mcp.example.com/mcp", "https://mcp.example.com:8443/mcp", false},
		"without TLS":         {"https://mcp.example.com/mcp", "http://mcp.example.com/mcp", false},
		"with TLS":            {"http://mcp.example.com/mcp", "https://mcp.example.com/mcp", false},
		"TLS on another port": {"http://mcp.example.com:443/mcp", "https://mcp.example.com/mcp", false},
		"no URL at all":       {"http://%zz", "https://mcp.example.com/mcp", false},
	} {
		t.Run(name, func(t *testing.T) {
			header, err := sent(t, auth.NewCredential("s3cr3t"), c.backend, c.request)
			if c.ok && (err != nil || header.Get("Authorization") != "s3cr3t") {
				t.Errorf("sent %v, %v", header, err)
			}
			var origin *auth.OriginError
			if !c.ok && (header != nil || !errors.As(err, &origin)) {
				t.Errorf("sent %v, %v; want nothing", header, err)
			}
		})
	}
}

func TestTransport_SendsNothingWithoutACredential(t *testing.T) {
	header, err := sent(t, auth.Credential{}, "http://mcp.example.com", "http://mcp.example.com/mcp")
	if header != nil || err == nil {
		t.Errorf("sent %v, %v; want nothing", header, err)
	}
}

// Nothing that is made of a credential, or of what holds one, tells it.
func TestCredential_IsNotPrinted(t *testing.T) {
	c := auth.NewCredential("Bearer s3cr3t-value")
	hidden := struct{ credential auth.Credential }{c}
	encoded, err := json.Marshal(map[string]any{"credential": c})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("hello", "credential", c, "hidden", hidden)
	slog.New(slog.NewTextHandler(&log, nil)).Info("hello", "credential", c, "hidden", hidden)
	for _, text := range []string{
		fmt.Sprint(c), fmt.Sprintf("%v %+v %#v %s %q %x", c, c, c, c, c, c),
		fmt.Sprintf("%v %+v %#v", hidden, hidden, hidden), fmt.Sprintf("%v %+v %#v", &hidden, &hidden, &hidden), string(encoded), log.String(),
	} {
		if strings.Contains(text, "s3cr3t") || strings.Contains(text, fmt.Sprintf("%x", "s3cr3t")) {
			t.Errorf("printed as %s", text)
		}
	}
	if c != auth.NewCredential("Bearer s3cr3t-value") || c == auth.NewCredential("Bearer another") {
		t.Error("credentials are compared by something else than their value")
	}
}

func TestCredential_Redact(t *testing.T) {
	for name, c := range map[string]struct{ value, text, want string }{
		"the whole value":   {"Bearer s3cr3t-value", "bad header Bearer s3cr3t-value!", "bad header [redacted]!"},
		"the token alone":   {"Bearer s3cr3t-value", "bad token s3cr3t-value", "bad token [redacted]"},
		"a short last part": {"Key one", "one of many", "one of many"},
		"no scheme":         {"s3cr3t-value", "s3cr3t-value, s3cr3t-value", "[redacted], [redacted]"},
		"nothing of it":     {"s3cr3t-value", "token expired", "token expired"},
	} {
		if got := auth.NewCredential(c.value).Redact(c.text); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if got := (auth.Credential{}).Redact("text"); got != "text" {
		t.Errorf("none: %q", got)
	}
}

func TestTransport_ClosesTheBodyOfARequestThatItRefuses(t *testing.T) {
	transport := auth.NewTransport(http.DefaultTransport, strategy, "http://mcp.example.com")
	body := &closed{Reader: strings.NewReader("{}")}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://elsewhere.example.com", body)
	if err != nil {
		t.Fatal(err)
	}
	response, err := transport.RoundTrip(request)
	if err == nil {
		_ = response.Body.Close()
	}
	if err == nil || !body.closed {
		t.Errorf("closed is %t, error %v", body.closed, err)
	}
}

type closed struct {
	io.Reader
	closed bool
}

func (c *closed) Close() error {
	c.closed = true
	return nil
}
