// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
)

// errNoCredential is a request that wants a credential while there is none. It is not sent.
var errNoCredential = errors.New("the gateway has no credentials for the backend")

// OriginError is a request that would have carried credentials to another origin (RFC 6454, section 4) than the one they are
// for, such as a redirect leads to. It is not sent.
type OriginError struct {
	// Want and Got are origins, for example https://mcp.example.com.
	Want, Got string
}

// Error implements error.
func (e *OriginError) Error() string {
	return fmt.Sprintf("%s leads to %s, which is another origin, where the credentials must not go", e.Want, e.Got)
}

// Transport puts the credentials of one strategy on every request to the origin of one backend, and sends no other. It is safe for
// concurrent use.
type Transport struct {
	base       http.RoundTripper
	strategy   Strategy
	origin     string
	credential atomic.Pointer[Credential]
}

// NewTransport makes the transport for a backend at a URL. It sends nothing before Use, nor ever if the URL is malformed.
func NewTransport(base http.RoundTripper, s Strategy, backendURL string) *Transport {
	t := &Transport{base: base, strategy: s}
	if u, err := url.Parse(backendURL); err == nil {
		t.origin = origin(u)
	}
	t.Use(Credential{})
	return t
}

// Use makes c the credential of the requests from now on.
func (t *Transport) Use(c Credential) { t.credential.Store(&c) }

// Credential is the present credential.
func (t *Transport) Credential() Credential { return *t.credential.Load() }

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if got := origin(r.URL); got != t.origin {
		return nil, refuse(r, &OriginError{Want: t.origin, Got: got})
	}
	c := t.Credential()
	if c.IsZero() {
		return nil, refuse(r, errNoCredential)
	}
	r = r.Clone(r.Context()) // a RoundTripper must not change its request, and net/http copies headers on a redirect
	r.Header.Set(t.strategy.Header.HeaderName, c.value.Value())
	return t.base.RoundTrip(r)
}

// refuse closes the body, as a RoundTripper must, and passes the error on.
func refuse(r *http.Request, err error) error {
	if r.Body != nil {
		_ = r.Body.Close() // it was not read
	}
	return err
}

// origin is scheme, host and port of a URL, with the port that a scheme implies.
func origin(u *url.URL) string {
	scheme, host, port := strings.ToLower(u.Scheme), strings.ToLower(u.Hostname()), u.Port()
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port == "" || scheme == "http" && port == "80" || scheme == "https" && port == "443" {
		return scheme + "://" + host
	}
	return scheme + "://" + host + ":" + port
}
